//! What writes promise, against the memory store.

use std::time::Duration;

use anabranch_model::{EventItem, EventRecord, ItemKey, NamespaceSettings, TimeSeriesId};
use anabranch_runtime::Deadline;
use bytes::Bytes;
use futures::StreamExt;

use super::*;
use crate::core::Core;
use crate::errors::{Reason, ServiceError};
use crate::testing::{HOUR, Server, WEEK, event, name, seconds};

fn request(events: Vec<EventRecord>) -> WriteRequest {
    WriteRequest {
        namespace: name("ns"),
        events,
        deadline: None,
    }
}

async fn write(core: &Core, events: Vec<EventRecord>) -> Result<u64, ServiceError> {
    core.writer
        .write_sync(request(events))
        .await
        .map(|outcome| outcome.written)
}

#[tokio::test]
async fn an_acked_event_is_readable() {
    let server = Server::start().await;
    server.create(NamespaceSettings::default()).await;
    let now = server.now();
    let events = vec![event("a", now, "1", "x"), event("b", now, "1", "y")];
    assert_eq!(write(&server.core, events.clone()).await.unwrap(), 2);
    assert_eq!(server.read("a").await, [events[0].event.clone()]);
    assert_eq!(server.read("b").await, [events[1].event.clone()]);
}

#[tokio::test]
async fn a_repeated_write_changes_nothing() {
    let server = Server::start().await;
    server.create(NamespaceSettings::default()).await;
    let events = vec![event("a", server.now(), "1", "x")];
    for _ in 0..3 {
        write(&server.core, events.clone()).await.unwrap();
    }
    assert_eq!(server.read("a").await.len(), 1);
}

#[tokio::test]
async fn equal_keys_in_one_request_are_merged_and_the_later_value_stays() {
    let server = Server::start().await;
    server.create(NamespaceSettings::default()).await;
    let now = server.now();
    let mut second = event("a", now, "1", "new");
    second.event.items.insert(
        0,
        EventItem {
            key: ItemKey::new("another").unwrap(),
            value: Bytes::from_static(b"z"),
        },
    );
    write(&server.core, vec![event("a", now, "1", "old"), second.clone()])
        .await
        .unwrap();
    assert_eq!(server.read("a").await, [second.event]);
}

#[tokio::test]
async fn one_refused_event_keeps_the_whole_request_out_and_all_refused_are_named() {
    let server = Server::start().await;
    server.create(NamespaceSettings::default()).await;
    let now = server.now();
    let old = now.saturating_sub(seconds(601));
    let ahead = now.saturating_add(seconds(61));
    let events = vec![
        event("a", now, "1", "x"),
        event("a", old, "2", "x"),
        event("a", ahead, "3", "x"),
    ];
    let error = write(&server.core, events).await.unwrap_err();
    assert_eq!(error.reason, Reason::EventTooOld);
    let paths: Vec<&str> = error.fields.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["events[1].event_time", "events[2].event_time"]);
    assert_eq!(
        error.metadata["acceptedFrom"],
        now.saturating_sub(seconds(600)).to_string()
    );
    assert_eq!(
        error.metadata["acceptedUntil"],
        now.saturating_add(seconds(60)).to_string()
    );
    assert!(server.read("a").await.is_empty());
}

#[tokio::test]
async fn the_limits_themselves_are_accepted() {
    let server = Server::start().await;
    server.create(NamespaceSettings::default()).await;
    let now = server.now();
    let events = vec![
        event("a", now.saturating_sub(seconds(600)), "1", "x"),
        event("a", now.saturating_add(seconds(60)), "2", "x"),
    ];
    assert_eq!(write(&server.core, events).await.unwrap(), 2);
    let micro = Duration::from_micros(1);
    let past = vec![event(
        "a",
        now.saturating_add(seconds(60)).saturating_add(micro),
        "3",
        "x",
    )];
    let error = write(&server.core, past).await.unwrap_err();
    assert_eq!(error.reason, Reason::EventTooFarAhead);
}

#[tokio::test]
async fn a_blocked_id_is_refused_by_name() {
    let server = Server::start().await;
    server.create(NamespaceSettings::default()).await;
    let now = server.now();
    let blocked = TimeSeriesId::new("noisy").unwrap();
    server
        .core
        .admin
        .block_time_series_ids(&name("ns"), std::slice::from_ref(&blocked), "floods")
        .await
        .unwrap();
    let events = vec![event("a", now, "1", "x"), event("noisy", now, "1", "x")];
    let error = write(&server.core, events.clone()).await.unwrap_err();
    assert_eq!(error.reason, Reason::IdBlocked);
    assert_eq!(error.fields[0].0, "events[1].time_series_id");
    assert_eq!(error.metadata["blockReason"], "floods");
    server
        .core
        .admin
        .unblock_time_series_ids(&name("ns"), &[blocked])
        .await
        .unwrap();
    assert_eq!(write(&server.core, events).await.unwrap(), 2);
}

#[tokio::test]
async fn an_unknown_namespace_names_the_nearest() {
    let server = Server::start().await;
    server
        .create_named("telemetry", NamespaceSettings::default())
        .await;
    let mut request = request(vec![event("a", server.now(), "1", "x")]);
    request.namespace = name("telemetri");
    let error = server.core.writer.write_sync(request).await.unwrap_err();
    assert_eq!(error.reason, Reason::NamespaceNotFound);
    assert_eq!(error.metadata["nearest"], "telemetry");
}

#[tokio::test]
async fn too_many_events_and_too_many_bytes_are_refused() {
    let server = Server::start().await;
    server.create(NamespaceSettings::default()).await;
    let now = server.now();
    let many = vec![event("a", now, "1", "x"); REQUEST_EVENTS_MAX + 1];
    assert_eq!(
        write(&server.core, many).await.unwrap_err().reason,
        Reason::TooManyEvents
    );
    assert_eq!(
        write(&server.core, vec![]).await.unwrap_err().reason,
        Reason::InvalidEvent
    );
    let large = "x".repeat(1 << 20);
    let large = vec![event("a", now, "1", &large); 17];
    assert_eq!(
        write(&server.core, large).await.unwrap_err().reason,
        Reason::FieldTooLarge
    );
}

#[tokio::test]
async fn thirteen_years_of_history_make_their_slices_in_one_write() {
    let server = Server::start().await;
    server
        .create(NamespaceSettings {
            accept_limit: Duration::ZERO,
            ..NamespaceSettings::default()
        })
        .await;
    let now = server.now();
    let weeks = 13 * 52;
    let events: Vec<EventRecord> = (0..weeks)
        .map(|week| {
            event(
                "a",
                now.saturating_sub(seconds(week * WEEK)),
                &week.to_string(),
                "x",
            )
        })
        .collect();
    write(&server.core, events).await.unwrap();
    assert_eq!(server.read("a").await.len(), usize::try_from(weeks).unwrap());
}

#[tokio::test]
async fn history_past_its_retention_makes_no_slice() {
    let server = Server::start().await;
    server
        .create(NamespaceSettings {
            accept_limit: Duration::ZERO,
            retention: anabranch_model::namespace::Retention {
                close_after: Some(seconds(WEEK)),
                delete_after: Some(seconds(2 * WEEK)),
            },
            ..NamespaceSettings::default()
        })
        .await;
    let slices = server.slices().await.len();
    let old = server.now().saturating_sub(seconds(5 * WEEK));
    let error = write(&server.core, vec![event("a", old, "1", "x")])
        .await
        .unwrap_err();
    assert_eq!(error.reason, Reason::TimeSliceClosed);
    assert_eq!(server.slices().await.len(), slices);
}

#[tokio::test]
async fn a_deadline_that_has_passed_writes_nothing() {
    let server = Server::start().await;
    server.create(NamespaceSettings::default()).await;
    let mut request = request(vec![event("a", server.now(), "1", "x")]);
    request.deadline = Some(Deadline::after(&*server.clock, Duration::ZERO));
    let error = server.core.writer.write_sync(request).await.unwrap_err();
    assert_eq!(error.reason, Reason::DeadlineExceeded);
    assert!(server.read("a").await.is_empty());
}

#[tokio::test]
async fn parts_that_fail_are_named_and_the_others_stay() {
    let server = Server::start().await;
    server.create(NamespaceSettings::default()).await;
    let now = server.now();
    server.faults.fail("bad", false);
    server.faults.fail("unsure", true);
    let events = vec![
        event("good", now, "1", "x"),
        event("bad", now, "1", "x"),
        event("unsure", now, "1", "x"),
    ];
    let error = write(&server.core, events).await.unwrap_err();
    assert_eq!(error.reason, Reason::WritePartlyFailed);
    assert_eq!(error.metadata["failed"], "2");
    assert_eq!(error.metadata["unknown"], "1");
    assert!(error.fields[0].1.contains("is not durable"), "{error:?}");
    assert!(
        error.fields[1].1.contains("may or may not be durable"),
        "{error:?}"
    );
    assert_eq!(error.fields[1].0, "events[2]");
    assert_eq!(server.read("good").await.len(), 1);

    let error = write(&server.core, vec![event("unsure", now, "1", "x")])
        .await
        .unwrap_err();
    assert_eq!(error.reason, Reason::StoreOutcomeUnknown);
    let error = write(&server.core, vec![event("bad", now, "1", "x")])
        .await
        .unwrap_err();
    assert_eq!(error.reason, Reason::StoreUnreachable);
}

#[tokio::test]
async fn settings_that_can_not_be_read_again_are_not_written_with() {
    let server = Server::start().await;
    server.create(NamespaceSettings::default()).await;
    server.faults.records_down(true);
    assert_eq!(
        write(&server.core, vec![event("a", server.now(), "1", "x")])
            .await
            .unwrap(),
        1
    );
    server.clock.advance(Duration::from_secs(11));
    let error = write(&server.core, vec![event("a", server.now(), "2", "x")])
        .await
        .unwrap_err();
    assert_eq!(error.reason, Reason::StoreUnreachable);
    assert!(error.retry_after.is_some());
    server.faults.records_down(false);
    assert_eq!(
        write(&server.core, vec![event("a", server.now(), "2", "x")])
            .await
            .unwrap(),
        1
    );
}

#[tokio::test]
async fn nothing_earlier_is_made_durable_after_a_seal_has_returned() {
    let server = Server::start().await;
    server.create(NamespaceSettings::default()).await;
    let now = server.now();
    let earlier = now.saturating_sub(seconds(5));
    let ns = server.ns();
    server.faults.hold_appends(true);
    let writing = tokio::join!(
        async {
            let write = server
                .core
                .writer
                .write_sync(request(vec![event("a", earlier, "1", "x")]));
            tokio::pin!(write);
            // The write stands at the store's door when the seal comes, and its caller gives up.
            while server.faults.held() == 0 {
                assert!(futures::poll!(&mut write).is_pending());
                tokio::task::yield_now().await;
            }
        },
        async {
            while server.faults.held() == 0 {
                tokio::task::yield_now().await;
            }
            let seal = server.core.admin.seal_time_slices(&ns, Some(now));
            tokio::pin!(seal);
            for _ in 0..50 {
                assert!(
                    futures::poll!(&mut seal).is_pending(),
                    "a write is still under way"
                );
                tokio::task::yield_now().await;
            }
            server.faults.hold_appends(false);
            seal.await.unwrap()
        }
    );
    assert!(!writing.1.is_empty());
    let before = server.read("a").await.len();
    let error = write(&server.core, vec![event("a", earlier, "2", "x")])
        .await
        .unwrap_err();
    assert_eq!(error.reason, Reason::TimeSliceSealed);
    assert_eq!(server.read("a").await.len(), before);
    assert_eq!(
        write(&server.core, vec![event("a", now, "3", "x")])
            .await
            .unwrap(),
        1
    );
}

#[tokio::test]
async fn a_seal_holds_for_times_without_a_slice() {
    let server = Server::start().await;
    server
        .create(NamespaceSettings {
            accept_limit: Duration::ZERO,
            ..NamespaceSettings::default()
        })
        .await;
    server
        .core
        .admin
        .seal_time_slices(&server.ns(), None)
        .await
        .unwrap();
    let old = server.now().saturating_sub(seconds(500 * WEEK));
    let slices = server.slices().await.len();
    let error = write(&server.core, vec![event("a", old, "1", "x")])
        .await
        .unwrap_err();
    assert_eq!(error.reason, Reason::TimeSliceSealed);
    assert_eq!(server.slices().await.len(), slices);
}

#[tokio::test]
async fn acks_of_a_stream_come_in_order_and_a_bad_batch_does_not_end_it() {
    let server = Server::start().await;
    server.create(NamespaceSettings::default()).await;
    let now = server.now();
    let batches: Vec<IngestBatch> = (0..100)
        .map(|number| {
            let time = if number == 7 {
                now.saturating_sub(seconds(HOUR))
            } else {
                now
            };
            IngestBatch {
                batch_id: number.to_string(),
                write: Ok((server.ns(), vec![event("a", time, &number.to_string(), "x")])),
            }
        })
        .collect();
    let acks: Vec<IngestAck> = ingest(server.core.writer.clone(), futures::stream::iter(batches))
        .collect()
        .await;
    let ids: Vec<String> = acks.iter().map(|ack| ack.batch_id.clone()).collect();
    assert_eq!(ids, (0..100).map(|number| number.to_string()).collect::<Vec<_>>());
    let failed: Vec<&str> = acks
        .iter()
        .filter(|ack| ack.outcome.is_err())
        .map(|ack| ack.batch_id.as_str())
        .collect();
    assert_eq!(failed, ["7"]);
    assert_eq!(server.read("a").await.len(), 99);
}

#[tokio::test]
async fn a_queue_gathers_and_then_writes() {
    let server = Server::start().await;
    server.create(NamespaceSettings::default()).await;
    let now = server.now();
    for number in 0..10 {
        let outcome = server
            .core
            .queue
            .enqueue(request(vec![event("a", now, &number.to_string(), "x")]))
            .await
            .unwrap();
        assert_eq!(outcome.queued, 1);
    }
    assert!(server.core.queue.bytes() > 0);
    assert!(server.read("a").await.is_empty());
    server.advance(Duration::from_secs(1)).await;
    assert_eq!(server.core.queue.bytes(), 0);
    assert_eq!(server.read("a").await.len(), 10);
}

#[tokio::test]
async fn a_full_queue_says_so_and_counts_what_it_dropped() {
    let server = Server::start().await;
    let mut settings = NamespaceSettings::default();
    settings.queue_buffering.buffer_capacity_bytes = 64 << 10;
    server.create(settings).await;
    let now = server.now();
    server.faults.hold_appends(true);
    let value = "x".repeat(30 << 10);
    let one = |id: &str| request(vec![event("a", now, id, &value)]);
    server.core.queue.enqueue(one("1")).await.unwrap();
    server.core.queue.enqueue(one("2")).await.unwrap();
    let error = server.core.queue.enqueue(one("3")).await.unwrap_err();
    assert_eq!(error.reason, Reason::WriteQueueFull);
    assert!(error.retry_after.is_some());
    assert_eq!(
        server
            .core
            .writer
            .metrics()
            .dropped_so_far(&server.ns(), "queue_full"),
        1
    );
    // What is being written still counts, so a store that falls behind keeps the queue full.
    server.advance(Duration::from_secs(1)).await;
    assert_eq!(
        server.core.queue.enqueue(one("3")).await.unwrap_err().reason,
        Reason::WriteQueueFull
    );
    server.faults.hold_appends(false);
    server.settle().await;
    server.core.queue.enqueue(one("3")).await.unwrap();
    server.core.stop().await;
    assert_eq!(server.read("a").await.len(), 3);
}

#[tokio::test]
async fn a_queued_event_that_has_grown_too_old_is_dropped_and_counted() {
    let server = Server::start().await;
    let mut settings = NamespaceSettings::default();
    settings.queue_buffering.coalesce = Duration::from_secs(60);
    server.create(settings).await;
    let old = server.now().saturating_sub(seconds(590));
    let events = vec![event("a", old, "1", "x"), event("a", server.now(), "2", "x")];
    server.core.queue.enqueue(request(events)).await.unwrap();
    server.advance(Duration::from_secs(60)).await;
    assert_eq!(server.read("a").await.len(), 1);
    assert_eq!(
        server
            .core
            .writer
            .metrics()
            .dropped_so_far(&server.ns(), "event_too_old"),
        1
    );
}

#[tokio::test]
async fn a_stop_drains_the_queue_and_takes_nothing_more() {
    let server = Server::start().await;
    server.create(NamespaceSettings::default()).await;
    let now = server.now();
    server
        .core
        .queue
        .enqueue(request(vec![event("a", now, "1", "x")]))
        .await
        .unwrap();
    server.core.stop().await;
    assert_eq!(server.read("a").await.len(), 1);
    let error = server
        .core
        .queue
        .enqueue(request(vec![event("a", now, "2", "x")]))
        .await;
    assert_eq!(error.unwrap_err().reason, Reason::ServerDraining);
    assert!(!server.core.status().ready);
}

#[tokio::test]
async fn queued_writes_outlast_a_passing_trouble_and_are_counted_past_the_last_attempt() {
    let server = Server::start().await;
    server.create(NamespaceSettings::default()).await;
    let now = server.now();
    server.faults.fail("a", false);
    server
        .core
        .queue
        .enqueue(request(vec![event("a", now, "1", "x")]))
        .await
        .unwrap();
    server.advance(Duration::from_secs(1)).await;
    server.faults.heal("a");
    server.advance(Duration::from_secs(1)).await;
    assert_eq!(server.read("a").await.len(), 1);
    server.faults.fail("a", false);
    server
        .core
        .queue
        .enqueue(request(vec![event("a", now, "2", "x")]))
        .await
        .unwrap();
    for _ in 0..10 {
        server.advance(Duration::from_secs(2)).await;
    }
    assert_eq!(
        server.core.writer.metrics().dropped_so_far(&server.ns(), "store"),
        1
    );
    assert_eq!(server.core.queue.bytes(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_and_a_seal_may_race_but_nothing_lands_after_it() {
    for _ in 0..20 {
        let server = Server::start().await;
        server.create(NamespaceSettings::default()).await;
        let now = server.now();
        let earlier = now.saturating_sub(seconds(1));
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let core = server.core.clone();
                server._tasks.spawn("writer", async move {
                    let mut acked = 0u64;
                    for number in 0.. {
                        let id = format!("{writer}-{number}");
                        match write(&core, vec![event("a", earlier, &id, "x")]).await {
                            Ok(written) => acked += written,
                            Err(error) => {
                                assert_eq!(error.reason, Reason::TimeSliceSealed);
                                break;
                            }
                        }
                    }
                    acked
                })
            })
            .collect();
        while server.read("a").await.len() < 20 {
            tokio::task::yield_now().await;
        }
        server
            .core
            .admin
            .seal_time_slices(&name("ns"), Some(now))
            .await
            .unwrap();
        let at_seal = server.read("a").await.len();
        let mut acked = 0;
        for writer in writers {
            acked += writer.await.unwrap();
        }
        let at_end = server.read("a").await.len();
        assert_eq!(at_end, at_seal, "landed after the seal had returned");
        assert_eq!(at_end as u64, acked, "each acked write is readable, and no other");
    }
}
