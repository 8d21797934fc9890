use std::sync::Arc;

use anabranch_model::{
    Consistency, Event, EventId, EventItem, EventKey, EventTime, ItemKey, NamespaceName, SliceName,
};
use bytes::Bytes;

use super::*;
use crate::conformance;
use crate::events::{EventBounds, TableKind};

fn open(folder: &Path) -> Arc<EmbeddedStore> {
    Arc::new(EmbeddedStore::open(folder, EngineOptions::small(), &Metrics::default()).unwrap())
}

fn table() -> TableName {
    TableName {
        namespace: NamespaceName::new("n").unwrap(),
        kind: TableKind::Data,
        slice: SliceName::new("all").unwrap(),
    }
}

fn partition(id: &str) -> PartitionKey {
    PartitionKey {
        slice: table().slice,
        time_series_id: TimeSeriesId::new(id).unwrap(),
        time_bucket: 0,
        event_bucket: 0,
    }
}

fn event(n: i64, items: usize) -> Event {
    let item = |n: usize| EventItem {
        key: ItemKey::new(format!("{n:04}")).unwrap(),
        value: Bytes::from_static(b"x"),
    };
    Event {
        key: EventKey {
            time: EventTime::from_micros(n),
            id: EventId::new("e").unwrap(),
        },
        items: (0..items).map(item).collect(),
    }
}

async fn append(store: &EmbeddedStore, partition: &PartitionKey, events: Vec<Event>) {
    let part = PartitionAppend {
        table: table(),
        partition: partition.clone(),
        events,
        consistency: Consistency::default(),
    };
    store.append(vec![part]).await.unwrap();
}

async fn scan_all(store: &EmbeddedStore, partition: &PartitionKey) -> Vec<Event> {
    let request = ScanRequest {
        table: table(),
        partition: partition.clone(),
        bounds: EventBounds::of_interval(anabranch_model::TimeInterval::ALL),
        direction: Direction::Ascending,
        events_max: usize::MAX,
        bytes_max: usize::MAX,
        consistency: Consistency::default(),
    };
    store.scan(&request).await.unwrap().events
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let count = std::sync::atomic::AtomicUsize::new(0);
    conformance::run(|| async {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let store = open(&folder.path().join(n.to_string()));
        conformance::Subject {
            events: store.clone(),
            records: store,
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_held_by_one_process_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("store");
    let first = open(&data_dir);
    let second = EmbeddedStore::open(&data_dir, EngineOptions::small(), &Metrics::default());
    let message = second.unwrap_err().to_string();
    assert!(message.contains("in use by another process"), "{message}");
    first.close().unwrap();
    first.close().unwrap();
    drop(first);
    drop(open(&data_dir));
}

/// An event's rows repeat its ids, so a request within every limit can be far more bytes of rows.
#[tokio::test(flavor = "multi_thread")]
async fn many_small_items_under_a_long_id_are_written_whole_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("store"));
    store.create_table(&table()).await.unwrap();
    let at = partition(&"i".repeat(1_024));
    let events: Vec<Event> = (0..40).map(|n| event(n, 1_024)).collect();
    append(&store, &at, events.clone()).await;
    assert_eq!(scan_all(&store, &at).await, events);
    store.delete_partition(&table(), &at).await.unwrap();
    assert_eq!(scan_all(&store, &at).await, []);
}

/// More keys than one commit takes, with another writer beside.
#[tokio::test(flavor = "multi_thread")]
async fn a_wide_partition_is_deleted_for_good_while_others_write() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("store");
    let mut store = open(&data_dir);
    store.create_table(&table()).await.unwrap();
    let (wide, other) = (partition(&"w".repeat(1_000)), partition("other"));
    for batch in 0..8 {
        let events = (0..1_000).map(|n| event(batch * 1_000 + n, 2)).collect();
        append(&store, &wide, events).await;
    }
    let before = store.engine.stats().commits;
    let events_table = table();
    let deleting = store.delete_partition(&events_table, &wide);
    let writing = async {
        for n in 0..50 {
            append(&store, &other, vec![event(n, 1)]).await;
            let seen = scan_all(&store, &wide).await;
            assert!(seen.iter().all(|event| event.items.len() == 2), "an event is cut");
        }
    };
    let (deleted, ()) = tokio::join!(deleting, writing);
    deleted.unwrap();
    let commits = store.engine.stats().commits - before;
    assert!(commits >= 16, "16 MB of keys went in {commits} commits");
    append(&store, &wide, vec![event(-1, 1)]).await;
    for _ in 0..2 {
        assert_eq!(scan_all(&store, &wide).await, [event(-1, 1)]);
        assert_eq!(scan_all(&store, &other).await.len(), 50);
        store.close().unwrap();
        drop(store);
        store = open(&data_dir);
    }
}
