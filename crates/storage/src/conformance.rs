#![expect(clippy::panic, reason = "a suite of checks panics when a check fails")]
//! The contract of the store traits, as code: every backend passes every check here.
//!
//! A check takes a fresh [`Subject`]; a backend's test calls [`run`] with a way to make one.

mod deletes;
mod records;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use anabranch_model::{
    Consistency, Direction, Event, EventId, EventItem, EventKey, EventTime, ItemKey, NamespaceName,
    PartitionKey, SliceName, TimeInterval, TimeSeriesId,
};
use bytes::Bytes;

use crate::error::ErrorKind;
use crate::events::{EventBounds, EventStore, PartitionAppend, ScanEnd, ScanRequest, TableKind, TableName};
use crate::records::RecordStore;

/// A store under test, with nothing in it.
#[derive(Debug)]
pub struct Subject {
    /// The events.
    pub events: Arc<dyn EventStore>,
    /// The records.
    pub records: Arc<dyn RecordStore>,
}

/// Runs every check, each on a fresh subject.
///
/// # Panics
/// When the backend breaks the contract.
pub async fn run<F: Future<Output = Subject>>(make: impl Fn() -> F) {
    run_events(&make).await;
    run_records(&make).await;
}

/// Runs the checks of the events: they use the namespace `ns` and its slice `all`, and leave no record.
///
/// # Panics
/// When the backend breaks the contract.
pub async fn run_events<F: Future<Output = Subject>>(make: impl Fn() -> F) {
    appended_events_are_scanned_in_order(make().await).await;
    repeated_append_yields_one_event(make().await).await;
    bounds_include_and_exclude_as_they_say(make().await).await;
    pages_hold_whole_events_and_resume(make().await).await;
    many_events_at_one_instant_page_in_order(make().await).await;
    parts_of_an_append_stand_for_themselves(make().await).await;
    partitions_do_not_mix(make().await).await;
    buckets_are_found_in_both_directions(make().await).await;
    partitions_are_listed_once_in_a_fixed_order(make().await).await;
    dropped_tables_are_gone_and_come_back_empty(make().await).await;
    deletes::a_deleted_partition_is_empty_and_takes_appends(make().await).await;
    deletes::deleting_removes_one_partition_and_no_more(make().await).await;
    deletes::deleting_nothing_changes_nothing(make().await).await;
    deletes::tables_of_two_kinds_do_not_mix(make().await).await;
    hostile_text_is_only_text(make().await).await;
}

/// Runs the checks of the records.
///
/// # Panics
/// When the backend breaks the contract.
pub async fn run_records<F: Future<Output = Subject>>(make: impl Fn() -> F) {
    records::records_change_only_from_the_expected_version(make().await).await;
    records::one_of_many_racing_changes_wins(make().await).await;
    records::records_are_listed_by_prefix(make().await).await;
    records::split_records_are_listed_by_prefix(make().await).await;
}

fn name<T, E: std::fmt::Debug>(made: Result<T, E>) -> T {
    made.unwrap_or_else(|error| panic!("test name is refused: {error:?}"))
}

fn table(namespace: &str, slice: &str) -> TableName {
    TableName {
        namespace: name(NamespaceName::new(namespace)),
        kind: TableKind::Data,
        slice: name(SliceName::new(slice)),
    }
}

fn partition(id: &str, time_bucket: i64, event_bucket: u32) -> PartitionKey {
    PartitionKey {
        slice: name(SliceName::new("all")),
        time_series_id: name(TimeSeriesId::new(id)),
        time_bucket,
        event_bucket,
    }
}

fn key(micros: i64, id: &str) -> EventKey {
    EventKey {
        time: EventTime::from_micros(micros),
        id: name(EventId::new(id)),
    }
}

fn event(micros: i64, id: &str, items: &[(&str, &str)]) -> Event {
    let items: BTreeMap<&str, &str> = items.iter().copied().collect();
    Event {
        key: key(micros, id),
        items: items
            .into_iter()
            .map(|(k, v)| EventItem {
                key: name(ItemKey::new(k)),
                value: Bytes::copy_from_slice(v.as_bytes()),
            })
            .collect(),
    }
}

fn scan(table: &TableName, partition: &PartitionKey, direction: Direction) -> ScanRequest {
    ScanRequest {
        table: table.clone(),
        partition: partition.clone(),
        bounds: EventBounds::of_interval(TimeInterval::ALL),
        direction,
        events_max: 1_000_000,
        bytes_max: 1 << 30,
        consistency: Consistency::default(),
    }
}

async fn append(subject: &Subject, table: &TableName, partition: &PartitionKey, events: Vec<Event>) {
    let part = PartitionAppend {
        table: table.clone(),
        partition: partition.clone(),
        events,
        consistency: Consistency::default(),
    };
    subject
        .events
        .append(vec![part])
        .await
        .unwrap_or_else(|failure| panic!("append: {failure:?}"));
}

async fn all(subject: &Subject, request: ScanRequest) -> Vec<Event> {
    let mut request = request;
    let mut events = Vec::new();
    loop {
        let page = subject
            .events
            .scan(&request)
            .await
            .unwrap_or_else(|error| panic!("scan: {error}"));
        assert!(
            page.events.len() <= request.events_max,
            "a page holds at most events_max"
        );
        events.extend(page.events);
        match page.end {
            ScanEnd::Exhausted => return events,
            ScanEnd::More { after } => request.bounds = request.bounds.after(after, request.direction),
        }
    }
}

async fn with_table(subject: &Subject) -> TableName {
    let table = table("ns", "all");
    subject
        .events
        .create_table(&table)
        .await
        .unwrap_or_else(|error| panic!("create: {error}"));
    // Making a table again changes nothing.
    subject
        .events
        .create_table(&table)
        .await
        .unwrap_or_else(|error| panic!("create again: {error}"));
    table
}

async fn appended_events_are_scanned_in_order(subject: Subject) {
    let table = with_table(&subject).await;
    let at = partition("id", 0, 0);
    let mut events = vec![
        event(5, "b", &[("k", "5b")]),
        event(-3, "a", &[("z", "1"), ("a", "2"), ("m", "3")]),
        event(5, "a", &[("k", "5a")]),
        event(5, "ab", &[("k", "")]),
        event(7, "Z", &[("k", "7")]),
    ];
    append(&subject, &table, &at, events.clone()).await;
    events.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(
        all(&subject, scan(&table, &at, Direction::Ascending)).await,
        events
    );
    events.reverse();
    assert_eq!(
        all(&subject, scan(&table, &at, Direction::Descending)).await,
        events
    );
}

async fn repeated_append_yields_one_event(subject: Subject) {
    let table = with_table(&subject).await;
    let at = partition("id", 0, 0);
    append(
        &subject,
        &table,
        &at,
        vec![event(1, "a", &[("k", "1"), ("l", "1")])],
    )
    .await;
    append(
        &subject,
        &table,
        &at,
        vec![event(1, "a", &[("k", "1"), ("l", "1")])],
    )
    .await;
    append(
        &subject,
        &table,
        &at,
        vec![event(1, "a", &[("l", "2"), ("m", "3")])],
    )
    .await;
    let found = all(&subject, scan(&table, &at, Direction::Ascending)).await;
    assert_eq!(found, [event(1, "a", &[("k", "1"), ("l", "2"), ("m", "3")])]);
}

async fn bounds_include_and_exclude_as_they_say(subject: Subject) {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let table = with_table(&subject).await;
    let at = partition("id", 0, 0);
    let events: Vec<Event> = (0..6)
        .map(|n| event(n / 2, if n % 2 == 0 { "a" } else { "b" }, &[("k", "v")]))
        .collect();
    append(&subject, &table, &at, events.clone()).await;
    let ends = [
        Unbounded,
        Included(key(1, "a")),
        Excluded(key(1, "a")),
        Included(key(1, "b")),
        Excluded(key(1, "b")),
        Included(key(1, "aa")),
        Excluded(key(3, "a")),
    ];
    for lower in &ends {
        for upper in &ends {
            for (start, end) in [(i64::MIN, i64::MAX), (0, 2), (1, 2), (1, 1), (2, 9)] {
                let interval = TimeInterval {
                    start: EventTime::from_micros(start),
                    end: EventTime::from_micros(end),
                };
                let bounds = EventBounds {
                    lower: lower.clone(),
                    upper: upper.clone(),
                    interval,
                };
                for direction in [Direction::Ascending, Direction::Descending] {
                    let mut expected: Vec<Event> = events
                        .iter()
                        .filter(|event| bounds.contains(&event.key))
                        .cloned()
                        .collect();
                    if direction == Direction::Descending {
                        expected.reverse();
                    }
                    let request = ScanRequest {
                        bounds: bounds.clone(),
                        ..scan(&table, &at, direction)
                    };
                    assert_eq!(all(&subject, request).await, expected, "{bounds:?} {direction:?}");
                }
            }
        }
    }
}

async fn pages_hold_whole_events_and_resume(subject: Subject) {
    let table = with_table(&subject).await;
    let at = partition("id", 0, 0);
    let value = "x".repeat(300);
    let events: Vec<Event> = (0..20)
        .map(|n| event(n, "e", &[("a", &value), ("b", &value), ("c", "")]))
        .collect();
    append(&subject, &table, &at, events.clone()).await;
    let whole = subject
        .events
        .scan(&scan(&table, &at, Direction::Ascending))
        .await;
    let whole = whole.unwrap_or_else(|error| panic!("scan: {error}"));
    assert!(
        whole.bytes_read >= 20 * 600,
        "every byte read is counted: {}",
        whole.bytes_read
    );
    for direction in [Direction::Ascending, Direction::Descending] {
        let mut expected = events.clone();
        if direction == Direction::Descending {
            expected.reverse();
        }
        for events_max in [1, 3, 20, 21] {
            let request = ScanRequest {
                events_max,
                ..scan(&table, &at, direction)
            };
            assert_eq!(all(&subject, request).await, expected);
        }
        // One event is bigger than this budget: it comes alone, and the walk goes on.
        for bytes_max in [1, 700, 5_000] {
            let request = ScanRequest {
                bytes_max,
                ..scan(&table, &at, direction)
            };
            let first = subject
                .events
                .scan(&request)
                .await
                .unwrap_or_else(|error| panic!("scan: {error}"));
            assert!(first.events.len() < 20, "{bytes_max} bytes can not hold all");
            assert_eq!(all(&subject, request).await, expected);
        }
    }
}

async fn many_events_at_one_instant_page_in_order(subject: Subject) {
    let table = with_table(&subject).await;
    let at = partition("id", 0, 0);
    let mut events: Vec<Event> = (0..2_000)
        .map(|n| event(42, &format!("{n}"), &[("k", "v")]))
        .collect();
    append(&subject, &table, &at, events.clone()).await;
    events.sort_by(|a, b| a.key.cmp(&b.key));
    let request = ScanRequest {
        events_max: 7,
        ..scan(&table, &at, Direction::Ascending)
    };
    assert_eq!(all(&subject, request).await, events);
    events.reverse();
    let request = ScanRequest {
        events_max: 10,
        ..scan(&table, &at, Direction::Descending)
    };
    assert_eq!(all(&subject, request).await, events);
}

async fn parts_of_an_append_stand_for_themselves(subject: Subject) {
    let table = with_table(&subject).await;
    let missing = self::table("ns", "20200101");
    let at = partition("id", 0, 0);
    let part = |table: &TableName, n: i64| PartitionAppend {
        table: table.clone(),
        partition: at.clone(),
        events: vec![event(n, "e", &[("k", "v")])],
        consistency: Consistency::default(),
    };
    let parts = vec![part(&table, 1), part(&missing, 2), part(&table, 3)];
    let Err(failure) = subject.events.append(parts).await else {
        panic!("the second part has no table")
    };
    assert_eq!(
        failure.failed.iter().map(|(index, _)| *index).collect::<Vec<_>>(),
        [1]
    );
    assert_eq!(
        failure.failed.first().map(|(_, error)| error.kind()),
        Some(ErrorKind::NotFound)
    );
    assert_eq!(
        all(&subject, scan(&table, &at, Direction::Ascending)).await.len(),
        2
    );
}

async fn partitions_do_not_mix(subject: Subject) {
    let table = with_table(&subject).await;
    let places = [
        partition("a", 0, 0),
        partition("a", 0, 1),
        partition("a", 1, 0),
        partition("a", -1, 0),
        partition("a\0", 0, 0),
        partition("aa", 0, 0),
        partition("A", 0, 0),
    ];
    for (n, place) in (0i64..).zip(&places) {
        append(&subject, &table, place, vec![event(n, "e", &[("k", "v")])]).await;
    }
    for (n, place) in (0i64..).zip(&places) {
        let found = all(&subject, scan(&table, place, Direction::Descending)).await;
        assert_eq!(found, [event(n, "e", &[("k", "v")])], "{place}");
    }
    let none = partition("b", 0, 0);
    assert_eq!(all(&subject, scan(&table, &none, Direction::Ascending)).await, []);
}

async fn buckets_are_found_in_both_directions(subject: Subject) {
    let table = with_table(&subject).await;
    for bucket in [-7, 3, 4, 900] {
        append(
            &subject,
            &table,
            &partition("id", bucket, 1),
            vec![event(bucket, "e", &[("k", "v")])],
        )
        .await;
        append(
            &subject,
            &table,
            &partition("other", bucket + 1, 0),
            vec![event(bucket, "e", &[("k", "v")])],
        )
        .await;
    }
    let id = name(TimeSeriesId::new("id"));
    for (direction, from, to, exact) in [
        (Direction::Ascending, -100, 100, Some(-7)),
        (Direction::Ascending, -6, 100, Some(3)),
        (Direction::Ascending, 4, 4, Some(4)),
        (Direction::Ascending, 5, 899, None),
        (Direction::Descending, 1_000, -100, Some(900)),
        (Direction::Descending, 899, 0, Some(4)),
        (Direction::Descending, 2, -6, None),
    ] {
        let found = subject
            .events
            .next_time_bucket(&table, &id, from, to, direction)
            .await;
        let found = found.unwrap_or_else(|error| panic!("next bucket: {error}"));
        // A backend that can not know answers `from`; what it must not do is skip.
        assert!(
            found == exact || (found == Some(from) && !subject.events.finds_time_buckets()),
            "{direction:?} {from}..{to}: {found:?}"
        );
    }
}

async fn partitions_are_listed_once_in_a_fixed_order(subject: Subject) {
    let table = with_table(&subject).await;
    let mut places = Vec::new();
    for id in ["a", "b", "c\0d"] {
        for bucket in [-1, 0, 5] {
            for event_bucket in [0, 3] {
                let place = partition(id, bucket, event_bucket);
                let events = (0..5).map(|n| event(n, "e", &[("k", "v"), ("l", "v")])).collect();
                append(&subject, &table, &place, events).await;
                places.push(place);
            }
        }
    }
    let mut orders = Vec::new();
    for partitions_max in [1, 4, 100] {
        let mut found: Vec<PartitionKey> = Vec::new();
        loop {
            let page = subject
                .events
                .partitions(&table, found.last(), partitions_max)
                .await;
            let page = page.unwrap_or_else(|error| panic!("partitions: {error}"));
            assert!(page.len() <= partitions_max);
            if page.is_empty() {
                break;
            }
            found.extend(page);
        }
        orders.push(found);
    }
    assert!(
        orders.windows(2).all(|pair| pair.first() == pair.last()),
        "the order does not depend on the page size"
    );
    let mut found = orders.pop().unwrap_or_default();
    found.sort();
    assert_eq!(found, places);
}

async fn dropped_tables_are_gone_and_come_back_empty(subject: Subject) {
    let table = with_table(&subject).await;
    let at = partition("id", 0, 0);
    append(&subject, &table, &at, vec![event(1, "e", &[("k", "v")])]).await;
    for _ in 0..2 {
        subject
            .events
            .drop_table(&table)
            .await
            .unwrap_or_else(|error| panic!("drop: {error}"));
    }
    let gone = subject
        .events
        .scan(&scan(&table, &at, Direction::Ascending))
        .await;
    assert_eq!(gone.err().map(|error| error.kind()), Some(ErrorKind::NotFound));
    let listed = subject.events.partitions(&table, None, 10).await;
    assert_eq!(listed.err().map(|error| error.kind()), Some(ErrorKind::NotFound));
    with_table(&subject).await;
    assert_eq!(all(&subject, scan(&table, &at, Direction::Ascending)).await, []);
}

async fn hostile_text_is_only_text(subject: Subject) {
    let table = with_table(&subject).await;
    let texts = [
        "'; DROP TABLE x; --",
        "a\0b",
        "\u{10FFFF}\u{1}",
        "../../etc",
        "%s{}",
        "日本語",
        "\"\\\n\r\t",
    ];
    for id in texts {
        for text in texts {
            append(
                &subject,
                &table,
                &partition(id, 0, 0),
                vec![event(1, text, &[(text, text)])],
            )
            .await;
        }
    }
    for id in texts {
        let mut expected: Vec<Event> = texts.iter().map(|text| event(1, text, &[(text, text)])).collect();
        expected.sort_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(
            all(&subject, scan(&table, &partition(id, 0, 0), Direction::Ascending)).await,
            expected
        );
    }
}
