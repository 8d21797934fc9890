//! Records: small values under a version, changed only by compare-and-set.
//!
//! A record's version starts at 1 and grows by 1 with each change, a removal included, and goes on
//! after it: a version is never used twice for a key, so nobody is fooled by a record that was
//! removed and made again.

use std::fmt;

use anabranch_model::{NamespaceName, SliceName, TimeSeriesId};
use async_trait::async_trait;
use bytes::Bytes;

use crate::error::StoreError;

/// Every key under which a record is kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKey {
    /// Settings of a namespace.
    Namespace {
        /// Its name.
        namespace: NamespaceName,
    },
    /// Interval, settings and state of a time slice.
    TimeSlice {
        /// The namespace.
        namespace: NamespaceName,
        /// The slice.
        slice: SliceName,
    },
    /// An id that is refused.
    BlockedId {
        /// The namespace.
        namespace: NamespaceName,
        /// The id.
        time_series_id: TimeSeriesId,
    },
    /// The key that signs page tokens, the same on every server of a store.
    PageTokenKey,
}

/// Records that are listed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordPrefix {
    /// Every namespace.
    Namespaces,
    /// The slices of a namespace.
    TimeSlices(NamespaceName),
    /// The blocked ids of a namespace.
    BlockedIds(NamespaceName),
}

impl RecordPrefix {
    /// True when the key is one of these.
    pub fn holds(&self, key: &RecordKey) -> bool {
        match (self, key) {
            (Self::Namespaces, RecordKey::Namespace { .. }) => true,
            (Self::TimeSlices(of), RecordKey::TimeSlice { namespace, .. })
            | (Self::BlockedIds(of), RecordKey::BlockedId { namespace, .. }) => of == namespace,
            _ => false,
        }
    }
}

/// A record as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionedRecord {
    /// Grows by one with every change.
    pub version: u64,
    /// What is stored; `None` when the record was removed.
    pub value: Option<Bytes>,
}

/// What became of a compare-and-set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CasOutcome {
    /// It is stored, under this version.
    Applied {
        /// The new version.
        version: u64,
    },
    /// Somebody else was first; this is what stands (`None`: there never was one).
    Conflict {
        /// The record as it stands.
        current: Option<VersionedRecord>,
    },
}

/// Durable home of records. Every backend passes [`crate::conformance`].
#[async_trait]
pub trait RecordStore: fmt::Debug + Send + Sync + 'static {
    /// The record as it stands, also when removed; `None` when there never was one.
    async fn get(&self, key: &RecordKey) -> Result<Option<VersionedRecord>, StoreError>;

    /// Stores `value` (or removes, with `None`) if the record's version is still `expected` (0: there
    /// never was one). Durable when it returns.
    async fn compare_and_set(
        &self,
        key: &RecordKey,
        expected: u64,
        value: Option<Bytes>,
    ) -> Result<CasOutcome, StoreError>;

    /// The records of a prefix that stand (removed ones are left out), ascending by key, after the
    /// given key.
    async fn list(
        &self,
        prefix: &RecordPrefix,
        after: Option<&RecordKey>,
        records_max: usize,
    ) -> Result<Vec<(RecordKey, VersionedRecord)>, StoreError>;
}
