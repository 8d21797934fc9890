//! A real backend that keeps everything in ordered maps, and the oracle for the others.
//!
//! Its own order of partitions is that of [`PartitionKey`], which the embedded store shares.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anabranch_model::{
    Direction, Event, EventItem, EventKey, ItemKey, NamespaceName, PartitionKey, TimeSeriesId,
};
use async_trait::async_trait;
use bytes::Bytes;

use crate::error::StoreError;
use crate::events::{AppendFailure, EventStore, PartitionAppend, ScanEnd, ScanPage, ScanRequest, TableName};
use crate::keys::row_bytes;
use crate::records::{CasOutcome, RecordKey, RecordPrefix, RecordStore, VersionedRecord};

type Partition = BTreeMap<EventKey, BTreeMap<ItemKey, Bytes>>;

/// Everything, in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    tables: Mutex<BTreeMap<TableName, BTreeMap<PartitionKey, Partition>>>,
    records: Mutex<BTreeMap<RecordKey, VersionedRecord>>,
}

impl MemoryStore {
    /// A store with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    fn tables(&self) -> MutexGuard<'_, BTreeMap<TableName, BTreeMap<PartitionKey, Partition>>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The namespaces that have tables.
    pub fn namespaces(&self) -> BTreeSet<NamespaceName> {
        self.tables()
            .keys()
            .map(|table| table.namespace.clone())
            .collect()
    }
}

fn no_table(table: &TableName) -> StoreError {
    StoreError::NoTable {
        table: table.to_string(),
    }
}

#[async_trait]
impl EventStore for MemoryStore {
    async fn create_table(&self, table: &TableName) -> Result<(), StoreError> {
        self.tables().entry(table.clone()).or_default();
        Ok(())
    }

    async fn drop_table(&self, table: &TableName) -> Result<(), StoreError> {
        self.tables().remove(table);
        Ok(())
    }

    async fn append(&self, parts: Vec<PartitionAppend>) -> Result<(), AppendFailure> {
        let mut tables = self.tables();
        let mut failed = Vec::new();
        for (index, part) in parts.into_iter().enumerate() {
            let Some(table) = tables.get_mut(&part.table) else {
                failed.push((index, no_table(&part.table)));
                continue;
            };
            let partition = table.entry(part.partition).or_default();
            for event in part.events {
                let items = partition.entry(event.key).or_default();
                items.extend(event.items.into_iter().map(|item| (item.key, item.value)));
            }
        }
        if failed.is_empty() {
            Ok(())
        } else {
            Err(AppendFailure { failed })
        }
    }

    async fn delete_partition(&self, table: &TableName, partition: &PartitionKey) -> Result<(), StoreError> {
        let mut tables = self.tables();
        let partitions = tables.get_mut(table).ok_or_else(|| no_table(table))?;
        partitions.remove(partition);
        Ok(())
    }

    async fn scan(&self, request: &ScanRequest) -> Result<ScanPage, StoreError> {
        let tables = self.tables();
        let table = tables
            .get(&request.table)
            .ok_or_else(|| no_table(&request.table))?;
        let mut page = ScanPage {
            events: Vec::new(),
            bytes_read: 0,
            end: ScanEnd::Exhausted,
        };
        let Some(partition) = table.get(&request.partition) else {
            return Ok(page);
        };
        let mut rows: Vec<_> = partition
            .iter()
            .filter(|(key, _)| request.bounds.contains(key))
            .collect();
        if request.direction == Direction::Descending {
            rows.reverse();
        }
        for (key, items) in rows {
            let full = page.events.len() >= request.events_max || page.bytes_read >= request.bytes_max as u64;
            if let (true, Some(last)) = (full, page.events.last()) {
                page.end = ScanEnd::More {
                    after: last.key.clone(),
                };
                break;
            }
            page.bytes_read += items
                .iter()
                .map(|(item_key, value)| {
                    row_bytes(&request.partition.time_series_id, &key.id, item_key, value)
                })
                .sum::<u64>();
            let items = items.iter().map(|(key, value)| EventItem {
                key: key.clone(),
                value: value.clone(),
            });
            page.events.push(Event {
                key: key.clone(),
                items: items.collect(),
            });
        }
        Ok(page)
    }

    fn finds_time_buckets(&self) -> bool {
        true
    }

    async fn next_time_bucket(
        &self,
        table: &TableName,
        time_series_id: &TimeSeriesId,
        from: i64,
        to: i64,
        direction: Direction,
    ) -> Result<Option<i64>, StoreError> {
        let tables = self.tables();
        let partitions = tables.get(table).ok_or_else(|| no_table(table))?;
        let buckets = partitions
            .keys()
            .filter(|partition| partition.time_series_id == *time_series_id)
            .map(|partition| partition.time_bucket);
        Ok(match direction {
            Direction::Ascending => buckets.filter(|bucket| (from..=to).contains(bucket)).min(),
            Direction::Descending => buckets.filter(|bucket| (to..=from).contains(bucket)).max(),
        })
    }

    async fn partitions(
        &self,
        table: &TableName,
        after: Option<&PartitionKey>,
        partitions_max: usize,
    ) -> Result<Vec<PartitionKey>, StoreError> {
        let tables = self.tables();
        let partitions = tables.get(table).ok_or_else(|| no_table(table))?;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        Ok(partitions
            .range((from, Bound::Unbounded))
            .map(|(key, _)| key.clone())
            .take(partitions_max)
            .collect())
    }
}

#[async_trait]
impl RecordStore for MemoryStore {
    async fn get(&self, key: &RecordKey) -> Result<Option<VersionedRecord>, StoreError> {
        Ok(self
            .records
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
            .cloned())
    }

    async fn compare_and_set(
        &self,
        key: &RecordKey,
        expected: u64,
        value: Option<Bytes>,
    ) -> Result<CasOutcome, StoreError> {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let current = records.get(key);
        if current.map_or(0, |record| record.version) != expected {
            return Ok(CasOutcome::Conflict {
                current: current.cloned(),
            });
        }
        let version = expected + 1;
        records.insert(key.clone(), VersionedRecord { version, value });
        Ok(CasOutcome::Applied { version })
    }

    async fn list(
        &self,
        prefix: &RecordPrefix,
        after: Option<&RecordKey>,
        records_max: usize,
    ) -> Result<Vec<(RecordKey, VersionedRecord)>, StoreError> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        Ok(records
            .range((from, Bound::Unbounded))
            .filter(|(key, record)| prefix.holds(key) && record.value.is_some())
            .take(records_max)
            .map(|(key, record)| (key.clone(), record.clone()))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;
    use std::sync::Arc;

    #[tokio::test]
    async fn memory_conforms() {
        conformance::run(|| async {
            let store = Arc::new(MemoryStore::new());
            conformance::Subject {
                events: store.clone(),
                records: store,
            }
        })
        .await;
    }
}
