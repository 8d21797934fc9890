//! The durable home of events, one partition at a time.

use std::fmt;
use std::ops::Bound;

use anabranch_model::{
    Consistency, Direction, Event, EventKey, NamespaceName, PartitionKey, SliceName, TimeInterval,
    TimeSeriesId,
};
use async_trait::async_trait;

use crate::error::StoreError;

/// Which of a slice's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableKind {
    /// The originals, `data_<slice>`.
    Data,
    /// The targets of splits, `wide_data_<slice>`.
    Wide,
}

/// A table: namespace, kind and slice, all validated names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// The namespace.
    pub namespace: NamespaceName,
    /// Which of the slice's tables.
    pub kind: TableKind,
    /// The slice.
    pub slice: SliceName,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            TableKind::Data => "data",
            TableKind::Wide => "wide_data",
        };
        write!(f, "{}.{kind}_{}", self.namespace, self.slice)
    }
}

/// Events for one partition.
#[derive(Clone, Debug)]
pub struct PartitionAppend {
    /// The table; its slice is the partition's.
    pub table: TableName,
    /// The partition.
    pub partition: PartitionKey,
    /// What to add. Items ascend by key within an event.
    pub events: Vec<Event>,
    /// Replicas that must have taken it when the append returns; `LOCAL_QUORUM` is what the store is set to. A store of one
    /// process has one copy, and needs no telling.
    pub consistency: Consistency,
}

/// Which parts of an append did not happen, or may not have.
#[derive(Debug, thiserror::Error)]
#[error("{} of the partitions could not be appended to", .failed.len())]
pub struct AppendFailure {
    /// Index of the part, and why. Parts that are not named are durable.
    pub failed: Vec<(usize, StoreError)>,
}

/// The events of a partition that a scan may yield.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventBounds {
    /// From here.
    pub lower: Bound<EventKey>,
    /// To here.
    pub upper: Bound<EventKey>,
    /// And only at these times.
    pub interval: TimeInterval,
}

impl EventBounds {
    /// Every event of an interval.
    pub fn of_interval(interval: TimeInterval) -> Self {
        Self {
            lower: Bound::Unbounded,
            upper: Bound::Unbounded,
            interval,
        }
    }

    /// True when a key is inside.
    pub fn contains(&self, key: &EventKey) -> bool {
        use std::ops::RangeBounds;
        self.interval.contains(key.time) && (self.lower.as_ref(), self.upper.as_ref()).contains(key)
    }

    /// True when a key lies behind their upper end.
    pub fn upper_excludes(&self, key: &EventKey) -> bool {
        let past = match &self.upper {
            Bound::Unbounded => false,
            Bound::Included(upper) => key > upper,
            Bound::Excluded(upper) => key >= upper,
        };
        past || key.time >= self.interval.end
    }

    /// The same, less everything up to and including `key` in the order of `direction`.
    #[must_use]
    pub fn after(mut self, key: EventKey, direction: Direction) -> Self {
        match direction {
            Direction::Ascending => self.lower = Bound::Excluded(key),
            Direction::Descending => self.upper = Bound::Excluded(key),
        }
        self
    }
}

/// One page of one partition.
#[derive(Clone, Debug)]
pub struct ScanRequest {
    /// The table.
    pub table: TableName,
    /// The partition.
    pub partition: PartitionKey,
    /// Which of its events.
    pub bounds: EventBounds,
    /// In which order.
    pub direction: Direction,
    /// Most events in the page; at least 1.
    pub events_max: usize,
    /// The page ends with the event that reaches this many bytes read.
    pub bytes_max: usize,
    /// Replicas that must answer, likewise.
    pub consistency: Consistency,
}

/// How a page ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScanEnd {
    /// The bounds hold nothing more.
    Exhausted,
    /// There may be more after this key, in the order of the scan. A page may be empty and still end so.
    More {
        /// Everything up to and including this key has been yielded.
        after: EventKey,
    },
}

/// Events of one partition, in order.
#[derive(Clone, Debug)]
pub struct ScanPage {
    /// Whole events, in the order of the scan.
    pub events: Vec<Event>,
    /// Bytes of the rows that had to be read, keys and values as they are encoded in the store. This is
    /// how wide partitions are found.
    pub bytes_read: u64,
    /// Whether there may be more.
    pub end: ScanEnd,
}

impl ScanPage {
    /// A page that ends behind its last event, when there is one and `more` may follow.
    pub(crate) fn of(events: Vec<Event>, bytes_read: u64, more: bool) -> Self {
        let end = match events.last() {
            Some(last) if more => ScanEnd::More {
                after: last.key.clone(),
            },
            _ => ScanEnd::Exhausted,
        };
        Self {
            events,
            bytes_read,
            end,
        }
    }
}

/// Durable home of events, one partition at a time.
///
/// Every backend passes [`crate::conformance`], which is the full contract. In short:
/// - `append` may be repeated: one event key and item key never yields two items; the later value stays;
/// - once a part of an `append` is not reported as failed, every later scan sees its events;
/// - an error of kind `Unknown` for a part means that it may appear later; none of its events appears
///   in part of its items;
/// - `scan` yields event order, whole events, and says how many bytes it had to read;
/// - a scan that runs while a page is appended to sees each event wholly or not at all, and one that runs
///   while a partition is deleted too.
#[async_trait]
pub trait EventStore: fmt::Debug + Send + Sync + 'static {
    /// Makes a table; nothing happens if it is there. Called by the one owner of slices.
    async fn create_table(&self, table: &TableName) -> Result<(), StoreError>;

    /// Removes a table and everything in it; nothing happens if it is not there.
    async fn drop_table(&self, table: &TableName) -> Result<(), StoreError>;

    /// Adds events to partitions. Each part stands for itself.
    async fn append(&self, parts: Vec<PartitionAppend>) -> Result<(), AppendFailure>;

    /// Removes every event of a partition that was there when it was called; nothing happens if there are
    /// none. When it returns, no later scan sees any of them, and what is appended after is seen. Of an append
    /// to the partition that runs beside it, some events may go and others stay; after an error, or a crash
    /// before it returns, some may have gone already: call it again. Where every process stamps what it writes by
    /// its own clock, what was stamped by one that is ahead stays: who must know looks, and calls it again.
    async fn delete_partition(&self, table: &TableName, partition: &PartitionKey) -> Result<(), StoreError>;

    /// Reads a page of one partition.
    async fn scan(&self, request: &ScanRequest) -> Result<ScanPage, StoreError>;

    /// Whether [`Self::next_time_bucket`] knows. Where it does not, a walk of an id asks for every bucket on its way.
    fn finds_time_buckets(&self) -> bool;

    /// The first time bucket from `from` on, in the direction of a walk (`Descending`: downwards) and
    /// not past `to`, in which the id may have events. A backend that can not know answers `from`.
    async fn next_time_bucket(
        &self,
        table: &TableName,
        time_series_id: &TimeSeriesId,
        from: i64,
        to: i64,
        direction: Direction,
    ) -> Result<Option<i64>, StoreError>;

    /// The table's partitions in the store's own order, which never changes, after the given one.
    async fn partitions(
        &self,
        table: &TableName,
        after: Option<&PartitionKey>,
        partitions_max: usize,
    ) -> Result<Vec<PartitionKey>, StoreError>;
}
