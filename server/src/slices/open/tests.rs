//! What an opening promises, against the memory store.

use std::sync::Arc;

use anabranch_catalog::{FreezeOutcome, SliceRecord, freeze as freeze_elsewhere};
use anabranch_model::NamespaceSettings;
use tokio::task::JoinHandle;

use super::*;
use crate::settings::ServerSettings;
use crate::slices::testing::{any_time, current, freeze, frozen, limit, write_at};
use crate::testing::{NOON, Server, name, seconds};

const SETTLE: Duration = Duration::from_secs(20);

async fn shared() -> Server {
    let settings = ServerSettings {
        deadline_max: Duration::from_secs(5),
        ..ServerSettings::default()
    };
    let settings = settings.shared(Duration::from_secs(5));
    assert_eq!(settings.slices.settle, SETTLE);
    Server::over(Arc::default(), NOON, settings).await
}

fn raised(seconds: u64) -> impl Fn(&NamespaceSettings) -> Result<NamespaceSettings, ServiceError> {
    move |settings| {
        Ok(NamespaceSettings {
            accept_limit: Duration::from_secs(seconds),
            ..settings.clone()
        })
    }
}

/// Seals everything up to now and freezes the slice that holds it.
async fn seal_and_freeze(server: &Server) -> EventTime {
    let now = server.now();
    let admin = &server.core.admin;
    admin.seal_time_slices(&name("ns"), Some(now)).await.unwrap();
    assert_eq!(frozen(freeze(server, now).await).before, now);
    now
}

async fn unseal(server: &Server) -> Result<(), ServiceError> {
    let admin = &server.core.admin;
    admin.unseal_time_slices(&name("ns"), None).await.map(|_| ())
}

fn spawn_unseal(server: &Server) -> JoinHandle<Result<(), ServiceError>> {
    let core = server.core.clone();
    server._tasks.spawn("test", async move {
        let admin = &core.admin;
        admin.unseal_time_slices(&name("ns"), None).await.map(|_| ())
    })
}

/// Changes the current slice's record as another process would.
async fn change_current(server: &Server, change: impl FnMut(&mut SliceRecord) + Send) {
    let slice = current(server).await.name;
    change_slice(&*server.faults.store, &name("ns"), &slice, 1, change)
        .await
        .unwrap();
    server.core.namespaces.refresh().await.unwrap();
}

#[tokio::test]
async fn a_raised_limit_gives_back_what_was_frozen_and_keeps_the_rest() {
    let server = Server::start().await;
    server.create(limit(600)).await;
    let now = server.now();
    freeze(&server, now).await;
    server.faults.take_log();
    let admin = &server.core.admin;
    admin.update_namespace(&name("ns"), raised(3_600)).await.unwrap();
    assert_eq!(
        server.faults.take_log(),
        ["slice 20260326", "record ns", "slice 20260326"]
    );
    let slice = current(&server).await;
    assert_eq!((slice.epoch, slice.opening_since), (1, None));
    assert_eq!(slice.frozen_before, Some(now.saturating_sub(seconds(3_660))));
    write_at(&server, now.saturating_sub(seconds(3_600)), "1")
        .await
        .unwrap();
    // And once more, to any time.
    admin.update_namespace(&name("ns"), raised(0)).await.unwrap();
    let slice = current(&server).await;
    assert_eq!((slice.epoch, slice.frozen_before), (2, None));
    write_at(&server, slice.interval.start, "2").await.unwrap();
}

#[tokio::test]
async fn on_a_shared_store_the_new_epoch_is_known_everywhere_before_anything_is_written() {
    let one = shared().await;
    let settings = ServerSettings::default().shared(Duration::from_secs(5));
    let two = Server::over(one.faults.clone(), NOON, settings).await;
    one.create(any_time()).await;
    let now = seal_and_freeze(&one).await;
    let older = now.saturating_sub(seconds(60));
    let unsealing = spawn_unseal(&one);
    one.settle().await;
    // Step 1 is stored, and everything still refuses.
    let slice = current(&one).await;
    assert_eq!((slice.epoch, slice.frozen_before), (1, Some(now)));
    assert!(slice.opening_since.is_some());
    assert_eq!(freeze(&one, now).await, FreezeOutcome::Opening);
    two.advance(Duration::from_secs(1)).await;
    assert_eq!(current(&two).await.epoch, 1);
    for server in [&one, &two] {
        let error = write_at(server, older, "1").await.unwrap_err();
        assert_eq!(error.reason, Reason::TimeSliceSealed);
    }
    one.advance(SETTLE - Duration::from_millis(1)).await;
    assert!(!unsealing.is_finished());
    write_at(&one, older, "1").await.unwrap_err();
    one.advance(Duration::from_millis(1)).await;
    unsealing.await.unwrap().unwrap();
    write_at(&one, older, "1").await.unwrap();
    let slice = current(&one).await;
    assert_eq!((slice.frozen_before, slice.opening_since), (None, None));
    two.advance(Duration::from_secs(1)).await;
    write_at(&two, older, "2").await.unwrap();
}

#[tokio::test]
async fn nothing_is_waited_for_when_nothing_was_frozen() {
    let server = shared().await;
    server.create(any_time()).await;
    let now = server.now();
    let admin = &server.core.admin;
    admin.seal_time_slices(&name("ns"), Some(now)).await.unwrap();
    unseal(&server).await.unwrap();
    assert_eq!(current(&server).await.epoch, 1);
}

#[tokio::test]
async fn a_caller_that_gives_up_does_not_leave_it_half_way() {
    let server = shared().await;
    server.create(any_time()).await;
    let now = seal_and_freeze(&server).await;
    let unsealing = spawn_unseal(&server);
    server.settle().await;
    unsealing.abort();
    server.advance(SETTLE).await;
    write_at(&server, now.saturating_sub(seconds(1)), "1")
        .await
        .unwrap();
}

#[tokio::test]
async fn an_opening_that_meets_another_change_is_taken_back() {
    let server = shared().await;
    server.create(any_time()).await;
    let now = seal_and_freeze(&server).await;
    let unsealing = spawn_unseal(&server);
    server.settle().await;
    let admin = &server.core.admin;
    let buckets = |settings: &NamespaceSettings| {
        Ok(NamespaceSettings {
            event_buckets: 9,
            ..settings.clone()
        })
    };
    admin.update_namespace(&name("ns"), buckets).await.unwrap();
    server.advance(SETTLE).await;
    let error = unsealing.await.unwrap().unwrap_err();
    assert_eq!(error.reason, Reason::NamespaceChanged);
    server.core.namespaces.refresh().await.unwrap();
    let slice = current(&server).await;
    assert_eq!((slice.frozen_before, slice.opening_since), (Some(now), None));
    assert_eq!(frozen(freeze(&server, now).await).epoch, 1);
}

#[tokio::test]
async fn an_opening_that_was_taken_for_dead_marks_and_waits_again() {
    let server = shared().await;
    server.create(any_time()).await;
    let now = seal_and_freeze(&server).await;
    let unsealing = spawn_unseal(&server);
    server.settle().await;
    // Somebody's keeper ended it, and what is frozen is split again: under the epoch that it had begun.
    change_current(&server, |record| record.slice.opening_since = None).await;
    server.advance(SETTLE).await;
    assert!(!unsealing.is_finished());
    let slice = current(&server).await;
    assert_eq!((slice.epoch, slice.frozen_before), (2, Some(now)));
    let error = write_at(&server, now.saturating_sub(seconds(1)), "1")
        .await
        .unwrap_err();
    assert_eq!(error.metadata["frozenBefore"], now.to_string());
    server.advance(SETTLE).await;
    unsealing.await.unwrap().unwrap();
    write_at(&server, now.saturating_sub(seconds(1)), "1")
        .await
        .unwrap();
}

#[tokio::test]
async fn an_interrupted_opening_is_ended_by_what_is_justified_then() {
    for setting_stored in [false, true] {
        let server = Server::start().await;
        server.create(any_time()).await;
        let now = seal_and_freeze(&server).await;
        let loaded = server.core.namespaces.reload(&name("ns")).await.unwrap().unwrap();
        change_current(&server, |record| {
            record.slice.epoch += 1;
            record.slice.opening_since = Some(now);
        })
        .await;
        if setting_stored {
            let namespaces = &server.core.namespaces;
            namespaces
                .store_change(&loaded, |record| {
                    record.sealed_before = None;
                    Ok(())
                })
                .await
                .unwrap();
        }
        server.advance(Duration::from_secs(59)).await;
        assert!(current(&server).await.opening_since.is_some());
        server.advance(Duration::from_secs(1)).await;
        server.advance(Duration::from_secs(1)).await;
        let slice = current(&server).await;
        assert_eq!((slice.epoch, slice.opening_since), (1, None));
        assert_eq!(slice.frozen_before, (!setting_stored).then_some(now));
    }
}

#[tokio::test]
async fn on_a_shared_store_an_opening_is_interrupted_when_it_was_seen_for_long_enough() {
    let server = shared().await;
    server.create(any_time()).await;
    let now = seal_and_freeze(&server).await;
    // By the clock of whoever began it, that was long ago.
    change_current(&server, |record| {
        record.slice.epoch += 1;
        record.slice.opening_since = Some(now.saturating_sub(seconds(86_400)));
    })
    .await;
    server.advance(Duration::from_secs(1)).await;
    server.advance(2 * SETTLE - Duration::from_secs(1)).await;
    assert!(current(&server).await.opening_since.is_some());
    server.advance(Duration::from_secs(1)).await;
    let slice = current(&server).await;
    assert_eq!((slice.opening_since, slice.frozen_before), (None, Some(now)));
}

#[tokio::test]
async fn stopped_anywhere_an_opening_can_be_made_again() {
    for changes in 0..=7 {
        let server = Server::start().await;
        server.create(any_time()).await;
        let now = server.now();
        let ago = |days: i64| now.saturating_sub(seconds(days * 86_400));
        for (event_id, days) in [("1", 0), ("2", 10), ("3", 20)] {
            write_at(&server, ago(days), event_id).await.unwrap();
        }
        server.advance(Duration::from_secs(1)).await;
        let now = seal_and_freeze(&server).await;
        server.faults.changes_left(Some(changes));
        let interrupted = unseal(&server).await;
        assert_eq!(interrupted.is_ok(), changes == 7, "{changes} changes");
        server._tasks.stopping().cancel();
        server.settle().await;
        server.faults.changes_left(None);
        let next = Server::over(server.faults.clone(), now.micros(), ServerSettings::default()).await;
        // Before anybody ends it, it is safe: what is frozen refuses.
        if current(&next).await.frozen_before == Some(now) {
            write_at(&next, now.saturating_sub(seconds(1)), "4")
                .await
                .unwrap_err();
        }
        next.advance(Duration::from_secs(61)).await;
        next.advance(Duration::from_secs(1)).await;
        let slices = next.slices().await;
        assert!(slices.iter().all(|slice| slice.opening_since.is_none()));
        unseal(&next).await.unwrap();
        write_at(&next, now.saturating_sub(seconds(1)), "4")
            .await
            .unwrap();
        write_at(&next, ago(20), "4").await.unwrap();
    }
}

#[tokio::test]
async fn two_openings_at_once_leave_nothing_half_open() {
    for round in 0..20 {
        let server = Server::start().await;
        server.create(limit(600)).await;
        let now = server.now();
        freeze(&server, now).await;
        let admin = &server.core.admin;
        let later = async {
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
            admin.update_namespace(&name("ns"), raised(7_200)).await
        };
        let ns = name("ns");
        let (one, two) = tokio::join!(admin.update_namespace(&ns, raised(3_600)), later);
        assert!(one.is_ok() || two.is_ok());
        let limit = [one, two]
            .into_iter()
            .flatten()
            .map(|info| info.settings.accept_limit)
            .max()
            .unwrap();
        server.core.namespaces.refresh().await.unwrap();
        let slice = current(&server).await;
        assert_eq!(slice.opening_since, None, "round {round}");
        write_at(&server, now.saturating_sub(limit), "1").await.unwrap();
    }
}

#[tokio::test]
async fn what_a_wrong_clock_froze_is_given_back_by_an_unseal() {
    let server = Server::start().await;
    server.create(limit(600)).await;
    let (now, slice) = (server.now(), current(&server).await.name);
    let ahead = now.saturating_add(seconds(86_400));
    let outcome = freeze_elsewhere(&*server.faults.store, &name("ns"), &slice, ahead, ahead).await;
    assert!(frozen(outcome.unwrap()).before > now);
    server.core.namespaces.refresh().await.unwrap();
    write_at(&server, now, "1").await.unwrap_err();
    unseal(&server).await.unwrap();
    write_at(&server, now, "1").await.unwrap();
    assert_eq!(current(&server).await.epoch, 1);
    server.faults.take_log();
    unseal(&server).await.unwrap();
    assert!(server.faults.take_log().is_empty(), "once is enough");
}
