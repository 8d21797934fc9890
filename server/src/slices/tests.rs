//! What the keeper promises, against the memory store.

use std::time::Duration;

use anabranch_model::namespace::Retention;
use anabranch_model::{EventRecord, EventTime, NamespaceSettings, SliceState};

use crate::core::Core;
use crate::errors::{Reason, ServiceError};
use crate::settings::ServerSettings;
use crate::testing::{HOUR, NOON, Server, WEEK, event, name, seconds};
use crate::write::WriteRequest;

const DAY: i64 = 86_400;

fn any_time() -> NamespaceSettings {
    NamespaceSettings {
        accept_limit: Duration::ZERO,
        ..NamespaceSettings::default()
    }
}

async fn write(core: &Core, events: Vec<EventRecord>) -> Result<u64, ServiceError> {
    let request = WriteRequest {
        namespace: name("ns"),
        events,
        deadline: None,
    };
    core.writer
        .write_sync(request)
        .await
        .map(|outcome| outcome.written)
}

fn assert_tiled(slices: &[anabranch_model::TimeSlice]) {
    for (earlier, later) in slices.iter().zip(slices.iter().skip(1)) {
        assert!(
            earlier.interval.end <= later.interval.start,
            "{earlier:?} overlaps {later:?}"
        );
    }
}

#[tokio::test]
async fn now_and_the_next_slice_are_made_ahead_of_need() {
    let server = Server::start().await;
    server.create(NamespaceSettings::default()).await;
    server.advance(Duration::from_secs(1)).await;
    let slices = server.slices().await;
    assert_eq!(slices.len(), 2);
    assert!(slices[0].interval.contains(server.now()));
    assert_eq!(slices[0].interval.end, slices[1].interval.start);
    server.faults.take_log();
    server.advance(Duration::from_secs(60)).await;
    assert!(server.faults.take_log().is_empty(), "nothing to do, nothing done");
    server.advance(seconds(WEEK)).await;
    assert_eq!(server.slices().await.len(), 3);
}

#[tokio::test]
async fn a_slice_is_visible_only_after_its_table_is_there() {
    let server = Server::start().await;
    server.create(any_time()).await;
    server.advance(Duration::from_secs(1)).await;
    server.faults.take_log();
    let old = EventTime::from_micros(0);
    write(&server.core, vec![event("a", old, "1", "x")])
        .await
        .unwrap();
    let log = server.faults.take_log();
    assert_eq!(log, ["record ns", "create ns.data_19700101", "slice 19700101"]);
}

#[tokio::test]
async fn a_creation_that_stopped_half_way_is_finished() {
    let server = Server::start().await;
    server.create(any_time()).await;
    server.faults.tables_down(true);
    let old = EventTime::from_micros(0);
    let failed = write(&server.core, vec![event("a", old, "1", "x")])
        .await
        .unwrap_err();
    assert_eq!(failed.reason, Reason::StoreUnreachable);
    server.faults.tables_down(false);
    // Another process, with another width by now: the slice stays as it was cut.
    let next = Server::over(server.faults.clone(), NOON, ServerSettings::default()).await;
    next.core
        .admin
        .update_namespace(&name("ns"), |settings| {
            Ok(NamespaceSettings {
                seconds_per_time_slice: DAY,
                seconds_per_time_bucket: HOUR,
                ..settings.clone()
            })
        })
        .await
        .unwrap();
    next.advance(Duration::from_secs(1)).await;
    let slices = next.slices().await;
    let first = slices.first().unwrap();
    assert_eq!(first.interval.end.micros(), WEEK * 1_000_000);
    assert_eq!(first.settings.seconds_per_time_bucket, DAY);
    write(&next.core, vec![event("a", old, "1", "x")]).await.unwrap();
    assert_eq!(next.read("a").await.len(), 1);
}

#[tokio::test]
async fn two_servers_that_cut_one_time_at_once_agree() {
    for round in 0..20 {
        let one = Server::start().await;
        let settings = ServerSettings::default();
        let two = Server::over(one.faults.clone(), NOON + 3_000_000, settings).await;
        one.create(any_time()).await;
        two.core.namespaces.view(&name("ns")).await.unwrap();
        let old = EventTime::from_micros(1_000_000_000);
        let same = vec![event("a", old, "1", "x")];
        let retune = async {
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
            one.core
                .admin
                .update_namespace(&name("ns"), |settings| {
                    Ok(NamespaceSettings {
                        seconds_per_time_slice: DAY,
                        seconds_per_time_bucket: HOUR,
                        event_buckets: 7,
                        ..settings.clone()
                    })
                })
                .await
        };
        let (retuned, by_one, by_two) = tokio::join!(
            retune,
            write(&one.core, same.clone()),
            write(&two.core, same.clone())
        );
        retuned.unwrap();
        by_one.unwrap();
        by_two.unwrap();
        one.core.namespaces.refresh().await.unwrap();
        two.core.namespaces.refresh().await.unwrap();
        let slices = one.slices().await;
        assert_eq!(slices, two.slices().await);
        assert_tiled(&slices);
        assert_eq!(one.read("a").await.len(), 1, "both wrote to one partition");
        // And again after everything has settled.
        write(&two.core, same).await.unwrap();
        assert_eq!(one.read("a").await.len(), 1);
    }
}

#[tokio::test]
async fn on_a_shared_store_another_keepers_creation_is_waited_for_and_taken_over_late() {
    let settings = ServerSettings::default().shared(Duration::from_secs(5));
    let one = Server::start().await;
    one.create(any_time()).await;
    one.faults.tables_down(true);
    let old = EventTime::from_micros(0);
    write(&one.core, vec![event("a", old, "1", "x")])
        .await
        .unwrap_err();
    one.faults.tables_down(false);
    one._tasks.stopping().cancel();
    let two = Server::over(one.faults.clone(), NOON + 1, settings).await;
    let core = two.core.clone();
    let writing = two._tasks.spawn("test", async move {
        write(&core, vec![event("a", old, "1", "x")]).await
    });
    two.advance(Duration::from_secs(5)).await;
    assert!(!writing.is_finished());
    two.advance(Duration::from_secs(30)).await;
    assert!(writing.is_finished());
    assert_eq!(writing.await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn an_event_keeps_its_partition_when_settings_change() {
    let server = Server::start().await;
    server.create(any_time()).await;
    let old = EventTime::from_micros(1_000_000_000_000);
    let events: Vec<EventRecord> = (0..50).map(|n| event("a", old, &n.to_string(), "x")).collect();
    write(&server.core, events.clone()).await.unwrap();
    for (slice, bucket, event_buckets) in [(DAY, 60, 16), (0, 7_200, 5), (4 * HOUR, HOUR, 64)] {
        server
            .core
            .admin
            .update_namespace(&name("ns"), |settings| {
                Ok(NamespaceSettings {
                    seconds_per_time_slice: slice,
                    seconds_per_time_bucket: bucket,
                    event_buckets,
                    ..settings.clone()
                })
            })
            .await
            .unwrap();
        write(&server.core, events.clone()).await.unwrap();
        let far = EventTime::from_micros(slice * 1_000_000_000 + bucket);
        write(&server.core, vec![event("b", far, "1", "x")])
            .await
            .unwrap();
        assert_tiled(&server.slices().await);
    }
    assert_eq!(server.read("a").await.len(), 50);
}

#[tokio::test]
async fn retention_closes_then_waits_then_drops_and_the_time_stays_taken() {
    let server = Server::start().await;
    server
        .create(NamespaceSettings {
            seconds_per_time_slice: DAY,
            retention: Retention {
                close_after: Some(seconds(DAY)),
                delete_after: Some(seconds(DAY) + Duration::from_secs(1)),
            },
            ..any_time()
        })
        .await;
    let then = server.now();
    write(&server.core, vec![event("a", then, "1", "x")])
        .await
        .unwrap();
    server.advance(Duration::from_secs(1)).await;
    server.faults.take_log();
    let (day, closing) = ("20260328", seconds(DAY + 12 * HOUR));
    server.advance(closing).await;
    let slice = server.slices().await.remove(0);
    assert_eq!((slice.name.as_str(), slice.state), (day, SliceState::Closed));
    let error = write(&server.core, vec![event("a", then, "2", "x")])
        .await
        .unwrap_err();
    assert_eq!(error.reason, Reason::TimeSliceClosed);
    assert!(
        !server
            .faults
            .take_log()
            .iter()
            .any(|line| line.starts_with("drop"))
    );
    // Past delete_after, but whoever had it open may still be reading.
    server.advance(Duration::from_secs(5)).await;
    assert!(
        !server
            .faults
            .take_log()
            .iter()
            .any(|line| line.starts_with("drop"))
    );
    server.advance(Duration::from_secs(30)).await;
    let log = server.faults.take_log();
    let dropped = log
        .iter()
        .position(|line| *line == format!("drop ns.data_{day}"))
        .unwrap();
    let said = log
        .iter()
        .position(|line| *line == format!("slice {day}"))
        .unwrap();
    assert!(dropped < said, "{log:?}");
    assert_eq!(server.slices().await.remove(0).state, SliceState::Dropped);
    let error = write(&server.core, vec![event("a", then, "2", "x")])
        .await
        .unwrap_err();
    assert_eq!(error.reason, Reason::TimeSliceClosed);
    server.advance(Duration::from_secs(60)).await;
    assert!(server.faults.take_log().is_empty(), "once is enough");
}

#[tokio::test]
async fn a_seal_cuts_slices_where_it_says_and_never_moves_back() {
    let server = Server::start().await;
    server.create(any_time()).await;
    let now = server.now();
    let ago = |weeks: i64| now.saturating_sub(seconds(weeks * WEEK));
    let events = (0..4).map(|week| event("a", ago(week), "1", "x")).collect();
    write(&server.core, events).await.unwrap();
    let admin = &server.core.admin;
    let sealed = admin.seal_time_slices(&name("ns"), Some(ago(1))).await.unwrap();
    assert_eq!(sealed.len(), 3);
    assert_eq!(sealed[0].sealed_before, Some(sealed[0].interval.end));
    assert_eq!(sealed[2].sealed_before, Some(ago(1)));
    assert_eq!(
        admin
            .seal_time_slices(&name("ns"), Some(ago(3)))
            .await
            .unwrap()
            .len(),
        1
    );
    let info = admin.get_namespace(&name("ns")).await.unwrap();
    assert_eq!(info.sealed_before, Some(ago(1)));
    let error = write(&server.core, vec![event("a", ago(2), "2", "x")])
        .await
        .unwrap_err();
    assert_eq!(error.reason, Reason::TimeSliceSealed);
    assert_eq!(error.metadata["sealedBefore"], ago(1).to_string());
    write(&server.core, vec![event("a", ago(1), "2", "x")])
        .await
        .unwrap();
}

#[tokio::test]
async fn an_unseal_raises_epochs_before_it_is_stored() {
    let server = Server::start().await;
    server.create(any_time()).await;
    let now = server.now();
    let ago = |weeks: i64| now.saturating_sub(seconds(weeks * WEEK));
    let events = (0..4).map(|week| event("a", ago(week), "1", "x")).collect();
    write(&server.core, events).await.unwrap();
    let admin = &server.core.admin;
    admin.seal_time_slices(&name("ns"), Some(ago(0))).await.unwrap();
    server.faults.take_log();
    let opened = admin.unseal_time_slices(&name("ns"), Some(ago(2))).await.unwrap();
    let log = server.faults.take_log();
    assert_eq!(opened.len(), 3);
    assert!(opened.iter().all(|slice| slice.epoch == 1));
    // Epochs, the setting, and only then what was frozen is given back.
    assert_eq!(log.len(), 7);
    let stored = log.iter().position(|line| line == "record ns");
    assert_eq!(stored, Some(3), "{log:?}");
    assert_eq!(opened[0].sealed_before, Some(ago(2)));
    let error = write(&server.core, vec![event("a", ago(3), "2", "x")])
        .await
        .unwrap_err();
    assert_eq!(error.reason, Reason::TimeSliceSealed);
    write(&server.core, vec![event("a", ago(2), "2", "x")])
        .await
        .unwrap();
    assert_eq!(
        admin.unseal_time_slices(&name("ns"), None).await.unwrap().len(),
        2
    );
    assert!(
        admin
            .unseal_time_slices(&name("ns"), None)
            .await
            .unwrap()
            .is_empty()
    );
    write(&server.core, vec![event("a", ago(3), "2", "x")])
        .await
        .unwrap();
}

#[tokio::test]
async fn a_raised_accept_limit_raises_epochs_before_it_is_stored() {
    let server = Server::start().await;
    server.create(NamespaceSettings::default()).await;
    server.advance(Duration::from_secs(1)).await;
    let admin = &server.core.admin;
    let limit = |seconds: u64| {
        move |settings: &NamespaceSettings| {
            Ok(NamespaceSettings {
                accept_limit: Duration::from_secs(seconds),
                ..settings.clone()
            })
        }
    };
    server.faults.take_log();
    admin.update_namespace(&name("ns"), limit(60)).await.unwrap();
    assert_eq!(server.faults.take_log(), ["record ns"], "lowering opens nothing");
    admin.update_namespace(&name("ns"), limit(3_600)).await.unwrap();
    assert_eq!(
        server.faults.take_log(),
        ["slice 20260326", "record ns", "slice 20260326"]
    );
    admin.update_namespace(&name("ns"), limit(0)).await.unwrap();
    assert_eq!(
        server.faults.take_log(),
        ["slice 20260326", "record ns", "slice 20260326"]
    );
    assert_eq!(server.slices().await[0].epoch, 2);
    assert_eq!(
        server.slices().await[1].epoch,
        0,
        "the future was never immutable"
    );
}

#[tokio::test]
async fn a_namespace_made_again_starts_empty() {
    let server = Server::start().await;
    server.create(NamespaceSettings::default()).await;
    let now = server.now();
    write(&server.core, vec![event("a", now, "1", "x")])
        .await
        .unwrap();
    let id = anabranch_model::TimeSeriesId::new("noisy").unwrap();
    let admin = &server.core.admin;
    admin
        .block_time_series_ids(&name("ns"), &[id], "floods")
        .await
        .unwrap();
    admin.seal_time_slices(&name("ns"), Some(now)).await.unwrap();
    admin.delete_namespace(&name("ns")).await.unwrap();
    assert!(server.faults.store.namespaces().is_empty());
    let error = write(&server.core, vec![event("a", now, "1", "x")])
        .await
        .unwrap_err();
    assert_eq!(error.reason, Reason::NamespaceNotFound);
    let again = admin.delete_namespace(&name("ns")).await.unwrap_err();
    assert_eq!(again.reason, Reason::NamespaceNotFound);

    let settings = NamespaceSettings {
        event_buckets: 8,
        ..NamespaceSettings::default()
    };
    server.create(settings).await;
    let view = server.core.namespaces.view(&name("ns")).await.unwrap();
    assert!(view.blocked.is_empty());
    assert_eq!(view.sealed_before, None);
    assert_eq!(view.slices[0].settings.event_buckets, 8);
    assert!(server.read("a").await.is_empty());
    write(&server.core, vec![event("noisy", now, "1", "x")])
        .await
        .unwrap();
    assert_eq!(server.read("noisy").await.len(), 1);
}

#[tokio::test]
async fn an_interrupted_deletion_is_finished_at_start() {
    let server = Server::start().await;
    server.create(NamespaceSettings::default()).await;
    let loaded = server.core.namespaces.reload(&name("ns")).await.unwrap().unwrap();
    server._tasks.stopping().cancel();
    let now = server.now();
    server
        .core
        .namespaces
        .store_change(&loaded, |record| {
            record.deleting_since = Some(now);
            Ok(())
        })
        .await
        .unwrap();
    let next = Server::over(server.faults.clone(), NOON, ServerSettings::default()).await;
    let error = next.core.namespaces.view(&name("ns")).await.unwrap_err();
    assert_eq!(error.reason, Reason::NamespaceNotFound);
    next.advance(Duration::from_secs(1)).await;
    assert!(next.faults.store.namespaces().is_empty());
    next.create(NamespaceSettings::default()).await;
}

#[tokio::test]
async fn a_namespace_can_not_have_slices_without_end() {
    let mut settings = ServerSettings::default();
    settings.slices.slices_max = 10;
    let server = Server::over(Default::default(), NOON, settings).await;
    server.create(any_time()).await;
    let events = (0..20).map(|n| event("a", EventTime::from_micros(n * WEEK * 1_000_000), "1", "x"));
    let error = write(&server.core, events.collect()).await.unwrap_err();
    assert_eq!(error.reason, Reason::TooManyTimeSlices);
    assert!(server.slices().await.len() <= 2);
}
