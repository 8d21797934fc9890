//! Reads a stretch of one partition to its end, a page at a time.

use anabranch_model::{Consistency, Direction, PartitionKey};

use crate::error::StoreError;
use crate::events::{EventBounds, EventStore, ScanEnd, ScanPage, ScanRequest, TableName};

/// Events of a page at most; pages are meant to end by their bytes.
const EVENTS_MAX: usize = 10_000;

/// A walk over the events of one partition, in the store's own order: newest first.
#[derive(Debug)]
pub struct Walk {
    request: ScanRequest,
    ended: bool,
}

impl Walk {
    /// A walk that has read nothing yet.
    pub fn new(
        table: TableName,
        partition: PartitionKey,
        bounds: EventBounds,
        page_bytes: usize,
        consistency: Consistency,
    ) -> Self {
        let request = ScanRequest {
            table,
            partition,
            bounds,
            direction: Direction::Descending,
            events_max: EVENTS_MAX,
            bytes_max: page_bytes.max(1),
            consistency,
        };
        Self {
            request,
            ended: false,
        }
    }

    /// The next page, which may be empty; `None` after the last.
    ///
    /// # Errors
    /// When the store does not answer. The same page may be asked for again.
    pub async fn next(&mut self, events: &dyn EventStore) -> Result<Option<ScanPage>, StoreError> {
        if self.ended {
            return Ok(None);
        }
        let page = events.scan(&self.request).await?;
        match &page.end {
            ScanEnd::Exhausted => self.ended = true,
            ScanEnd::More { after } => {
                let bounds = self.request.bounds.clone();
                self.request.bounds = bounds.after(after.clone(), self.request.direction);
            }
        }
        Ok(Some(page))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use anabranch_model::{
        Event, EventId, EventItem, EventKey, EventTime, ItemKey, NamespaceName, SliceName, TimeInterval,
        TimeSeriesId,
    };
    use bytes::Bytes;

    use super::*;
    use crate::events::{PartitionAppend, TableKind};
    use crate::memory::MemoryStore;

    #[tokio::test]
    async fn a_walk_meets_every_event_once_newest_first() {
        let store = Arc::new(MemoryStore::new());
        let slice = SliceName::new("20260101").unwrap();
        let table = TableName {
            namespace: NamespaceName::new("ns").unwrap(),
            kind: TableKind::Data,
            slice: slice.clone(),
        };
        let partition = PartitionKey {
            slice,
            time_series_id: TimeSeriesId::new("a").unwrap(),
            time_bucket: 0,
            event_bucket: 0,
        };
        let event = |n: i64| Event {
            key: EventKey {
                time: EventTime::from_micros(n),
                id: EventId::new("e").unwrap(),
            },
            items: vec![EventItem {
                key: ItemKey::new("k").unwrap(),
                value: Bytes::from_static(b"some bytes"),
            }],
        };
        store.create_table(&table).await.unwrap();
        let part = PartitionAppend {
            table: table.clone(),
            partition: partition.clone(),
            events: (0..100).map(event).collect(),
            consistency: Consistency::default(),
        };
        store.append(vec![part]).await.unwrap();
        let bounds = EventBounds::of_interval(TimeInterval::ALL);
        let mut walk = Walk::new(table, partition, bounds, 300, Consistency::default());
        let (mut times, mut pages) = (Vec::new(), 0);
        while let Some(page) = walk.next(&*store).await.unwrap() {
            pages += 1;
            times.extend(page.events.iter().map(|event| event.key.time.micros()));
        }
        assert!(pages > 10);
        assert_eq!(times, (0..100).rev().collect::<Vec<i64>>());
    }
}
