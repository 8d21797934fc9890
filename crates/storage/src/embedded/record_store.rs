//! Records as rows of one table.
//!
//! ```text
//! version (u64, big-endian) | state (1 byte: 0 removed, 1 stands) | value
//! ```

use std::ops::Bound;

use async_trait::async_trait;
use bytes::Bytes;

use super::engine::{CasOutcome as EngineOutcome, EngineError, Snapshot};
use super::{EmbeddedStore, write_error};
use crate::error::StoreError;
use crate::keys;
use crate::records::{CasOutcome, RecordKey, RecordPrefix, RecordStore, VersionedRecord};

fn encode(version: u64, value: Option<&Bytes>) -> Bytes {
    let mut row = Vec::with_capacity(9 + value.map_or(0, Bytes::len));
    row.extend_from_slice(&version.to_be_bytes());
    row.push(u8::from(value.is_some()));
    row.extend_from_slice(value.map_or(&[], |value| value));
    Bytes::from(row)
}

fn decode(row: &Bytes) -> Result<VersionedRecord, StoreError> {
    let broken = |reason: &str| StoreError::Corrupt {
        what: "record".to_owned(),
        reason: reason.to_owned(),
    };
    let version = row.first_chunk::<8>().ok_or_else(|| broken("it ends early"))?;
    let value = match row.get(8) {
        Some(0) => None,
        Some(1) => Some(row.slice(9..)),
        _ => return Err(broken("its state is not known")),
    };
    Ok(VersionedRecord {
        version: u64::from_be_bytes(*version),
        value,
    })
}

fn record_error(error: EngineError) -> StoreError {
    match error {
        EngineError::Damaged { .. } | EngineError::Tree { .. } => StoreError::Corrupt {
            what: "table records".to_owned(),
            reason: anabranch_runtime::error_chain(&error),
        },
        error => StoreError::Unavailable {
            doing: "reading records",
            source: error.into(),
        },
    }
}

impl EmbeddedStore {
    fn record_snapshot(&self) -> Result<Snapshot, StoreError> {
        self.engine.snapshot(self.records).map_err(record_error)
    }
}

#[async_trait]
impl RecordStore for EmbeddedStore {
    async fn get(&self, key: &RecordKey) -> Result<Option<VersionedRecord>, StoreError> {
        let row = self.record_snapshot()?.get(&key.encode()).map_err(record_error)?;
        row.as_ref().map(decode).transpose()
    }

    async fn compare_and_set(
        &self,
        key: &RecordKey,
        expected: u64,
        value: Option<Bytes>,
    ) -> Result<CasOutcome, StoreError> {
        let row_key = Bytes::from(key.encode());
        let row = self.record_snapshot()?.get(&row_key).map_err(record_error)?;
        let current = row.as_ref().map(decode).transpose()?;
        if current.as_ref().map_or(0, |record| record.version) != expected {
            return Ok(CasOutcome::Conflict { current });
        }
        // A version is never used twice, so equal bytes mean that nobody was in between.
        let version = expected + 1;
        let stored = encode(version, value.as_ref());
        let outcome = self
            .engine
            .compare_and_swap(self.records, row_key, row, stored)
            .await
            .map_err(|error| write_error(&error))?;
        Ok(match outcome {
            EngineOutcome::Applied => CasOutcome::Applied { version },
            EngineOutcome::Conflict(current) => CasOutcome::Conflict {
                current: current.as_ref().map(decode).transpose()?,
            },
        })
    }

    async fn list(
        &self,
        prefix: &RecordPrefix,
        after: Option<&RecordKey>,
        records_max: usize,
    ) -> Result<Vec<(RecordKey, VersionedRecord)>, StoreError> {
        let snapshot = self.record_snapshot()?;
        let prefix = prefix.encode();
        let end = keys::prefix_end(&prefix);
        let after = after.map(RecordKey::encode);
        let lower = match &after {
            Some(after) if *after >= prefix => Bound::Excluded(after.as_slice()),
            _ => Bound::Included(prefix.as_slice()),
        };
        let mut found = Vec::new();
        for row in snapshot.range(lower, end.as_deref().map_or(Bound::Unbounded, Bound::Excluded)) {
            if found.len() == records_max {
                break;
            }
            let (key, value) = row.map_err(record_error)?;
            let record = decode(&value)?;
            if record.value.is_some() {
                found.push((RecordKey::decode(&key)?, record));
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_roundtrip(version in any::<u64>(), value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20))) {
            let value = value.map(Bytes::from);
            let record = VersionedRecord { version, value };
            prop_assert_eq!(decode(&encode(record.version, record.value.as_ref())).unwrap(), record);
        }

        #[test]
        fn broken_records_are_errors(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let _ = decode(&Bytes::from(bytes));
        }
    }
}
