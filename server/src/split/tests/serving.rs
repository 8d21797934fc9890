//! What is served from targets, what is not, and what becomes of damage.

use std::time::Duration;

use anabranch_model::namespace::Rollout;
use anabranch_model::query::AggregationKind;
use anabranch_model::{Consistency, Direction, NamespaceSettings, TimeInterval};
use anabranch_split::{Basis, SplitReason, SplitState};
use anabranch_storage::{EventStore, TableKind};

use super::support::{Cut, Split, seconds_of, time, whole};
use crate::context::{PartialReason, ResponseContext, ServedFrom};
use crate::read::request::{AggregateRequest, AggregatedValue, Latency, Paging};
use crate::settings::ServerSettings;
use crate::split::{FilterAnswer, OriginalReason};
use crate::testing::{event, seconds};
use crate::write::WriteRequest;

const DIRECTIONS: [Direction; 2] = [Direction::Ascending, Direction::Descending];

#[tokio::test]
async fn a_split_partition_is_read_from_its_targets_and_says_so() {
    let world = Split::start(Rollout::Serve, 1).await;
    let events = seconds_of("a", 100);
    world.write(&events).await;
    world.write(&seconds_of("b", 10)).await;
    let partition = world.partition("a").await;
    world.splits().refresh_now().await;
    let page = world.page(&world.request("a", Direction::Ascending, 0)).await;
    assert_eq!(page.context.served_from, Some(ServedFrom::Original));
    assert_eq!(page.context.split_filter, Some(FilterAnswer::Miss));

    assert!(world.split(&partition, whole(30)).await);
    let page = world.page(&world.request("a", Direction::Ascending, 0)).await;
    assert_eq!(page.records, events);
    assert_eq!(page.context.served_from, Some(ServedFrom::Targets));
    assert_eq!(page.context.split_filter, Some(FilterAnswer::Hit));
    assert_eq!(page.context.split_generation, 2);
    assert_eq!(world.splits().metrics().targets(), 1);
    let page = world.page(&world.request("b", Direction::Ascending, 0)).await;
    assert_eq!(page.context.served_from, Some(ServedFrom::Original));

    // A prefix, and the tail that still grows.
    let prefix = Cut {
        events: 30,
        boundary: time(70_000_000),
        extended_from: Some(time(40_000_000)),
    };
    assert!(world.split(&partition, prefix).await);
    for direction in DIRECTIONS {
        let page = world.page(&world.request("a", direction, 0)).await;
        assert_eq!(page.records.len(), 100);
        assert_eq!(page.context.served_from, Some(ServedFrom::Mixed));
        assert_eq!(page.context.split_generation, 4);
    }
    // Bounds that do not reach the tail, and those that reach only one target.
    let mut request = world.request("a", Direction::Ascending, 0);
    request.interval = TimeInterval {
        start: time(42_000_000),
        end: time(60_000_000),
    };
    let page = world.page(&request).await;
    assert_eq!(page.records, events[42..60]);
    assert_eq!(page.context.served_from, Some(ServedFrom::Targets));
    assert_eq!(page.context.partitions_read, 1);
    let none = world
        .page(&world.request("nobody", Direction::Ascending, 0))
        .await;
    assert_eq!(
        (none.context.served_from, none.context.split_filter),
        (None, None)
    );
}

#[tokio::test]
async fn originals_are_asked_as_the_namespace_says_and_targets_as_the_store_does() {
    for (rollout, original) in [(Rollout::Serve, "LOCAL_ONE"), (Rollout::Compare, "LOCAL_QUORUM")] {
        let world = Split::start(rollout, 1).await;
        let content = |settings: &NamespaceSettings| {
            Ok(NamespaceSettings {
                write_consistency: Consistency::EachQuorum,
                read_consistency: Consistency::LocalOne,
                ..settings.clone()
            })
        };
        world.0.core.keeper.update(&world.0.ns(), content).await.unwrap();
        world.write(&seconds_of("a", 100)).await;
        let partition = world.partition("a").await;
        let prefix = Cut {
            events: 30,
            boundary: time(70_000_000),
            extended_from: None,
        };
        assert!(world.split(&partition, prefix).await);
        world.0.faults.take_asked();
        let page = world.page(&world.request("a", Direction::Ascending, 0)).await;
        assert_eq!(page.records.len(), 100);
        world.0.settle().await;
        let expected = [("scan a target", "LOCAL_QUORUM"), ("scan an original", original)];
        assert_eq!(world.0.faults.take_asked(), expected.into(), "{rollout:?}");
        let request = WriteRequest {
            namespace: world.0.ns(),
            events: vec![event("b", world.0.now(), "e", "value")],
            deadline: None,
        };
        world.0.core.writer.write_sync(request).await.unwrap();
        assert_eq!(world.0.faults.take_asked(), [("append", "EACH_QUORUM")].into());
    }
}

#[tokio::test]
async fn other_rollouts_read_originals() {
    let world = Split::start(Rollout::Split, 1).await;
    world.write(&seconds_of("a", 50)).await;
    let partition = world.partition("a").await;
    world.split(&partition, whole(10)).await;
    let page = world.page(&world.request("a", Direction::Descending, 0)).await;
    assert_eq!(page.context.served_from, Some(ServedFrom::Original));
    assert_eq!(page.context.split_filter, Some(FilterAnswer::Off));
    assert_eq!(world.originals(OriginalReason::Rollout), 1);
    world.rollout(Rollout::Serve).await;
    let page = world.page(&world.request("a", Direction::Descending, 0)).await;
    assert_eq!(page.context.served_from, Some(ServedFrom::Targets));
}

#[tokio::test]
async fn a_split_of_another_epoch_or_incarnation_is_not_served() {
    let world = Split::start(Rollout::Serve, 1).await;
    world.write(&seconds_of("a", 50)).await;
    let partition = world.partition("a").await;
    let basis = world.basis().await;
    let others = [
        Basis {
            epoch: basis.epoch + 1,
            ..basis
        },
        Basis {
            incarnation: basis.incarnation + 1,
            ..basis
        },
    ];
    for (n, other) in others.into_iter().enumerate() {
        world.split_on(&partition, whole(10), other).await;
        let page = world.page(&world.request("a", Direction::Descending, 0)).await;
        assert_eq!(page.records.len(), 50);
        assert_eq!(page.context.served_from, Some(ServedFrom::Original));
        assert_eq!(world.originals(OriginalReason::Epoch), n as u64 + 1);
    }
    // Unsealing gives the slice a new epoch; what rested on the old one is not served from then on.
    world.split_on(&partition, whole(10), basis).await;
    let request = world.request("a", Direction::Descending, 0);
    assert_eq!(
        world.page(&request).await.context.served_from,
        Some(ServedFrom::Targets)
    );
    let keeper = &world.0.core.keeper;
    keeper.seal(&world.0.ns(), Some(time(5_000_000))).await.unwrap();
    assert_eq!(
        world.page(&request).await.context.served_from,
        Some(ServedFrom::Targets)
    );
    keeper.unseal(&world.0.ns(), None).await.unwrap();
    assert_eq!(
        world.page(&request).await.context.served_from,
        Some(ServedFrom::Original)
    );
}

#[tokio::test]
async fn a_record_that_can_not_be_read_sends_reads_to_the_original_and_is_counted() {
    let world = Split::start(Rollout::Serve, 1).await;
    for id in ["a", "b", "c"] {
        world.write(&seconds_of(id, 50)).await;
        let partition = world.partition(id).await;
        world.split(&partition, whole(10)).await;
        let page = world.page(&world.request(id, Direction::Descending, 0)).await;
        assert_eq!(page.context.served_from, Some(ServedFrom::Targets));
    }
    let others = [
        (
            "a",
            r#"{"v2":{"serving":{"tier":"cold"}}}"#,
            OriginalReason::RecordNewer,
        ),
        ("b", "{\"v1\":", OriginalReason::RecordDamaged),
    ];
    for (id, bytes, _) in others {
        let partition = world.partition(id).await;
        world.0.put_split(&partition, bytes).await;
        world.splits().forget(&world.0.ns(), &partition).await;
    }
    // The filter is brought up to date, and made anew, past them.
    world.splits().refresh_now().await;
    for rebuilt in [false, true] {
        if rebuilt {
            world.0.advance(seconds(400)).await;
            world.splits().refresh_now().await;
        }
        for (id, bytes, reason) in others {
            let before = world.originals(reason);
            for direction in DIRECTIONS {
                let (events, contexts) = world.walk(&world.request(id, direction, 20)).await;
                assert_eq!(events.len(), 50);
                let original = |context: &ResponseContext| context.served_from == Some(ServedFrom::Original);
                assert!(contexts.iter().all(original));
            }
            assert_eq!(world.originals(reason), before + 6, "of 6 pages");
            let partition = world.partition(id).await;
            assert_eq!(world.0.split_bytes(&partition).await, bytes);
        }
        let page = world.page(&world.request("c", Direction::Descending, 0)).await;
        assert_eq!(page.context.served_from, Some(ServedFrom::Targets));
    }
    assert_eq!(world.splits().metrics().filter_failures.get(), 0);
}

#[tokio::test]
async fn a_server_that_may_not_divert_reads_originals_and_says_so() {
    let mut settings = ServerSettings::default();
    settings.splits.divert = false;
    let world = Split::start_with(Rollout::Serve, 1, settings).await;
    let events = seconds_of("a", 100);
    world.write(&events).await;
    let partition = world.partition("a").await;
    assert!(world.split(&partition, whole(30)).await);
    world.0.faults.wide_down(true);
    let page = world.page(&world.request("a", Direction::Ascending, 0)).await;
    assert_eq!(page.records, events);
    assert_eq!(page.context.served_from, Some(ServedFrom::Original));
    assert_eq!(page.context.split_filter, Some(FilterAnswer::Off));
}

#[tokio::test]
async fn settings_that_are_too_old_serve_no_split() {
    let world = Split::start(Rollout::Serve, 1).await;
    world.write(&seconds_of("a", 50)).await;
    let partition = world.partition("a").await;
    world.split(&partition, whole(10)).await;
    let request = world.request("a", Direction::Descending, 0);
    world.page(&request).await;
    world.0.faults.records_down(true);
    world.0.advance(seconds(11)).await;
    let page = world.page(&request).await;
    assert_eq!(page.records.len(), 50, "R3: it costs time, not events");
    assert_eq!(page.context.served_from, Some(ServedFrom::Original));
    assert_eq!(world.originals(OriginalReason::StaleSettings), 1);
    world.0.faults.records_down(false);
    world.0.advance(seconds(2)).await;
    assert_eq!(
        world.page(&request).await.context.served_from,
        Some(ServedFrom::Targets)
    );
}

#[tokio::test]
async fn a_record_that_can_not_be_read_or_says_no_means_the_original() {
    let world = Split::start(Rollout::Serve, 1).await;
    world.write(&seconds_of("a", 50)).await;
    let partition = world.partition("a").await;
    world.split(&partition, whole(10)).await;
    let request = world.request("a", Direction::Descending, 0);
    world.0.faults.records_down(true);
    let page = world.page(&request).await;
    assert_eq!(page.records.len(), 50);
    assert_eq!(world.originals(OriginalReason::RecordError), 1);
    world.0.faults.records_down(false);
    assert_eq!(
        world.page(&request).await.context.served_from,
        Some(ServedFrom::Targets)
    );
    // The filter still says yes; the record is believed for a while, then looked up.
    world.invalidate(&partition).await;
    assert_eq!(
        world.page(&request).await.context.served_from,
        Some(ServedFrom::Targets)
    );
    world.splits().forget(&world.0.ns(), &partition).await;
    assert_eq!(
        world.page(&request).await.context.served_from,
        Some(ServedFrom::Original)
    );
    assert_eq!(world.originals(OriginalReason::FalseHit), 1);
    world.splits().refresh_now().await;
    assert_eq!(
        world.page(&request).await.context.split_filter,
        Some(FilterAnswer::Miss)
    );
}

#[tokio::test]
async fn a_cached_record_is_looked_up_again_after_its_time() {
    let world = Split::start(Rollout::Serve, 1).await;
    world.write(&seconds_of("a", 50)).await;
    let partition = world.partition("a").await;
    world.split(&partition, whole(10)).await;
    let request = world.request("a", Direction::Descending, 0);
    world.page(&request).await;
    world.invalidate(&partition).await;
    for _ in 0..10 {
        world.0.advance(seconds(1)).await;
    }
    assert_eq!(
        world.page(&request).await.context.served_from,
        Some(ServedFrom::Original)
    );
}

/// What is done to the targets.
#[derive(Clone, Copy, Debug)]
enum Harm {
    NoTable,
    RowGone,
    RowMore,
    StoreFails,
}

#[tokio::test]
async fn targets_in_trouble_are_passed_over_and_counted_and_damaged_ones_invalidated() {
    for harm in [Harm::NoTable, Harm::RowGone, Harm::RowMore, Harm::StoreFails] {
        for direction in DIRECTIONS {
            let world = Split::start(Rollout::Serve, 1).await;
            let mut events = seconds_of("a", 100);
            world.write(&events).await;
            let partition = world.partition("a").await;
            let cut = Cut {
                boundary: time(80_000_000),
                ..whole(30)
            };
            world.split(&partition, cut).await;
            let mut held = world.target_events(&partition, 1).await;
            match harm {
                Harm::NoTable => {
                    let table = world.table(TableKind::Wide).await;
                    world.0.faults.store.drop_table(&table).await.unwrap();
                }
                Harm::RowGone => {
                    held[7].items.pop();
                    world.damage(&partition, 1, held).await;
                }
                Harm::RowMore => {
                    let mut more = held[7].clone();
                    more.key.time = time(more.key.time.micros() + 1);
                    held.push(more);
                    world.damage(&partition, 1, held).await;
                }
                Harm::StoreFails => world.0.faults.wide_down(true),
            }
            let request = world.request("a", direction, 0);
            let page = world.page(&request).await;
            if direction == Direction::Descending {
                events.reverse();
            }
            assert_eq!(page.records, events, "{harm:?} {direction:?}");
            assert_eq!(page.context.served_from, Some(ServedFrom::Original));
            assert_eq!(page.context.split_filter, Some(FilterAnswer::Hit));
            let reason = match harm {
                Harm::NoTable | Harm::StoreFails => OriginalReason::TargetError,
                Harm::RowGone | Harm::RowMore => OriginalReason::TargetShort,
            };
            assert!(world.originals(reason) >= 1, "{harm:?}");
            world.0.settle().await;
            let record = world.stored(&partition).await.unwrap().record;
            if let Harm::StoreFails = harm {
                // Nothing is proved by that: it is served again as soon as it can be read.
                assert_eq!((record.state, record.reason), (SplitState::Completed, None));
                world.0.faults.wide_down(false);
                let page = world.page(&request).await;
                assert_eq!(page.records, events, "{direction:?}");
                assert_eq!(page.context.served_from, Some(ServedFrom::Mixed));
                continue;
            }
            assert_eq!(record.state, SplitState::Invalidated);
            assert_eq!(record.reason, Some(SplitReason::TargetDamaged));
            let page = world.page(&request).await;
            assert_eq!(page.context.served_from, Some(ServedFrom::Original));
        }
    }
}

#[tokio::test]
async fn a_page_that_is_read_again_keeps_its_deadline() {
    let world = Split::start(Rollout::Serve, 1).await;
    // Of two buckets, so that there is something to cut.
    let mut events = seconds_of("a", 10);
    for record in seconds_of("a", 10) {
        let mut later = record.clone();
        later.event.key.time = time(record.event.key.time.micros() + 3_600_000_000);
        events.push(later);
    }
    world.write(&events).await;
    for partition in world.partitions().await {
        let cut = Cut {
            boundary: time(7_200_000_000),
            ..whole(30)
        };
        world.split(&partition, cut).await;
    }
    let request = world.request("a", Direction::Ascending, 0);
    assert_eq!(world.page(&request).await.records, events);
    world.0.faults.wide_down(true);
    // The read's 1 s end while the original's first bucket is read.
    world
        .0
        .faults
        .scans_take(&world.0.clock, Duration::from_millis(600));
    let page = world.page(&request).await;
    assert_eq!(page.context.partial, Some(PartialReason::Deadline));
    assert_eq!(page.records, events[..10]);
    assert_eq!(page.context.time_taken, Duration::from_millis(1_200));
}

#[tokio::test]
async fn a_store_that_does_not_answer_at_all_invalidates_nothing() {
    let world = Split::start(Rollout::Serve, 1).await;
    world.write(&seconds_of("a", 100)).await;
    let partition = world.partition("a").await;
    world.split(&partition, whole(30)).await;
    world.0.faults.wide_down(true);
    world.0.faults.data_down(true);
    let view = world
        .0
        .core
        .namespaces
        .view_for_read(&world.0.ns())
        .await
        .unwrap();
    let request = world.request("a", Direction::Descending, 0);
    assert!(world.0.core.reader.read(&view, request).await.is_err());
    world.0.settle().await;
    let record = world.stored(&partition).await.unwrap().record;
    assert_eq!(record.state, SplitState::Completed);
}

#[tokio::test]
async fn aggregates_read_targets_and_pass_damaged_ones_over() {
    let world = Split::start(Rollout::Serve, 1).await;
    world.write(&seconds_of("a", 100)).await;
    let partition = world.partition("a").await;
    world.split(&partition, whole(30)).await;
    let request = AggregateRequest {
        namespace: world.0.ns(),
        interval: TimeInterval::ALL,
        query: None,
        aggregation: anabranch_model::query::AggregationQuery {
            kind: AggregationKind::Count,
            item_key: None,
            group_by: None,
        },
        paging: Paging::default(),
        latency: Latency::default(),
    };
    for served_from in [ServedFrom::Targets, ServedFrom::Original] {
        let view = world
            .0
            .core
            .namespaces
            .view_for_read(&world.0.ns())
            .await
            .unwrap();
        let page = world
            .0
            .core
            .reader
            .aggregate(&view, request.clone())
            .await
            .unwrap();
        assert_eq!(page.rows[0].value, Some(AggregatedValue::Integer(100)));
        assert_eq!(page.context.served_from, Some(served_from));
        let mut held = world.target_events(&partition, 0).await;
        held.pop();
        world.damage(&partition, 0, held).await;
    }
    world.0.settle().await;
    let record = world.stored(&partition).await.unwrap().record;
    assert_eq!(record.state, SplitState::Invalidated);
}

#[tokio::test]
async fn a_scan_in_small_pages_is_detected_once_by_all_its_bytes() {
    let world = Split::start(Rollout::Serve, 1).await;
    world.write(&seconds_of("a", 100)).await;
    for direction in DIRECTIONS {
        world.0.advance(Duration::from_secs(61)).await;
        let (records, contexts) = world.walk(&world.request("a", direction, 10)).await;
        assert_eq!(records.len(), 100);
        assert!(contexts.iter().all(|context| context.bytes_read < 2_048));
        world.0.settle().await;
        let detections = world.0.detections().await;
        assert_eq!(detections.len(), 1, "{detections:?}");
        assert_eq!(detections[0].partition, world.partition("a").await);
        assert!(detections[0].bytes > 4_096 && detections[0].bytes < 6_144);
    }
}

#[tokio::test]
async fn only_bytes_of_originals_are_detected() {
    let world = Split::start(Rollout::Serve, 1).await;
    world.write(&seconds_of("a", 200)).await;
    let partition = world.partition("a").await;
    world.split(&partition, whole(50)).await;
    world.walk(&world.request("a", Direction::Ascending, 10)).await;
    world.0.settle().await;
    assert_eq!(world.0.detections().await.len(), 0);
    // The tail that has grown wide is found.
    let prefix = Cut {
        boundary: time(20_000_000),
        ..whole(10)
    };
    world.split(&partition, prefix).await;
    world.walk(&world.request("a", Direction::Ascending, 10)).await;
    world.0.settle().await;
    assert_eq!(world.0.detections().await.len(), 1);
}

#[tokio::test]
async fn a_refresh_reads_only_the_shards_that_changed() {
    let world = Split::start(Rollout::Serve, 1).await;
    let ids: Vec<String> = (0..40).map(|n| format!("id{n}")).collect();
    for id in &ids {
        world.write(&seconds_of(id, 10)).await;
    }
    for partition in world.partitions().await {
        world.split(&partition, whole(5)).await;
    }
    let listed = || world.splits().metrics().shards_listed.get();
    let before = listed();
    world.splits().refresh_now().await;
    assert_eq!(listed(), before, "nothing has changed");
    world.invalidate(&world.partition("id7").await).await;
    world.splits().refresh_now().await;
    assert_eq!(listed(), before + 1);
    let statistics = world.splits().filter_statistics(&world.0.ns()).unwrap();
    assert_eq!((statistics.slices, statistics.partitions), (1, 39));
    // A change that was not told is found when everything is listed.
    for _ in 0..300 {
        world.0.clock.advance(seconds(1));
    }
    world.0.settle().await;
    assert_eq!(
        world
            .splits()
            .filter_statistics(&world.0.ns())
            .unwrap()
            .partitions,
        39
    );
    world.rollout(Rollout::Split).await;
    assert_eq!(world.splits().filter_statistics(&world.0.ns()), None);
}
