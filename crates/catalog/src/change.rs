//! Reads and stores the record of a namespace or of one slice, without listing the others.

use anabranch_model::{NamespaceName, SliceName};
use anabranch_storage::{CasOutcome, RecordKey, RecordStore, StoreError, VersionedRecord};

use crate::load::LoadedSlice;
use crate::stored::{NamespaceRecord, SliceRecord, Stored};

/// Times that a change is made again because the record was changed at the same time.
pub(crate) const ATTEMPTS_MAX: usize = 16;

/// A namespace's record and its version; `None` when there is none.
///
/// # Errors
/// Those of the store; `Corrupt` when the record can not be read.
pub async fn read_namespace(
    records: &dyn RecordStore,
    namespace: &NamespaceName,
) -> Result<Option<(NamespaceRecord, u64)>, StoreError> {
    match records.get(&NamespaceRecord::key(namespace)).await? {
        Some(VersionedRecord {
            version,
            value: Some(bytes),
        }) => Ok(Some((NamespaceRecord::decode(&bytes)?, version))),
        _ => Ok(None),
    }
}

/// A slice's record and its version; `None` when there is none.
///
/// # Errors
/// Those of the store; `Corrupt` when the record can not be read.
pub async fn read_slice(
    records: &dyn RecordStore,
    namespace: &NamespaceName,
    slice: &SliceName,
) -> Result<Option<LoadedSlice>, StoreError> {
    match records.get(&slice_key(namespace, slice)).await? {
        Some(VersionedRecord {
            version,
            value: Some(bytes),
        }) => Ok(Some(LoadedSlice {
            record: SliceRecord::decode(&bytes)?,
            version,
        })),
        _ => Ok(None),
    }
}

/// Stores a slice's record over a version of it. Its new version; `None` when somebody else was first.
///
/// # Errors
/// Those of the store.
pub async fn store_slice(
    records: &dyn RecordStore,
    namespace: &NamespaceName,
    version: u64,
    record: &SliceRecord,
) -> Result<Option<u64>, StoreError> {
    let key = slice_key(namespace, &record.slice.name);
    match records
        .compare_and_set(&key, version, Some(record.encode()?))
        .await?
    {
        CasOutcome::Applied { version } => Ok(Some(version)),
        CasOutcome::Conflict { .. } => Ok(None),
    }
}

/// Stores what `change` makes of a slice's record, again with what others made of it in between. The
/// record as it stands then; `None` when there is none of this incarnation of the namespace.
///
/// # Errors
/// Those of the store; `Unavailable` when others changed the record every time.
pub async fn change_slice(
    records: &dyn RecordStore,
    namespace: &NamespaceName,
    slice: &SliceName,
    incarnation: u64,
    mut change: impl FnMut(&mut SliceRecord) + Send,
) -> Result<Option<LoadedSlice>, StoreError> {
    for _ in 0..ATTEMPTS_MAX {
        let Some(found) = read_slice(records, namespace, slice).await? else {
            return Ok(None);
        };
        if found.record.incarnation != incarnation {
            return Ok(None);
        }
        let mut record = found.record.clone();
        change(&mut record);
        if record == found.record {
            return Ok(Some(found));
        }
        if let Some(version) = store_slice(records, namespace, found.version, &record).await? {
            return Ok(Some(LoadedSlice { record, version }));
        }
    }
    Err(contended())
}

/// The error for a record that others changed every time.
pub(crate) fn contended() -> StoreError {
    StoreError::Unavailable {
        doing: "changing the record of a time slice",
        source: format!("others changed it {ATTEMPTS_MAX} times in between").into(),
    }
}

fn slice_key(namespace: &NamespaceName, slice: &SliceName) -> RecordKey {
    RecordKey::TimeSlice {
        namespace: namespace.clone(),
        slice: slice.clone(),
    }
}
