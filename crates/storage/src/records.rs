//! Records: small values under a version, changed only by compare-and-set.
//!
//! A record's version starts at 1 and grows by 1 with each change, a removal included, and goes on
//! after it: a version is never used twice for a key, so nobody is fooled by a record that was
//! removed and made again.

use std::cmp::Ordering;
use std::fmt;

use anabranch_model::{NamespaceName, PartitionKey, SliceName, TimeSeriesId};
use async_trait::async_trait;
use bytes::Bytes;

use crate::error::StoreError;
use crate::keys::split_shard;

/// Every key under which a record is kept. They order as their encoded forms do (`keys`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
    /// What has happened to split a wide partition.
    Split {
        /// The namespace.
        namespace: NamespaceName,
        /// The partition.
        partition: PartitionKey,
    },
    /// Changes with every change of a split in its shard, so that nobody has to list the others.
    SplitMarker {
        /// The namespace.
        namespace: NamespaceName,
        /// The slice.
        slice: SliceName,
        /// The shard, below [`crate::keys::SPLIT_SHARDS`].
        shard: u8,
    },
    /// The hint of a read that a partition looked wide.
    Detection {
        /// The namespace.
        namespace: NamespaceName,
        /// The partition.
        partition: PartitionKey,
    },
}

/// The parts of a key as they follow each other in its encoded form: tag, namespace, slice, shard, id, time
/// bucket, event bucket.
type Rank<'a> = (
    u8,
    Option<&'a NamespaceName>,
    Option<&'a SliceName>,
    u8,
    Option<&'a TimeSeriesId>,
    i64,
    u32,
);

impl RecordKey {
    fn rank(&self) -> Rank<'_> {
        match self {
            Self::Namespace { namespace } => (1, Some(namespace), None, 0, None, 0, 0),
            Self::TimeSlice { namespace, slice } => (2, Some(namespace), Some(slice), 0, None, 0, 0),
            Self::BlockedId {
                namespace,
                time_series_id,
            } => (3, Some(namespace), None, 0, Some(time_series_id), 0, 0),
            Self::PageTokenKey => (4, None, None, 0, None, 0, 0),
            Self::Split { namespace, partition } => {
                let shard = split_shard(&partition.time_series_id);
                partition_rank(5, namespace, shard, partition)
            }
            Self::SplitMarker {
                namespace,
                slice,
                shard,
            } => (6, Some(namespace), Some(slice), *shard, None, 0, 0),
            Self::Detection { namespace, partition } => partition_rank(7, namespace, 0, partition),
        }
    }
}

fn partition_rank<'a>(
    tag: u8,
    namespace: &'a NamespaceName,
    shard: u8,
    partition: &'a PartitionKey,
) -> Rank<'a> {
    (
        tag,
        Some(namespace),
        Some(&partition.slice),
        shard,
        Some(&partition.time_series_id),
        partition.time_bucket,
        partition.event_bucket,
    )
}

impl Ord for RecordKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for RecordKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
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
    /// The splits of a namespace, shard by shard of each slice.
    Splits(NamespaceName),
    /// The splits of a slice, shard by shard.
    SplitsOfSlice(NamespaceName, SliceName),
    /// The splits of one shard of a slice.
    SplitShard(NamespaceName, SliceName, u8),
    /// The markers of all shards of a namespace.
    SplitMarkers(NamespaceName),
    /// The markers of a slice's shards.
    SplitMarkersOfSlice(NamespaceName, SliceName),
    /// Every detection.
    Detections,
}

impl RecordPrefix {
    /// True when the key is one of these.
    pub fn holds(&self, key: &RecordKey) -> bool {
        match (self, key) {
            (Self::Namespaces, RecordKey::Namespace { .. })
            | (Self::Detections, RecordKey::Detection { .. }) => true,
            (Self::TimeSlices(of), RecordKey::TimeSlice { namespace, .. })
            | (Self::BlockedIds(of), RecordKey::BlockedId { namespace, .. })
            | (Self::Splits(of), RecordKey::Split { namespace, .. })
            | (Self::SplitMarkers(of), RecordKey::SplitMarker { namespace, .. }) => of == namespace,
            (Self::SplitsOfSlice(of, in_slice), RecordKey::Split { namespace, partition }) => {
                of == namespace && *in_slice == partition.slice
            }
            (Self::SplitShard(of, in_slice, shard), RecordKey::Split { namespace, partition }) => {
                of == namespace
                    && *in_slice == partition.slice
                    && *shard == split_shard(&partition.time_series_id)
            }
            (Self::SplitMarkersOfSlice(of, in_slice), RecordKey::SplitMarker { namespace, slice, .. }) => {
                of == namespace && in_slice == slice
            }
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

    /// The record with every change that was acked; one whose end nobody was told yet may be in it or not. For those who
    /// look again and again: of several replicas it asks for a read, where `get` asks for an agreement, and those who
    /// want one at a time get in each other's way.
    async fn look_up(&self, key: &RecordKey) -> Result<Option<VersionedRecord>, StoreError> {
        self.get(key).await
    }

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
