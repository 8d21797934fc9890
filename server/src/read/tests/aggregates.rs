//! Aggregations against a model that looks at every event, over pages, parts and restarts.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anabranch_model::query::{AggregationKind, AggregationQuery, GroupBy, SearchQuery};
use anabranch_model::{Direction, EventRecord, FieldType, TimeInterval};
use proptest::prelude::*;

use super::searches::{equals, ids};
use super::support::{World, bytes, item_key, record, run, series, time};
use super::walks::{bounds, events, layout};
use crate::context::PartialReason;
use crate::errors::Reason;
use crate::read::request::{AggregateRequest, AggregatedValue, AggregationRow, Group, Latency, Paging};

fn aggregation(kind: AggregationKind, item: Option<&str>, group_by: Option<GroupBy>) -> AggregationQuery {
    AggregationQuery {
        kind,
        item_key: item.map(item_key),
        group_by,
    }
}

fn request(world: &World, query: Option<SearchQuery>, aggregation: AggregationQuery) -> AggregateRequest {
    AggregateRequest {
        namespace: world.view.name.clone(),
        interval: TimeInterval::ALL,
        query,
        aggregation,
        paging: Paging::default(),
        latency: Latency::default(),
    }
}

fn set_type(world: &mut World, key: &str, field_type: FieldType) {
    world
        .view
        .settings
        .field_mapping
        .insert(key.to_owned(), field_type);
}

/// Sorts rows of different parts together, and the values of `distinct`.
type Place = (Option<Group>, Option<String>);

fn place(kind: AggregationKind, row: &AggregationRow) -> Place {
    let value = (kind == AggregationKind::Distinct).then(|| format!("{:?}", row.value));
    (row.group.clone(), value)
}

fn value(field_type: FieldType, text: &[u8]) -> Option<AggregatedValue> {
    let text = std::str::from_utf8(text).unwrap();
    match field_type {
        FieldType::Integer => text.parse().ok().map(AggregatedValue::Integer),
        FieldType::Double => text.parse().ok().map(AggregatedValue::Double),
        _ => Some(AggregatedValue::Keyword(bytes(text))),
    }
}

fn number(value: &AggregatedValue) -> f64 {
    match value {
        AggregatedValue::Integer(number) => *number as f64,
        AggregatedValue::Double(number) => *number,
        other => panic!("{other:?} is no number"),
    }
}

fn less(a: &AggregatedValue, b: &AggregatedValue) -> bool {
    match (a, b) {
        (AggregatedValue::Keyword(a), AggregatedValue::Keyword(b)) => a < b,
        (a, b) => number(a) < number(b),
    }
}

/// The same aggregation, event by event: groups, counts, sums and the smallest and largest value.
#[derive(Clone, Debug, Default, PartialEq)]
struct Summary {
    count: u64,
    sum: f64,
    min: Option<AggregatedValue>,
    max: Option<AggregatedValue>,
}

impl Summary {
    fn add(&mut self, value: Option<&AggregatedValue>) {
        self.count += 1;
        let Some(value) = value else { return };
        if !matches!(value, AggregatedValue::Keyword(_)) {
            self.sum += number(value);
        }
        if self.min.as_ref().is_none_or(|min| less(value, min)) {
            self.min = Some(value.clone());
        }
        if self.max.as_ref().is_none_or(|max| less(max, value)) {
            self.max = Some(value.clone());
        }
    }
}

fn model(
    records: &[EventRecord],
    query: &AggregationQuery,
    field_type: FieldType,
) -> BTreeMap<Place, Summary> {
    let mut groups: BTreeMap<Place, Summary> = BTreeMap::new();
    if query.group_by.is_none() && query.kind != AggregationKind::Distinct {
        groups.insert((None, None), Summary::default());
    }
    for record in records {
        let stored = query.item_key.as_ref().map(|key| record.event.item(key.as_str()));
        let value = match stored {
            None => None,
            Some(None) => continue,
            Some(Some(_)) if query.kind == AggregationKind::Count => None,
            Some(Some(stored)) => match value(field_type, stored) {
                None => continue,
                value => value,
            },
        };
        let group = match &query.group_by {
            None => None,
            Some(GroupBy::TimeWidth(width)) => {
                let width = i64::try_from(width.as_micros()).unwrap();
                Some(Group::Time(time(record.event.key.time.micros() / width * width)))
            }
            Some(GroupBy::Item(key)) => match record.event.item(key.as_str()) {
                None => continue,
                Some(value) => Some(Group::Item(value.clone())),
            },
        };
        let distinct = (query.kind == AggregationKind::Distinct).then(|| format!("{value:?}"));
        groups.entry((group, distinct)).or_default().add(value.as_ref());
    }
    groups
}

fn check(row: &AggregationRow, kind: AggregationKind, expected: &Summary) {
    assert_eq!(row.count, expected.count);
    match kind {
        AggregationKind::Count => {
            assert_eq!(row.value, Some(AggregatedValue::Integer(expected.count as i64)));
        }
        AggregationKind::Distinct => assert_eq!(row.value, expected.min),
        AggregationKind::Min => assert_eq!(row.value, expected.min),
        AggregationKind::Max => assert_eq!(row.value, expected.max),
        AggregationKind::Sum => {
            assert_eq!(row.value.as_ref().map(number), Some(expected.sum));
            assert_eq!(row.sum, Some(expected.sum));
        }
        AggregationKind::Avg => {
            let mean = (expected.count > 0).then(|| expected.sum / expected.count as f64);
            assert_eq!(row.value.as_ref().map(number), mean);
        }
    }
}

/// Rows of several parts as one.
fn merged(kind: AggregationKind, rows: Vec<AggregationRow>) -> BTreeMap<Place, AggregationRow> {
    let mut merged: BTreeMap<Place, AggregationRow> = BTreeMap::new();
    for row in rows {
        let Some(into) = merged.get_mut(&place(kind, &row)) else {
            merged.insert(place(kind, &row), row);
            continue;
        };
        into.count += row.count;
        into.sum = into.sum.zip(row.sum).map(|(a, b)| a + b);
        into.value = match (kind, into.value.take(), row.value) {
            (AggregationKind::Count | AggregationKind::Sum, Some(a), Some(b)) => Some(match (a, b) {
                (AggregatedValue::Integer(a), AggregatedValue::Integer(b)) => AggregatedValue::Integer(a + b),
                (a, b) => AggregatedValue::Double(number(&a) + number(&b)),
            }),
            (AggregationKind::Avg, _, _) => {
                (into.count > 0).then(|| AggregatedValue::Double(into.sum.unwrap() / into.count as f64))
            }
            (AggregationKind::Min, Some(a), Some(b)) => Some(if less(&b, &a) { b } else { a }),
            (AggregationKind::Max, Some(a), Some(b)) => Some(if less(&a, &b) { b } else { a }),
            (_, a, b) => a.or(b),
        };
    }
    merged
}

fn kinds() -> impl Strategy<Value = (AggregationKind, Option<&'static str>, FieldType)> {
    use AggregationKind::{Avg, Count, Distinct, Max, Min, Sum};
    use FieldType::{Double, Integer, Keyword};
    prop::sample::select(vec![
        (Count, None, Keyword),
        (Count, Some("v"), Integer),
        (Distinct, Some("v"), Keyword),
        (Distinct, Some("v"), Integer),
        (Min, Some("v"), Keyword),
        (Min, Some("v"), Integer),
        (Max, Some("v"), Double),
        (Max, Some("v"), Integer),
        (Sum, Some("v"), Integer),
        (Sum, Some("v"), Double),
        (Avg, Some("v"), Integer),
        (Avg, Some("v"), Double),
    ])
}

fn groups() -> impl Strategy<Value = Option<GroupBy>> {
    prop::sample::select(vec![
        None,
        Some(GroupBy::TimeWidth(Duration::from_secs(60))),
        Some(GroupBy::TimeWidth(Duration::from_secs(7_200))),
        Some(GroupBy::Item(item_key("k"))),
        Some(GroupBy::Item(item_key("v"))),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_aggregation_agrees_with_looking_at_every_event(
        layout in layout(), events in events(), interval in bounds(), (kind, item, field_type) in kinds(),
        group_by in groups(), by_id in any::<bool>(), page_size in 1usize..10, yields in any::<bool>(),
        call_takes in prop::sample::select(vec![0u64, 0, 9_000]), restarts in any::<bool>(),
    ) {
        run(async move {
            let mut world = layout.world().await;
            set_type(&mut world, "v", field_type);
            world.write(events).await;
            world.store.yields.store(yields, Ordering::Relaxed);
            world.store.takes(Duration::from_millis(call_takes));
            let query = by_id.then(|| ids(&["a", "b"]));
            let matching = world.expect(interval, Direction::Ascending, |record| {
                !by_id || record.time_series_id != series("c")
            });
            let aggregation = aggregation(kind, item, group_by);
            let expected = model(&matching, &aggregation, field_type);

            let mut request = request(&world, query, aggregation);
            request.interval = interval;
            request.paging.page_size = page_size;
            let mut rows = Vec::new();
            let mut cut = false;
            for pages in 1.. {
                let page = world.reader.aggregate(&world.view, request.clone()).await.unwrap();
                assert!(page.rows.len() <= page_size);
                cut |= page.context.partial.is_some();
                rows.extend(page.rows);
                if page.next_page_token.is_empty() {
                    break;
                }
                assert!(pages < 5_000, "it ends");
                request.paging.page_token = page.next_page_token;
                if restarts {
                    world.restart();
                }
            }
            assert!(cut || call_takes > 0 || rows.len() == expected.len());
            if !cut {
                let groups: Vec<_> = rows.iter().map(|row| row.group.clone()).collect();
                assert!(groups.is_sorted(), "rows come in group order");
            }
            let found = merged(kind, rows);
            assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
            for (place, row) in &found {
                check(row, kind, &expected[place]);
            }
        });
    }
}

#[tokio::test]
async fn nothing_matched_is_one_row_of_nothing() {
    use AggregationKind::{Avg, Count, Distinct, Max, Sum};
    let mut world = World::all_time((60, 1)).await;
    set_type(&mut world, "v", FieldType::Integer);
    for (kind, value) in [
        (Count, Some(AggregatedValue::Integer(0))),
        (Sum, Some(AggregatedValue::Integer(0))),
        (Max, None),
        (Avg, None),
    ] {
        let request = request(&world, None, aggregation(kind, Some("v"), None));
        let page = world.reader.aggregate(&world.view, request).await.unwrap();
        assert_eq!(page.rows.len(), 1);
        assert_eq!((page.rows[0].count, &page.rows[0].value), (0, &value));
        assert_eq!(page.next_page_token, "");
        assert_eq!(page.context.partial, None);
    }
    let request = request(&world, None, aggregation(Distinct, Some("v"), None));
    assert!(
        world
            .reader
            .aggregate(&world.view, request)
            .await
            .unwrap()
            .rows
            .is_empty()
    );
}

#[tokio::test]
async fn integer_sums_are_exact_and_leave_the_integers_only_when_they_must() {
    let mut world = World::all_time((60, 1)).await;
    set_type(&mut world, "v", FieldType::Integer);
    let max = i64::MAX.to_string();
    world
        .write(vec![
            record("a", 1, "e", &[("v", &max)]),
            record("a", 2, "e", &[("v", "-5")]),
            record("a", 3, "e", &[("v", "5")]),
            record("a", 4, "e", &[("v", "not a number")]),
        ])
        .await;
    let sum = |world: &World| request(world, None, aggregation(AggregationKind::Sum, Some("v"), None));
    let page = world.reader.aggregate(&world.view, sum(&world)).await.unwrap();
    assert_eq!(page.rows[0].value, Some(AggregatedValue::Integer(i64::MAX)));
    assert_eq!(
        page.context.warnings,
        ["1 values of `v` are no INTEGER and are left out"]
    );
    world.write(vec![record("a", 5, "e", &[("v", "1")])]).await;
    let page = world.reader.aggregate(&world.view, sum(&world)).await.unwrap();
    assert_eq!(page.rows[0].value, Some(AggregatedValue::Double(2f64.powi(63))));
}

#[tokio::test]
async fn sums_of_what_is_no_number_are_refused_with_the_fix() {
    let mut world = World::all_time((60, 1)).await;
    set_type(&mut world, "flag", FieldType::Boolean);
    for (kind, key) in [(AggregationKind::Sum, "word"), (AggregationKind::Avg, "flag")] {
        let request = request(&world, None, aggregation(kind, Some(key), None));
        let refused = world.reader.aggregate(&world.view, request).await.unwrap_err();
        assert_eq!(refused.reason, Reason::InvalidAggregation);
        assert!(refused.fields[0].1.contains("field_mapping"), "{refused}");
    }
    for query in [
        aggregation(AggregationKind::Min, None, None),
        aggregation(
            AggregationKind::Count,
            None,
            Some(GroupBy::TimeWidth(Duration::from_nanos(999))),
        ),
    ] {
        let request = request(&world, None, query);
        let refused = world.reader.aggregate(&world.view, request).await.unwrap_err();
        assert_eq!(refused.reason, Reason::InvalidAggregation);
    }
}

#[tokio::test]
async fn distinct_values_that_are_equal_by_type_are_one_row_in_typed_order() {
    let mut world = World::all_time((60, 1)).await;
    set_type(&mut world, "v", FieldType::Double);
    let values = ["10", "9", "-1", "9.0", "0", "-0.0", "-2e3"];
    let events = values
        .iter()
        .enumerate()
        .map(|(n, value)| record("a", n as i64, "e", &[("v", value)]));
    world.write(events.collect()).await;
    let request = request(
        &world,
        None,
        aggregation(AggregationKind::Distinct, Some("v"), None),
    );
    let page = world.reader.aggregate(&world.view, request).await.unwrap();
    let rows: Vec<_> = page
        .rows
        .iter()
        .map(|row| (number(row.value.as_ref().unwrap()), row.count))
        .collect();
    assert_eq!(rows, [(-2000.0, 1), (-1.0, 1), (0.0, 2), (9.0, 2), (10.0, 1)]);
}

#[tokio::test]
async fn later_pages_of_rows_do_not_scan_again() {
    let mut world = World::all_time((3_600, 1)).await;
    let events = (0..300).map(|n| record("a", n * 60_000_000, "e", &[("k", &n.to_string())]));
    world.write(events.collect()).await;
    let group_by = Some(GroupBy::Item(item_key("k")));
    let mut request = request(&world, None, aggregation(AggregationKind::Count, None, group_by));
    request.paging.page_size = 100;
    let first = world
        .reader
        .aggregate(&world.view, request.clone())
        .await
        .unwrap();
    assert!(first.context.bytes_read > 0);
    request.paging.page_token = first.next_page_token;
    let second = world
        .reader
        .aggregate(&world.view, request.clone())
        .await
        .unwrap();
    assert_eq!((second.rows.len(), second.context.bytes_read), (100, 0));
    world.restart();
    let again = world.reader.aggregate(&world.view, request).await.unwrap();
    assert_eq!(again.rows, second.rows);
    assert_eq!(again.context.bytes_read, first.context.bytes_read);
}

/// Rows that an earlier walk left for its later pages are that walk's.
#[tokio::test]
async fn a_walk_that_begins_later_has_what_was_written_since() {
    let mut world = World::all_time((3_600, 1)).await;
    let group_by = Some(GroupBy::Item(item_key("k")));
    for round in 0..3 {
        let events = (0..4).map(|n| {
            let at = (round * 4 + n) * 60_000_000;
            record("a", at, "e", &[("k", &(n * (round + 1)).to_string())])
        });
        world.write(events.collect()).await;
        let mut request = request(
            &world,
            None,
            aggregation(AggregationKind::Count, None, group_by.clone()),
        );
        let whole = world
            .reader
            .aggregate(&world.view, request.clone())
            .await
            .unwrap();
        request.paging.page_size = 1;
        let mut rows = Vec::new();
        loop {
            let page = world
                .reader
                .aggregate(&world.view, request.clone())
                .await
                .unwrap();
            rows.extend(page.rows);
            if page.next_page_token.is_empty() {
                break;
            }
            request.paging.page_token = page.next_page_token;
        }
        assert_eq!(rows, whole.rows, "round {round}");
    }
}

#[tokio::test]
async fn too_many_groups_end_a_part_and_the_next_goes_on() {
    let mut world = World::hours(&[(600, 1), (600, 1)]).await;
    let events = (0..100).map(|n| record("a", n * 60_000_000, "e", &[("k", &n.to_string())]));
    world.write(events.collect()).await;
    world.limit(|limits| limits.groups_max = 30);
    let group_by = Some(GroupBy::Item(item_key("k")));
    for query in [None, Some(ids(&["a"])), Some(equals("k", "1"))] {
        let wanted = if query == Some(equals("k", "1")) { 1 } else { 100 };
        let mut request = request(
            &world,
            query,
            aggregation(AggregationKind::Count, None, group_by.clone()),
        );
        let mut rows = 0;
        let mut partial = 0;
        loop {
            let page = world
                .reader
                .aggregate(&world.view, request.clone())
                .await
                .unwrap();
            assert!(page.rows.len() <= 30);
            rows += page.rows.len();
            partial += usize::from(page.context.partial == Some(PartialReason::Groups));
            if page.next_page_token.is_empty() {
                break;
            }
            request.paging.page_token = page.next_page_token;
        }
        assert_eq!(rows, wanted);
        assert_eq!(
            partial,
            if wanted == 1 { 0 } else { 4 },
            "every part says that it is one"
        );
    }
}
