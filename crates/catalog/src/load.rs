//! Reads a whole namespace from its records.
//!
//! The namespace's own record is read before those of its slices. A change that makes something
//! immutable mutable again stores the slices' epochs first and the setting last, so a reader that sees
//! the new setting sees the new epochs too.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use anabranch_model::{NamespaceName, SliceName, TimeSeriesId, TimeSlice};
use anabranch_storage::{RecordKey, RecordPrefix, RecordStore, StoreError, VersionedRecord};

use crate::stored::{BlockRecord, NamespaceRecord, SliceRecord, Stored};
use crate::view::{Block, NamespaceView};

/// Records asked for at once.
const LIST_MAX: usize = 1_000;

/// A namespace as its records stood, with the versions to change them by.
#[derive(Clone, Debug)]
pub struct LoadedNamespace {
    /// Its name.
    pub name: NamespaceName,
    /// Its record.
    pub record: NamespaceRecord,
    /// Version of its record.
    pub version: u64,
    /// Its slices, ascending by start.
    pub slices: Vec<LoadedSlice>,
    /// Its blocked ids.
    pub blocked: Arc<BTreeMap<TimeSeriesId, Block>>,
}

/// A slice's record and its version.
#[derive(Clone, Debug)]
pub struct LoadedSlice {
    /// The record.
    pub record: SliceRecord,
    /// Its version.
    pub version: u64,
}

impl LoadedNamespace {
    /// Slices that were cut and have no record yet.
    pub fn unfinished(&self) -> Vec<TimeSlice> {
        let made: BTreeSet<&SliceName> = self.slices.iter().map(|slice| &slice.record.slice.name).collect();
        let creating = self.record.creating.iter().flat_map(|creation| &creation.slices);
        creating
            .filter(|slice| !made.contains(&slice.name))
            .cloned()
            .collect()
    }

    /// As requests see it.
    pub fn view(&self) -> NamespaceView {
        let sealed_before = self.record.sealed_before;
        let slices = self.slices.iter().map(|loaded| {
            let mut slice = loaded.record.slice.clone();
            slice.sealed_before = sealed_before
                .map(|before| before.min(slice.interval.end))
                .filter(|before| *before > slice.interval.start);
            slice
        });
        NamespaceView {
            name: self.name.clone(),
            settings: self.record.settings.clone(),
            version: self.version,
            incarnation: self.record.incarnation,
            sealed_before,
            slices: Arc::new(slices.collect()),
            blocked: self.blocked.clone(),
        }
    }
}

/// The namespace of a name; `None` when there is none. Records that are as they were `known` to be are
/// not decoded again: most never change, and all are read every second.
///
/// # Errors
/// Those of the store; `Corrupt` when one of the records can not be read.
pub async fn load(
    records: &dyn RecordStore,
    name: &NamespaceName,
    known: Option<&LoadedNamespace>,
) -> Result<Option<LoadedNamespace>, StoreError> {
    let found = records.look_up(&NamespaceRecord::key(name)).await?;
    with_record(records, name, known, found).await
}

/// The same for whoever decides on it or changes it: a change of the namespace that nobody was answered for is settled
/// first, and is in it or never comes.
///
/// # Errors
/// Those of [`load`].
pub async fn load_settled(
    records: &dyn RecordStore,
    name: &NamespaceName,
    known: Option<&LoadedNamespace>,
) -> Result<Option<LoadedNamespace>, StoreError> {
    let found = records.get(&NamespaceRecord::key(name)).await?;
    with_record(records, name, known, found).await
}

async fn with_record(
    records: &dyn RecordStore,
    name: &NamespaceName,
    known: Option<&LoadedNamespace>,
    found: Option<VersionedRecord>,
) -> Result<Option<LoadedNamespace>, StoreError> {
    let Some(VersionedRecord {
        version,
        value: Some(bytes),
    }) = found
    else {
        return Ok(None);
    };
    // A version is never used twice for a key.
    let record = match known.filter(|known| known.version == version && known.name == *name) {
        Some(known) => known.record.clone(),
        None => NamespaceRecord::decode(&bytes)?,
    };
    let known: HashMap<&SliceName, &LoadedSlice> = known
        .into_iter()
        .flat_map(|known| &known.slices)
        .map(|slice| (&slice.record.slice.name, slice))
        .collect();
    let mut slices = Vec::new();
    let mut blocked = BTreeMap::new();
    for (key, found) in list(records, RecordPrefix::TimeSlices(name.clone())).await? {
        if let RecordKey::TimeSlice { slice, .. } = &key
            && let Some(slice) = known.get(slice)
            && slice.version == found.version
            && slice.record.incarnation == record.incarnation
        {
            slices.push((*slice).clone());
            continue;
        }
        let slice = SliceRecord::decode(&found.value.unwrap_or_default())?;
        // What a namespace of the same name left behind is not this one's.
        if slice.incarnation == record.incarnation {
            slices.push(LoadedSlice {
                record: slice,
                version: found.version,
            });
        }
    }
    slices.sort_by_key(|slice| slice.record.slice.interval.start);
    for (key, found) in list(records, RecordPrefix::BlockedIds(name.clone())).await? {
        let block = BlockRecord::decode(&found.value.unwrap_or_default())?;
        if let RecordKey::BlockedId { time_series_id, .. } = key
            && block.incarnation == record.incarnation
        {
            let BlockRecord { reason, since, .. } = block;
            blocked.insert(time_series_id, Block { reason, since });
        }
    }
    Ok(Some(LoadedNamespace {
        name: name.clone(),
        record,
        version,
        slices,
        blocked: Arc::new(blocked),
    }))
}

/// The names of all namespaces.
///
/// # Errors
/// Those of the store.
pub async fn names(records: &dyn RecordStore) -> Result<Vec<NamespaceName>, StoreError> {
    let found = list(records, RecordPrefix::Namespaces).await?.into_iter();
    Ok(found
        .filter_map(|(key, _)| match key {
            RecordKey::Namespace { namespace } => Some(namespace),
            _ => None,
        })
        .collect())
}

/// Every record of a prefix.
///
/// # Errors
/// Those of the store.
pub async fn list(
    records: &dyn RecordStore,
    prefix: RecordPrefix,
) -> Result<Vec<(RecordKey, VersionedRecord)>, StoreError> {
    let mut all: Vec<(RecordKey, VersionedRecord)> = Vec::new();
    loop {
        let after = all.last().map(|(key, _)| key.clone());
        let page = records.list(&prefix, after.as_ref(), LIST_MAX).await?;
        let ended = page.len() < LIST_MAX;
        all.extend(page);
        if ended {
            return Ok(all);
        }
    }
}
