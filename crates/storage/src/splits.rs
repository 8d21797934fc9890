//! Split records, typed: read, moved by the one transition function, listed as far as they changed.
//!
//! ```text
//! step ─▶ SplitRecord::after ─▶ compare-and-set of the record ─▶ its shard's marker moves
//! ```
//!
//! - S3, S5: a record moves only from the version that the step was decided on.
//! - A record that can not be read, because a newer version wrote it or because it is damaged, is neither an error of
//!   the store nor a record: it is told as what it is ([`UnreadableSplit`]), beside those that can be read.
//! - A marker moves *after* the record that it tells of, so whoever sees the marker sees the record. A marker that was
//!   lost (a crash in between) is made up for by whoever lists everything from time to time.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_model::{EventTime, NamespaceName, PartitionKey, SliceName};
use anabranch_split::planted::{Bug, planted};
use anabranch_split::{IllegalStep, SplitRecord, Step, UnreadableRecord};
use bytes::Bytes;

use crate::error::StoreError;
use crate::keys::split_shard;
use crate::records::{CasOutcome, RecordKey, RecordPrefix, RecordStore, VersionedRecord};

/// Records asked for at once.
const LIST_MAX: usize = 500;

/// Handle on the split records of a store.
#[derive(Clone, Debug)]
pub struct SplitRecords(Arc<dyn RecordStore>);

/// A split record with the version to move it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSplit {
    /// Its version.
    pub version: u64,
    /// The record.
    pub record: Box<SplitRecord>,
}

/// A split record that this version can not read: a newer one wrote it, or it is damaged. Nobody here changes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableSplit {
    /// The partition.
    pub partition: PartitionKey,
    /// The record's version.
    pub version: u64,
    /// Why.
    pub why: UnreadableRecord,
}

/// A record of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListedSplit {
    /// One that can be read.
    Read(StoredSplit),
    /// One that can not.
    Unreadable(UnreadableSplit),
}

impl ListedSplit {
    /// Its partition.
    pub fn partition(&self) -> &PartitionKey {
        match self {
            Self::Read(stored) => &stored.record.partition,
            Self::Unreadable(unreadable) => &unreadable.partition,
        }
    }

    /// The record, if it can be read.
    pub fn read(self) -> Option<StoredSplit> {
        match self {
            Self::Read(stored) => Some(stored),
            Self::Unreadable(_) => None,
        }
    }
}

/// What stands under a partition's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SplitSlot {
    /// No record; one is made from this version.
    Free {
        /// 0, or the version of a removal.
        version: u64,
    },
    /// A record.
    Taken(StoredSplit),
    /// One that can not be read.
    Unreadable(UnreadableSplit),
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moved {
    /// The record stands so now.
    To(StoredSplit),
    /// Somebody else moved it first: read it again, then decide.
    Overtaken,
    /// The record does not take the step.
    Illegal(IllegalStep),
}

impl SplitRecords {
    /// The split records among these records.
    pub fn new(records: Arc<dyn RecordStore>) -> Self {
        Self(records)
    }

    /// What stands under a partition's key.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn get(
        &self,
        namespace: &NamespaceName,
        partition: &PartitionKey,
    ) -> Result<SplitSlot, StoreError> {
        let key = key(namespace, partition);
        Ok(slot(partition, self.0.get(&key).await?))
    }

    /// The same by a lookup: for whom an older record that was valid will do.
    ///
    /// # Errors
    /// As those of [`Self::get`].
    pub async fn look_up(
        &self,
        namespace: &NamespaceName,
        partition: &PartitionKey,
    ) -> Result<SplitSlot, StoreError> {
        let key = key(namespace, partition);
        Ok(slot(partition, self.0.look_up(&key).await?))
    }

    /// Stores a first record where there is none.
    ///
    /// # Errors
    /// When the store does not say that it happened.
    pub async fn create(
        &self,
        namespace: &NamespaceName,
        version: u64,
        record: SplitRecord,
    ) -> Result<Moved, StoreError> {
        self.store(namespace, version, record, true).await
    }

    /// Moves a record by a step.
    ///
    /// # Errors
    /// When the store does not say that it happened: read it again, then decide.
    pub async fn step(
        &self,
        namespace: &NamespaceName,
        from: &StoredSplit,
        step: Step,
        now: EventTime,
    ) -> Result<Moved, StoreError> {
        let record = match from.record.after(step, now) {
            Ok(record) => record,
            Err(illegal) => return Ok(Moved::Illegal(illegal)),
        };
        // Checkpoints are for the worker alone.
        let told = record.state.name() != from.record.state.name()
            || record.serving != from.record.serving
            || record.retiring != from.record.retiring;
        self.store(namespace, from.version, record, told).await
    }

    async fn store(
        &self,
        namespace: &NamespaceName,
        expected: u64,
        record: SplitRecord,
        told: bool,
    ) -> Result<Moved, StoreError> {
        let key = key(namespace, &record.partition);
        let bytes = record.encode().map_err(|error| StoreError::Corrupt {
            what: format!("record {key:?}"),
            reason: error.to_string(),
        })?;
        let marks_first = planted(Bug::MarkerBeforeRecord);
        if told && marks_first {
            self.mark(namespace, &record.partition).await?;
        }
        let outcome = self
            .0
            .compare_and_set(&key, expected, Some(Bytes::from(bytes)))
            .await?;
        let CasOutcome::Applied { version } = outcome else {
            return Ok(Moved::Overtaken);
        };
        if told && !marks_first {
            self.mark(namespace, &record.partition).await?;
        }
        Ok(Moved::To(StoredSplit {
            version,
            record: Box::new(record),
        }))
    }

    async fn mark(&self, namespace: &NamespaceName, partition: &PartitionKey) -> Result<(), StoreError> {
        let key = RecordKey::SplitMarker {
            namespace: namespace.clone(),
            slice: partition.slice.clone(),
            shard: split_shard(&partition.time_series_id),
        };
        let version = self.0.get(&key).await?.map_or(0, |marker| marker.version);
        // A conflict is as good: somebody moved it after the record was stored.
        self.0
            .compare_and_set(&key, version, Some(Bytes::new()))
            .await
            .map(drop)
    }

    /// The markers of a namespace: a shard whose marker did not move did not change.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn markers(
        &self,
        namespace: &NamespaceName,
    ) -> Result<BTreeMap<(SliceName, u8), u64>, StoreError> {
        let found = self.all(&RecordPrefix::SplitMarkers(namespace.clone())).await?;
        let marker = |(key, record): (RecordKey, VersionedRecord)| match key {
            RecordKey::SplitMarker { slice, shard, .. } => Some(((slice, shard), record.version)),
            _ => None,
        };
        Ok(found.into_iter().filter_map(marker).collect())
    }

    /// The records of a shard, by partition.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn shard(
        &self,
        namespace: &NamespaceName,
        slice: &SliceName,
        shard: u8,
    ) -> Result<Vec<ListedSplit>, StoreError> {
        let prefix = RecordPrefix::SplitShard(namespace.clone(), slice.clone(), shard);
        Ok(splits_of(self.all(&prefix).await?))
    }

    /// Records of a namespace in the order of their keys, after a partition.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn list(
        &self,
        namespace: &NamespaceName,
        after: Option<&PartitionKey>,
        records_max: usize,
    ) -> Result<Vec<ListedSplit>, StoreError> {
        let after = after.map(|partition| key(namespace, partition));
        let prefix = RecordPrefix::Splits(namespace.clone());
        Ok(splits_of(
            self.0.list(&prefix, after.as_ref(), records_max).await?,
        ))
    }

    /// Removes the records and markers of a slice, or of a whole namespace. What was removed already is passed over.
    ///
    /// # Errors
    /// When the store does not say that it happened.
    pub async fn forget(
        &self,
        namespace: &NamespaceName,
        slice: Option<&SliceName>,
    ) -> Result<(), StoreError> {
        let namespace = namespace.clone();
        let prefixes = match slice {
            None => [
                RecordPrefix::Splits(namespace.clone()),
                RecordPrefix::SplitMarkers(namespace),
            ],
            Some(slice) => [
                RecordPrefix::SplitsOfSlice(namespace.clone(), slice.clone()),
                RecordPrefix::SplitMarkersOfSlice(namespace, slice.clone()),
            ],
        };
        for prefix in prefixes {
            for (key, record) in self.all(&prefix).await? {
                self.remove(&key, record.version).await?;
            }
        }
        Ok(())
    }

    /// Removes a record that stood at `version`, also if a worker moved it since. It does so once: its next step
    /// finds the record removed.
    async fn remove(&self, key: &RecordKey, mut version: u64) -> Result<(), StoreError> {
        while let CasOutcome::Conflict {
            current:
                Some(VersionedRecord {
                    version: moved,
                    value: Some(_),
                }),
        } = self.0.compare_and_set(key, version, None).await?
        {
            version = moved;
        }
        Ok(())
    }

    async fn all(&self, prefix: &RecordPrefix) -> Result<Vec<(RecordKey, VersionedRecord)>, StoreError> {
        let mut all: Vec<(RecordKey, VersionedRecord)> = Vec::new();
        loop {
            let after = all.last().map(|(key, _)| key.clone());
            let page = self.0.list(prefix, after.as_ref(), LIST_MAX).await?;
            let ended = page.len() < LIST_MAX;
            all.extend(page);
            if ended {
                return Ok(all);
            }
        }
    }
}

fn key(namespace: &NamespaceName, partition: &PartitionKey) -> RecordKey {
    RecordKey::Split {
        namespace: namespace.clone(),
        partition: partition.clone(),
    }
}

fn splits_of(found: Vec<(RecordKey, VersionedRecord)>) -> Vec<ListedSplit> {
    let of = |(key, record): (RecordKey, VersionedRecord)| match key {
        RecordKey::Split { partition, .. } => {
            let value = record.value.unwrap_or_default();
            Some(listed(&partition, record.version, &value))
        }
        _ => None,
    };
    found.into_iter().filter_map(of).collect()
}

fn slot(partition: &PartitionKey, found: Option<VersionedRecord>) -> SplitSlot {
    match found {
        None => SplitSlot::Free { version: 0 },
        Some(VersionedRecord { version, value: None }) => SplitSlot::Free { version },
        Some(VersionedRecord {
            version,
            value: Some(value),
        }) => match listed(partition, version, &value) {
            ListedSplit::Read(stored) => SplitSlot::Taken(stored),
            ListedSplit::Unreadable(unreadable) => SplitSlot::Unreadable(unreadable),
        },
    }
}

/// What the bytes under a partition's key are.
fn listed(partition: &PartitionKey, version: u64, bytes: &[u8]) -> ListedSplit {
    let read = SplitRecord::decode(bytes).and_then(|record| {
        if record.partition == *partition {
            Ok(record)
        } else {
            let reason = format!("it is that of {}", record.partition);
            Err(UnreadableRecord::damaged(reason))
        }
    });
    match read {
        Ok(record) => ListedSplit::Read(StoredSplit {
            version,
            record: Box::new(record),
        }),
        Err(why) => ListedSplit::Unreadable(UnreadableSplit {
            partition: partition.clone(),
            version,
            why,
        }),
    }
}

#[cfg(test)]
mod tests {
    use anabranch_model::TimeSeriesId;

    use super::*;
    use crate::memory::MemoryStore;

    fn partition(id: &str) -> PartitionKey {
        PartitionKey {
            slice: SliceName::new("20260101").unwrap(),
            time_series_id: TimeSeriesId::new(id).unwrap(),
            time_bucket: 1,
            event_bucket: 0,
        }
    }

    const NOW: EventTime = EventTime::from_micros(5);

    #[tokio::test]
    async fn a_record_moves_only_from_where_the_step_was_decided() {
        let splits = SplitRecords::new(Arc::new(MemoryStore::new()));
        let namespace = NamespaceName::new("ns").unwrap();
        let record = SplitRecord::detected(partition("a"), 7, NOW);
        assert_eq!(
            splits.get(&namespace, &record.partition).await.unwrap(),
            SplitSlot::Free { version: 0 }
        );
        let Moved::To(stored) = splits.create(&namespace, 0, record.clone()).await.unwrap() else {
            panic!("it is free");
        };
        assert_eq!(
            splits.create(&namespace, 0, record.clone()).await.unwrap(),
            Moved::Overtaken
        );
        let before = splits.markers(&namespace).await.unwrap();
        let invalidate = Step::Invalidate {
            reason: anabranch_split::SplitReason::Operator,
        };
        let moved = splits
            .step(&namespace, &stored, invalidate.clone(), NOW)
            .await
            .unwrap();
        assert!(matches!(moved, Moved::To(_)));
        assert_ne!(splits.markers(&namespace).await.unwrap(), before);
        assert_eq!(
            splits.step(&namespace, &stored, invalidate, NOW).await.unwrap(),
            Moved::Overtaken
        );
        let illegal = splits.step(&namespace, &stored, Step::Retry, NOW).await.unwrap();
        assert!(matches!(illegal, Moved::Illegal(_)));
    }

    #[tokio::test]
    async fn a_record_that_moves_while_it_is_forgotten_is_gone_all_the_same() {
        let splits = SplitRecords::new(Arc::new(MemoryStore::new()));
        let namespace = NamespaceName::new("ns").unwrap();
        let record = SplitRecord::detected(partition("a"), 7, NOW);
        let Moved::To(listed) = splits.create(&namespace, 0, record).await.unwrap() else {
            panic!("it is free");
        };
        let invalidate = Step::Invalidate {
            reason: anabranch_split::SplitReason::Operator,
        };
        let moved = splits.step(&namespace, &listed, invalidate, NOW).await;
        let Moved::To(moved) = moved.unwrap() else {
            panic!("nobody else moves it");
        };
        let key = key(&namespace, &moved.record.partition);
        splits.remove(&key, listed.version).await.unwrap();
        splits.remove(&key, listed.version).await.unwrap();
        assert!(splits.list(&namespace, None, 10).await.unwrap().is_empty());
        assert!(!matches!(
            splits.step(&namespace, &moved, Step::Retry, NOW).await.unwrap(),
            Moved::To(_)
        ));
    }

    #[tokio::test]
    async fn a_record_that_can_not_be_read_is_told_as_such_beside_the_others() {
        let store = Arc::new(MemoryStore::new());
        let splits = SplitRecords::new(store.clone());
        let namespace = NamespaceName::new("ns").unwrap();
        let of = |id: &str| SplitRecord::detected(partition(id), 7, NOW).encode().unwrap();
        let newer = br#"{"v2":{"shape":"unknown"}}"#.to_vec();
        for (id, bytes) in [("a", of("a")), ("b", newer), ("c", of("a")), ("d", b"{".to_vec())] {
            let key = key(&namespace, &partition(id));
            let put = store.compare_and_set(&key, 0, Some(bytes.into())).await;
            assert_eq!(put.unwrap(), CasOutcome::Applied { version: 1 });
        }
        let listed = splits.list(&namespace, None, 10).await.unwrap();
        let why = |listed: &ListedSplit| match listed {
            ListedSplit::Read(_) => None,
            ListedSplit::Unreadable(unreadable) => Some(unreadable.why.as_str()),
        };
        let found: BTreeMap<_, _> = listed
            .iter()
            .map(|listed| (listed.partition().clone(), why(listed)))
            .collect();
        let expected = [
            (partition("a"), None),
            (partition("b"), Some("NEWER_FORMAT")),
            (partition("c"), Some("DAMAGED")),
            (partition("d"), Some("DAMAGED")),
        ];
        assert_eq!(found, BTreeMap::from(expected));
        for listed in listed {
            let slot = splits.get(&namespace, listed.partition()).await.unwrap();
            let expected = match listed {
                ListedSplit::Read(stored) => SplitSlot::Taken(stored),
                ListedSplit::Unreadable(unreadable) => SplitSlot::Unreadable(unreadable),
            };
            assert_eq!(slot, expected);
        }
        splits.forget(&namespace, None).await.unwrap();
        assert_eq!(splits.list(&namespace, None, 10).await.unwrap(), []);
    }

    #[tokio::test]
    async fn forgotten_records_are_gone_and_can_be_made_again() {
        let splits = SplitRecords::new(Arc::new(MemoryStore::new()));
        let namespace = NamespaceName::new("ns").unwrap();
        for id in ["a", "b", "c"] {
            let record = SplitRecord::detected(partition(id), 7, NOW);
            splits.create(&namespace, 0, record).await.unwrap();
        }
        assert_eq!(splits.list(&namespace, None, 10).await.unwrap().len(), 3);
        let shard = split_shard(&partition("a").time_series_id);
        let listed = splits
            .shard(&namespace, &partition("a").slice, shard)
            .await
            .unwrap();
        assert!(listed.iter().any(|split| *split.partition() == partition("a")));
        splits
            .forget(&namespace, Some(&partition("a").slice))
            .await
            .unwrap();
        assert!(splits.list(&namespace, None, 10).await.unwrap().is_empty());
        let SplitSlot::Free { version } = splits.get(&namespace, &partition("a")).await.unwrap() else {
            panic!("it was forgotten");
        };
        let again = SplitRecord::detected(partition("a"), 7, NOW);
        assert!(matches!(
            splits.create(&namespace, version, again).await.unwrap(),
            Moved::To(_)
        ));
    }
}
