//! R1: every walk answers every matching event exactly once, in order.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anabranch_catalog::Block;
use anabranch_model::query::EventFilter;
use anabranch_model::{Direction, EventRecord, TimeInterval};
use proptest::prelude::*;

use super::support::{
    Buckets, HOUR, SlowStore, World, bytes, interval, item_key, record, records, run, series, time,
};
use crate::context::PartialReason;
use crate::errors::Reason;
use crate::read::request::PAGE_BYTES;

/// Where events may lie, and how.
#[derive(Clone, Debug)]
pub(super) enum Layout {
    AllTime(Buckets),
    Hours(Vec<Buckets>),
}

impl Layout {
    pub(super) async fn world(&self) -> World {
        match self {
            Self::AllTime(buckets) => World::all_time(*buckets).await,
            Self::Hours(buckets) => World::hours(buckets).await,
        }
    }
}

pub(super) fn layout() -> impl Strategy<Value = Layout> {
    let buckets = || (prop::sample::select(vec![60i64, 600, 3_600]), 1u32..4);
    prop_oneof![
        buckets().prop_map(Layout::AllTime),
        prop::collection::vec(buckets(), 3).prop_map(Layout::Hours),
    ]
}

/// Events of a few ids, many at one instant, over three hours; rarely one that fills a page.
pub(super) fn events() -> impl Strategy<Value = Vec<EventRecord>> {
    let at = prop_oneof![
        2 => prop::sample::select(vec![0i64, 59_999_999, 60_000_000, HOUR - 1, HOUR, 2 * HOUR + 5]),
        1 => 0..3 * HOUR,
    ];
    let value = prop_oneof![
        30 => "[0-9]{1,2}",
        1 => Just("x".repeat(PAGE_BYTES / 2 + 10)),
        1 => Just("x".repeat(PAGE_BYTES + 10)),
    ];
    let event = (0usize..3, at, 0u32..12, prop::option::of(value), "[0-3]").prop_map(
        |(id, at, event_id, value, k)| {
            let mut items = vec![("k", k.as_str())];
            if let Some(value) = &value {
                items.push(("v", value));
            }
            record(["a", "b", "c"][id], at, &format!("e{event_id}"), &items)
        },
    );
    prop::collection::vec(event, 0..80)
}

pub(super) fn bounds() -> impl Strategy<Value = TimeInterval> {
    let edge = || {
        prop_oneof![
            prop::sample::select(vec![0i64, 60_000_000, HOUR, 2 * HOUR + 5, 2 * HOUR + 6]),
            0..3 * HOUR
        ]
    };
    prop_oneof![
        Just(TimeInterval::ALL),
        (edge(), edge()).prop_map(|(a, b)| interval(a.min(b), a.max(b))),
    ]
}

pub(super) fn direction() -> impl Strategy<Value = Direction> {
    prop::sample::select(vec![Direction::Ascending, Direction::Descending])
}

fn filters() -> impl Strategy<Value = Vec<EventFilter>> {
    let filter = |key: &str, value: Option<&str>| EventFilter {
        item_key: item_key(key),
        item_value: value.map(bytes),
    };
    prop::sample::select(vec![
        vec![],
        vec![],
        vec![filter("v", None)],
        vec![filter("k", Some("2"))],
        vec![filter("k", Some("2")), filter("v", None)],
        vec![filter("nobody", None)],
    ])
}

fn passes(filters: &[EventFilter], record: &EventRecord) -> bool {
    filters.iter().all(
        |filter| match (record.event.item(filter.item_key.as_str()), &filter.item_value) {
            (Some(found), Some(wanted)) => found == wanted,
            (found, None) => found.is_some(),
            _ => false,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_walk_answers_every_matching_event_once_in_order(
        layout in layout(), events in events(), interval in bounds(), direction in direction(),
        filters in filters(), page_size in 1usize..40, limit in prop::option::of(0usize..60),
        yields in any::<bool>(), short_pages in any::<bool>(),
        call_takes in prop::sample::select(vec![0u64, 0, 300, 2_000]),
        restarts in any::<bool>(),
    ) {
        run(async move {
            let mut world = layout.world().await;
            world.write(events).await;
            world.store.yields.store(yields, Ordering::Relaxed);
            world.store.short_pages.store(short_pages, Ordering::Relaxed);
            world.store.takes(Duration::from_millis(call_takes));
            let mut request = world.read_of("b");
            request.interval = interval;
            request.direction = direction;
            request.filters = filters.clone();
            request.paging.page_size = page_size;
            request.paging.total_record_limit = limit.map(|limit| limit as u64);
            let mut expected = world.expect(interval, direction, |record| {
                record.time_series_id == series("b") && passes(&filters, record)
            });
            if let Some(limit) = limit {
                expected.truncate(limit);
            }

            let mut found = Vec::new();
            for pages in 1.. {
                let page = world.read(&request).await;
                assert!(page.records.len() <= page_size);
                let content: usize = page.records.iter().map(|record| record.event.content_bytes()).sum();
                assert!(content <= PAGE_BYTES || page.records.len() == 1, "an event over the budget comes alone");
                let ended = page.next_page_token.is_empty();
                let partial = page.context.partial == Some(PartialReason::Deadline);
                let next = expected.get(found.len() + page.records.len());
                let no_room = next.is_some_and(|next| content + next.event.content_bytes() > PAGE_BYTES);
                let full = page.records.len() == page_size || no_room;
                assert!(ended || partial || full, "a page is never silently short");
                if partial {
                    let until = page.context.complete_until.unwrap();
                    let so_far = found.len() + page.records.len();
                    let before = |record: &&EventRecord| {
                        direction.compare(&record.event.key.time, &until).is_lt()
                    };
                    assert!(
                        expected.iter().filter(before).count() <= so_far,
                        "an answer is complete up to where it says"
                    );
                }
                found.extend(page.records);
                if ended {
                    break;
                }
                assert!(pages < 10_000, "a walk ends");
                request.paging.page_token = page.next_page_token;
                if restarts {
                    world.restart();
                }
            }
            assert_eq!(found, expected);
        });
    }
}

#[tokio::test]
async fn many_events_at_one_instant_page_in_order() {
    let mut world = World::all_time((86_400, 3)).await;
    let count = 3_000;
    let events = (0..count).map(|n| record("a", 5, &format!("e{n:06}"), &[("k", "1")]));
    world.write(events.collect()).await;
    for direction in [Direction::Ascending, Direction::Descending] {
        let mut request = world.read_of("a");
        request.direction = direction;
        request.paging.page_size = 10;
        let pages = world.walk(&request).await;
        assert_eq!(pages.len(), count / 10);
        assert_eq!(
            records(pages),
            world.expect(TimeInterval::ALL, direction, |_| true)
        );
    }
}

#[tokio::test]
async fn the_newest_page_of_a_wide_partition_is_one_scan_of_a_page_and_one() {
    let mut world = World::all_time((86_400, 1)).await;
    let events = (0..5_000).map(|n| record("a", n, "e", &[("k", "1")]));
    world.write(events.collect()).await;
    let page = world.read(&world.read_of("a")).await;
    assert_eq!(page.records.len(), 1_000);
    assert_eq!(SlowStore::counted(&world.store.scans), 1);
    assert_eq!(SlowStore::counted(&world.store.scanned_events), 1_001);
    assert_eq!(SlowStore::counted(&world.store.bucket_calls), 1);
    assert_eq!(page.context.partitions_read, 1);
    assert!(page.context.bytes_read > 0);
}

#[tokio::test]
async fn slices_without_data_cost_one_call_each() {
    let mut world = World::hours(&[(60, 4); 300]).await;
    world
        .write(vec![
            record("a", 5, "e", &[("k", "1")]),
            record("b", 299 * HOUR, "e", &[("k", "1")]),
        ])
        .await;
    let page = world.read(&world.read_of("a")).await;
    assert_eq!(page.records.len(), 1);
    assert_eq!(page.next_page_token, "");
    let calls = SlowStore::counted(&world.store.bucket_calls);
    assert!(calls <= 301, "{calls} calls for 300 slices");
    assert_eq!(
        SlowStore::counted(&world.store.scans),
        4,
        "the event buckets of the one that has it"
    );
}

#[tokio::test]
async fn a_page_that_ends_with_the_last_event_is_the_last() {
    let mut world = World::all_time((60, 1)).await;
    let events = (0..20).map(|n| record("a", n * 60_000_000, "e", &[("k", "1")]));
    world.write(events.collect()).await;
    let mut request = world.read_of("a");
    request.paging.page_size = 10;
    assert_eq!(world.walk(&request).await.len(), 2);
}

#[tokio::test]
async fn a_changed_page_size_is_honoured_and_other_arguments_are_refused() {
    let mut world = World::all_time((60, 2)).await;
    let events = (0..100).map(|n| record("a", n * 7_000_000, "e", &[("k", "1")]));
    world.write(events.collect()).await;
    let mut request = world.read_of("a");
    request.paging.page_size = 10;
    let first = world.read(&request).await;
    request.paging.page_token = first.next_page_token.clone();
    request.paging.page_size = 33;
    let second = world.read(&request).await;
    assert_eq!(second.records.len(), 33);
    assert!(second.records[0].event.key < first.records[9].event.key);

    for change in [
        |request: &mut crate::read::request::ReadRequest| request.time_series_id = series("b"),
        |request: &mut crate::read::request::ReadRequest| request.direction = Direction::Ascending,
        |request: &mut crate::read::request::ReadRequest| request.interval.start = time(1),
        |request: &mut crate::read::request::ReadRequest| {
            request.filters = vec![EventFilter {
                item_key: item_key("k"),
                item_value: None,
            }];
        },
    ] {
        let mut changed = request.clone();
        change(&mut changed);
        let refused = world.reader.read(&world.view, changed).await.unwrap_err();
        assert_eq!(refused.reason, Reason::PageTokenMismatch);
    }
    request.paging.page_token.push('A');
    let refused = world.reader.read(&world.view, request).await.unwrap_err();
    assert_eq!(refused.reason, Reason::PageTokenInvalid);
}

#[tokio::test]
async fn a_walk_goes_on_past_a_slice_that_is_dropped_under_its_cursor() {
    for direction in [Direction::Ascending, Direction::Descending] {
        let mut world = World::hours(&[(600, 2), (600, 1), (600, 2)]).await;
        let events = (0..90).map(|n| record("a", n * 2 * 60_000_000, "e", &[("k", "1")]));
        world.write(events.collect()).await;
        let mut request = world.read_of("a");
        request.direction = direction;
        request.paging.page_size = 40;
        let first = world.read(&request).await;
        request.paging.page_token = first.next_page_token;
        // The cursor stands in the middle slice.
        let table = world.table(&world.view.slices[1]);
        anabranch_storage::EventStore::drop_table(&*world.store, &table)
            .await
            .unwrap();
        let rest = world.read(&request).await;
        assert_eq!(rest.records.len(), 30);
        assert_eq!(rest.next_page_token, "");
        assert_eq!(
            rest.context.warnings,
            ["time slice `19700101_01` was dropped and is left out"]
        );
    }
}

#[tokio::test]
async fn a_store_that_fails_fails_the_read() {
    let mut world = World::all_time((60, 1)).await;
    world.write(vec![record("a", 5, "e", &[("k", "1")])]).await;
    world.store.broken.store(true, Ordering::Relaxed);
    let error = world
        .reader
        .read(&world.view, world.read_of("a"))
        .await
        .unwrap_err();
    assert_eq!(error.reason, Reason::StoreUnreachable);
}

#[tokio::test]
async fn a_blocked_id_is_refused_with_its_reason() {
    let mut world = World::all_time((60, 1)).await;
    let block = Block {
        reason: "too hot".to_owned(),
        since: time(0),
    };
    world.view.blocked = std::sync::Arc::new([(series("a"), block)].into());
    let refused = world
        .reader
        .read(&world.view, world.read_of("a"))
        .await
        .unwrap_err();
    assert_eq!(refused.reason, Reason::IdBlocked);
    assert_eq!(refused.metadata["timeSeriesId"], "a");
    assert_eq!(refused.metadata["blockedReason"], "too hot");
    assert_eq!(refused.metadata["blockedSince"], "1970-01-01T00:00:00Z");
    assert!(world.reader.read(&world.view, world.read_of("b")).await.is_ok());
}

#[tokio::test]
async fn bytes_of_a_partition_add_up_over_pages() {
    let mut world = World::all_time((86_400, 1)).await;
    let events = (0..500).map(|n| record("a", n, "e", &[("k", "1")]));
    world.write(events.collect()).await;
    let mut request = world.read_of("a");
    request.paging.page_size = 100;
    let pages = world.walk(&request).await;
    let read: u64 = pages.iter().map(|page| page.context.bytes_read).sum();
    let token = &pages[3].next_page_token;
    let fingerprint = world.reader.read_fingerprint(&world.view, &request).unwrap();
    let cursor = world.reader.tokens.decode(token, fingerprint).unwrap();
    let carried = cursor.partition_bytes[0].bytes;
    assert!(
        carried * 5 > read * 3 && carried <= read,
        "{carried} of {read} carried to the last page"
    );
}
