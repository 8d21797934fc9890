use std::sync::Arc;

use super::*;
use crate::conformance;

fn open(folder: &Path) -> Arc<EmbeddedStore> {
    Arc::new(EmbeddedStore::open(folder, EngineOptions::small(), &Metrics::default()).unwrap())
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
async fn many_small_items_under_a_long_id_are_written_whole() {
    use anabranch_model::{
        Event, EventId, EventItem, EventKey, EventTime, ItemKey, NamespaceName, SliceName,
    };
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("store"));
    let table = TableName {
        namespace: NamespaceName::new("n").unwrap(),
        kind: crate::events::TableKind::Data,
        slice: SliceName::new("all").unwrap(),
    };
    store.create_table(&table).await.unwrap();
    let partition = PartitionKey {
        slice: table.slice.clone(),
        time_series_id: TimeSeriesId::new("i".repeat(1_024)).unwrap(),
        time_bucket: 0,
        event_bucket: 0,
    };
    let item = |n: usize| EventItem {
        key: ItemKey::new(format!("{n:04}")).unwrap(),
        value: bytes::Bytes::from_static(b"x"),
    };
    let event = |n: i64| Event {
        key: EventKey {
            time: EventTime::from_micros(n),
            id: EventId::new("e").unwrap(),
        },
        items: (0..1_024).map(item).collect(),
    };
    let events: Vec<Event> = (0..40).map(event).collect();
    let part = PartitionAppend {
        table: table.clone(),
        partition: partition.clone(),
        events: events.clone(),
    };
    store.append(vec![part]).await.unwrap();
    let request = ScanRequest {
        table,
        partition,
        bounds: crate::events::EventBounds::of_interval(anabranch_model::TimeInterval::ALL),
        direction: Direction::Ascending,
        events_max: 100,
        bytes_max: usize::MAX,
    };
    assert_eq!(store.scan(&request).await.unwrap().events, events);
}
