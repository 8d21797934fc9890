//! Deleting a partition: nothing of it is left, and everything else is.

use anabranch_model::{Direction, Event, PartitionKey, TimeSeriesId};

use super::{Subject, all, append, event, name, partition, scan, with_table};
use crate::error::ErrorKind;
use crate::events::{ScanEnd, TableKind, TableName};

async fn delete(subject: &Subject, table: &TableName, partition: &PartitionKey) {
    let deleted = subject.events.delete_partition(table, partition).await;
    deleted.unwrap_or_else(|error| panic!("delete: {error}"));
}

pub(super) async fn a_deleted_partition_is_empty_and_takes_appends(subject: Subject) {
    let table = with_table(&subject).await;
    let at = partition("id", 3, 1);
    let events: Vec<Event> = (0..3_000)
        .map(|n| event(n / 7, &format!("{n:04}"), &[("a", "1"), ("b", "2"), ("c", "3")]))
        .collect();
    append(&subject, &table, &at, events.clone()).await;
    for direction in [Direction::Ascending, Direction::Descending] {
        // Twice: the second time what is deleted was written again.
        append(&subject, &table, &at, events.clone()).await;
        delete(&subject, &table, &at).await;
        let page = subject.events.scan(&scan(&table, &at, direction)).await;
        let page = page.unwrap_or_else(|error| panic!("scan: {error}"));
        assert_eq!((page.events, page.end), (vec![], ScanEnd::Exhausted));
        assert_eq!(page.bytes_read, 0, "nothing is left to read");
    }
    let listed = subject.events.partitions(&table, None, 10).await;
    assert_eq!(listed.unwrap_or_else(|error| panic!("partitions: {error}")), []);
    let again = event(5, "x", &[("a", "again")]);
    append(&subject, &table, &at, vec![again.clone()]).await;
    assert_eq!(
        all(&subject, scan(&table, &at, Direction::Descending)).await,
        [again]
    );
}

pub(super) async fn deleting_removes_one_partition_and_no_more(subject: Subject) {
    let table = with_table(&subject).await;
    let places = [
        partition("a", 0, 0),
        partition("a", 0, 1),
        partition("a", 1, 0),
        partition("a", -1, 0),
        partition("a\0", 0, 0),
        partition("aa", 0, 0),
    ];
    for (n, place) in (0i64..).zip(&places) {
        append(&subject, &table, place, vec![event(n, "e", &[("k", "v")])]).await;
    }
    delete(&subject, &table, &partition("a", 0, 0)).await;
    for (n, place) in (0i64..).zip(&places) {
        let found = all(&subject, scan(&table, place, Direction::Descending)).await;
        let expected = (n != 0).then(|| event(n, "e", &[("k", "v")]));
        assert_eq!(found, Vec::from_iter(expected), "{place}");
    }
    let found = subject
        .events
        .next_time_bucket(&table, &name(TimeSeriesId::new("a")), 0, 5, Direction::Ascending)
        .await;
    let found = found.unwrap_or_else(|error| panic!("next bucket: {error}"));
    assert!(found == Some(0), "an event bucket of it is left: {found:?}");
}

pub(super) async fn deleting_nothing_changes_nothing(subject: Subject) {
    let table = with_table(&subject).await;
    let at = partition("id", 0, 0);
    delete(&subject, &table, &at).await;
    append(&subject, &table, &at, vec![event(1, "e", &[("k", "v")])]).await;
    delete(&subject, &table, &partition("other", 0, 0)).await;
    assert_eq!(
        all(&subject, scan(&table, &at, Direction::Ascending)).await.len(),
        1
    );
    let missing = super::table("ns", "20200101");
    let refused = subject.events.delete_partition(&missing, &at).await;
    assert_eq!(refused.err().map(|error| error.kind()), Some(ErrorKind::NotFound));
}

pub(super) async fn tables_of_two_kinds_do_not_mix(subject: Subject) {
    let data = with_table(&subject).await;
    let wide = TableName {
        kind: TableKind::Wide,
        ..data.clone()
    };
    let at = partition("id", 0, 0);
    let missing = subject.events.scan(&scan(&wide, &at, Direction::Ascending)).await;
    assert_eq!(missing.err().map(|error| error.kind()), Some(ErrorKind::NotFound));
    let made = subject.events.create_table(&wide).await;
    made.unwrap_or_else(|error| panic!("create: {error}"));
    for (n, table) in [(1, &data), (2, &wide)] {
        append(&subject, table, &at, vec![event(n, "e", &[("k", "v")])]).await;
    }
    delete(&subject, &wide, &at).await;
    assert_eq!(all(&subject, scan(&wide, &at, Direction::Ascending)).await, []);
    let dropped = subject.events.drop_table(&wide).await;
    dropped.unwrap_or_else(|error| panic!("drop: {error}"));
    assert_eq!(
        all(&subject, scan(&data, &at, Direction::Ascending)).await,
        [event(1, "e", &[("k", "v")])]
    );
}
