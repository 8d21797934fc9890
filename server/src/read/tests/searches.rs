//! Searches: over named ids in event order, over everything in partition order.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anabranch_catalog::Block;
use anabranch_model::query::{BooleanOperator, SearchQuery};
use anabranch_model::{Direction, EventRecord, TimeInterval};
use proptest::prelude::*;

use super::support::{World, bytes, item_key, record, run, series, time};
use super::walks::{bounds, direction, events, layout};
use crate::context::{PartialReason, RecordOrder};
use crate::errors::{Reason, ServiceError};
use crate::read::request::{EventPage, Latency, Paging, SearchRequest};

pub(super) fn ids(names: &[&str]) -> SearchQuery {
    SearchQuery::TimeSeriesIds(names.iter().map(|name| series(name)).collect())
}

pub(super) fn equals(key: &str, value: &str) -> SearchQuery {
    SearchQuery::Equals {
        item_key: item_key(key),
        value: bytes(value),
    }
}

pub(super) fn join(operator: BooleanOperator, queries: Vec<SearchQuery>) -> SearchQuery {
    SearchQuery::Boolean { operator, queries }
}

fn search_for(world: &World, query: SearchQuery) -> SearchRequest {
    SearchRequest {
        namespace: world.view.name.clone(),
        interval: TimeInterval::ALL,
        query: Some(query),
        direction: Direction::Descending,
        paging: Paging::default(),
        latency: Latency::default(),
    }
}

async fn search(world: &World, query: SearchQuery) -> Result<EventPage, ServiceError> {
    world.reader.search(&world.view, search_for(world, query)).await
}

/// The order of a walk over partitions.
fn by_partition(world: &World, mut records: Vec<EventRecord>, direction: Direction) -> Vec<EventRecord> {
    records.sort_by(|a, b| {
        let slice = |record: &EventRecord| world.view.slice_of(record.event.key.time).unwrap().clone();
        let (slice_a, slice_b) = (slice(a), slice(b));
        direction
            .compare(&slice_a.interval.start, &slice_b.interval.start)
            .then_with(|| {
                let partition_a = slice_a.partition_of(&a.time_series_id, &a.event.key);
                partition_a.cmp(&slice_b.partition_of(&b.time_series_id, &b.event.key))
            })
            .then_with(|| direction.compare(&a.event.key, &b.event.key))
    });
    records
}

/// A query and what it means.
type Meaning = fn(&EventRecord) -> bool;

fn k(record: &EventRecord) -> &[u8] {
    record.event.item("k").unwrap()
}

fn queries() -> Vec<(SearchQuery, Option<bool>, Meaning)> {
    use BooleanOperator::{And, Not, Or};
    vec![
        (ids(&["a", "c", "a"]), Some(true), |r| {
            r.time_series_id != series("b")
        }),
        (
            join(And, vec![ids(&["a", "b"]), equals("k", "2")]),
            Some(true),
            |r| r.time_series_id != series("c") && k(r) == b"2",
        ),
        (equals("k", "1"), Some(false), |r| k(r) == b"1"),
        (join(Or, vec![ids(&["a"]), equals("k", "1")]), Some(false), |r| {
            r.time_series_id == series("a") || k(r) == b"1"
        }),
        (join(Not, vec![equals("k", "1"), ids(&["b"])]), Some(false), |r| {
            k(r) != b"1" && r.time_series_id != series("b")
        }),
        (join(And, vec![ids(&["a"]), ids(&["b"])]), Some(true), |_| false),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn every_search_answers_every_matching_event_once_in_its_order(
        layout in layout(), events in events(), interval in bounds(), direction in direction(),
        query in prop::sample::select(queries()), page_size in 1usize..40, limit in prop::option::of(0usize..60),
        yields in any::<bool>(), short_pages in any::<bool>(),
        call_takes in prop::sample::select(vec![0u64, 0, 300, 2_000]),
    ) {
        run(async move {
            let (query, by_event, meaning) = query;
            let mut world = layout.world().await;
            world.write(events).await;
            world.store.yields.store(yields, Ordering::Relaxed);
            world.store.short_pages.store(short_pages, Ordering::Relaxed);
            world.store.takes(Duration::from_millis(call_takes));
            let mut expected = world.expect(interval, direction, meaning);
            if by_event == Some(false) {
                expected = by_partition(&world, expected, direction);
            }
            if let Some(limit) = limit {
                expected.truncate(limit);
            }
            let mut request = search_for(&world, query);
            request.interval = interval;
            request.direction = direction;
            request.paging.page_size = page_size;
            request.paging.total_record_limit = limit.map(|limit| limit as u64);
            let mut found = Vec::new();
            for pages in 1.. {
                let page = world.reader.search(&world.view, request.clone()).await.unwrap();
                let order = if by_event == Some(false) { RecordOrder::Partition } else { RecordOrder::Event };
                assert_eq!(page.context.order, order);
                found.extend(page.records);
                if page.next_page_token.is_empty() {
                    break;
                }
                assert!(pages < 10_000, "a walk ends");
                request.paging.page_token = page.next_page_token;
            }
            assert_eq!(found, expected);
        });
    }
}

#[tokio::test]
async fn ids_at_one_instant_come_in_the_order_of_their_bytes() {
    let mut world = World::all_time((60, 2)).await;
    let events = ["a", "b", "c"]
        .iter()
        .flat_map(|id| ["x", "y"].map(|event| record(id, 5, event, &[("k", "1")])));
    world.write(events.collect()).await;
    let page = search(&world, ids(&["c", "a", "b"])).await.unwrap();
    let order: Vec<_> = page
        .records
        .iter()
        .map(|record| format!("{}{}", record.event.key.id, record.time_series_id))
        .collect();
    assert_eq!(order, ["yc", "yb", "ya", "xc", "xb", "xa"]);
}

#[tokio::test]
async fn a_scan_goes_on_past_a_dropped_slice_and_partitions() {
    for direction in [Direction::Ascending, Direction::Descending] {
        let mut world = World::hours(&[(600, 1), (600, 1), (600, 1)]).await;
        let events = (0..180).map(|n| {
            record(
                if n % 2 == 0 { "a" } else { "b" },
                n * 60_000_000,
                "e",
                &[("k", "1")],
            )
        });
        world.write(events.collect()).await;
        let mut request = search_for(&world, equals("k", "1"));
        request.direction = direction;
        request.paging.page_size = 70;
        let first = world.reader.search(&world.view, request.clone()).await.unwrap();
        assert_eq!(first.records.len(), 70);
        let mut slices = world.view.slices.to_vec();
        slices.remove(1);
        world.view.slices = std::sync::Arc::new(slices);
        request.paging.page_token = first.next_page_token;
        let rest = world.reader.search(&world.view, request).await.unwrap();
        assert_eq!(rest.records.len(), 60);
        assert_eq!(rest.next_page_token, "");
    }
}

#[tokio::test]
async fn a_blocked_id_is_refused_when_named_and_left_out_when_not() {
    let mut world = World::all_time((60, 1)).await;
    world
        .write(vec![
            record("a", 1, "e", &[("k", "1")]),
            record("b", 1, "e", &[("k", "1")]),
        ])
        .await;
    let block = Block {
        reason: "too hot".to_owned(),
        since: time(0),
    };
    world.view.blocked = std::sync::Arc::new(BTreeMap::from([(series("a"), block)]));
    let refused = search(&world, ids(&["b", "a"])).await.unwrap_err();
    assert_eq!(refused.reason, Reason::IdBlocked);
    let page = search(&world, equals("k", "1")).await.unwrap();
    assert_eq!(page.records.len(), 1);
    assert_eq!(page.records[0].time_series_id, series("b"));
    assert_eq!(page.context.warnings.len(), 1);
}

#[tokio::test]
async fn a_slow_scan_is_cut_and_says_so_without_a_time() {
    let mut world = World::all_time((60, 1)).await;
    let events = (0..50).map(|n| record("a", n * 60_000_000, "e", &[("k", "1")]));
    world.write(events.collect()).await;
    world.store.takes(Duration::from_millis(300));
    let page = search(&world, equals("k", "1")).await.unwrap();
    assert_eq!(page.context.partial, Some(PartialReason::Deadline));
    assert_eq!(page.context.complete_until, None);
    assert!(!page.next_page_token.is_empty());
}
