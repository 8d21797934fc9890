use std::sync::Arc;

use anabranch_model::layout::slice_at;
use anabranch_model::{
    Consistency, EventId, EventItem, EventTime, ItemKey, NamespaceName, PartitionKey, TimeInterval,
};
use anabranch_runtime::telemetry::Metrics;
use anabranch_storage::memory::MemoryStore;
use anabranch_storage::{EventBounds, EventStore, PartitionAppend, ScanRequest, TableKind, TableName};
use bytes::Bytes;
use proptest::prelude::*;
use tokio::sync::Semaphore;

use super::*;
use crate::read::diversion::Diversion;
use crate::read::metrics::ReadMetrics;
use crate::split::Way;

fn event(time: i64, id: u8) -> Event {
    Event {
        key: EventKey {
            time: EventTime::from_micros(time),
            id: EventId::new(format!("e{id}")).unwrap(),
        },
        items: vec![EventItem {
            key: ItemKey::new("k").unwrap(),
            value: Bytes::from_static(b"v"),
        }],
    }
}

async fn merged(
    streams: Vec<Vec<(i64, u8)>>,
    direction: Direction,
    events_max: usize,
) -> (Vec<(EventKey, TimeSeriesId)>, Vec<(EventKey, TimeSeriesId)>) {
    let store = Arc::new(MemoryStore::new());
    let (slice, _) = slice_at(EventTime::from_micros(0), 0).unwrap();
    let table = TableName {
        namespace: NamespaceName::new("ns").unwrap(),
        kind: TableKind::Data,
        slice: slice.clone(),
    };
    store.create_table(&table).await.unwrap();
    let mut model = std::collections::BTreeSet::new();
    let mut open = Vec::new();
    for (index, events) in streams.into_iter().enumerate() {
        let partition = PartitionKey {
            slice: slice.clone(),
            time_series_id: TimeSeriesId::new(format!("id{index}")).unwrap(),
            time_bucket: 0,
            event_bucket: 0,
        };
        let events: Vec<Event> = events.into_iter().map(|(time, id)| event(time, id)).collect();
        for event in &events {
            model.insert((event.key.clone(), partition.time_series_id.clone()));
        }
        let part = PartitionAppend {
            table: table.clone(),
            partition: partition.clone(),
            events,
            consistency: Consistency::default(),
        };
        store.append(vec![part]).await.unwrap();
        open.push(PartitionStream::new(ScanRequest {
            table: table.clone(),
            partition,
            bounds: EventBounds::of_interval(TimeInterval::ALL),
            direction,
            events_max: 0,
            bytes_max: 0,
            consistency: Consistency::default(),
        }));
    }
    let metrics = Arc::new(ReadMetrics::register(&Metrics::default()));
    let diversion = Diversion::new(crate::testing::empty_view(), None, Way::Originals);
    let fetch = Fetch::new(store, Arc::new(Semaphore::new(4)), 2, metrics, diversion, None);
    let mut merge = Merge::new(open, direction);
    let ask = Ask {
        events_max,
        bytes_max: 1 << 20,
    };
    let mut found = Vec::new();
    loop {
        while let Some((id, event)) = merge.pop() {
            found.push((event.key, id));
        }
        if merge.ready() {
            break;
        }
        merge.refill(&fetch, ask, 3).await.unwrap();
    }
    let mut expected: Vec<_> = model.into_iter().collect();
    if direction == Direction::Descending {
        expected.reverse();
    }
    (found, expected)
}

proptest! {
    #[test]
    fn streams_merge_as_one_sorted_list(
        streams in prop::collection::vec(prop::collection::vec((0i64..6, 0u8..5), 0..20), 0..6),
        ascending in any::<bool>(), events_max in 1usize..6,
    ) {
        let direction = if ascending { Direction::Ascending } else { Direction::Descending };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (found, expected) = runtime.block_on(merged(streams, direction, events_max));
        prop_assert_eq!(found, expected);
    }
}
