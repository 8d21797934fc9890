//! Where a walk stands, in terms of events and originals only.
//!
//! - R1: a cursor names no table, generation or driver state, so a split, a restart or another server
//!   between two pages changes nothing.
//!
//! A cursor is signed and made text by [`super::token`].

use anabranch_model::{Direction, EventKey, EventTime, TimeInterval, TimeSeriesId};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// How far a walk has examined what lies on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Position {
    /// Nothing yet.
    #[default]
    Start,
    /// Everything before this time, in the direction of the walk: ascending all earlier times, descending
    /// this time and all later ones.
    Time(EventTime),
    /// Everything up to and including this event.
    Event {
        key: EventKey,
        time_series_id: TimeSeriesId,
    },
    /// PARTITION order: everything of the slice up to this partition, and of the partition up to and
    /// including the event (all of it when there is none). The partition is the original's.
    Partition {
        slice_start: EventTime,
        time_series_id: TimeSeriesId,
        time_bucket: i64,
        event_bucket: u32,
        event: Option<EventKey>,
    },
    /// PARTITION order: everything of the slice that starts here.
    Slice { slice_start: EventTime },
}

impl Position {
    /// Up to which time everything has been examined; only known in event order.
    pub(super) fn time(&self) -> Option<EventTime> {
        match self {
            Self::Time(time) => Some(*time),
            Self::Event { key, .. } => Some(key.time),
            Self::Start | Self::Partition { .. } | Self::Slice { .. } => None,
        }
    }

    /// What is left of an interval.
    pub(super) fn rest_of(&self, interval: TimeInterval, direction: Direction) -> TimeInterval {
        let (start, end) = match (self, direction) {
            (Self::Time(time), Direction::Ascending) => (*time, interval.end),
            (Self::Time(time), Direction::Descending) => (interval.start, *time),
            (Self::Event { key, .. }, Direction::Ascending) => (key.time, interval.end),
            (Self::Event { key, .. }, Direction::Descending) => (
                interval.start,
                EventTime::from_micros(key.time.micros().saturating_add(1)),
            ),
            _ => return interval,
        };
        interval.intersection(&TimeInterval { start, end })
    }
}

/// Bytes that a walk has read so far of a partition that it stands in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PartitionBytes {
    pub(super) time_series_id: TimeSeriesId,
    /// Start of the time bucket, which says the slice and the bucket.
    pub(super) bucket_start: EventTime,
    pub(super) event_bucket: u32,
    pub(super) bytes: u64,
}

/// What the pages of a walk hand on from one to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor {
    /// Of the request's arguments, so that a token is not used for another walk.
    pub(super) fingerprint: u128,
    /// Fixed by the first page.
    pub(super) interval: TimeInterval,
    pub(super) position: Position,
    /// What is left of `total_record_limit`.
    pub(super) records_left: Option<u64>,
    /// Only of the partitions that the walk stands in, so that wide ones are seen across pages.
    pub(super) partition_bytes: Vec<PartitionBytes>,
    /// Where the rows of an aggregation stand.
    pub(super) rows: Option<RowsCursor>,
}

/// Where the pages of an aggregation's rows stand. The rows are of the part of the walk from the
/// cursor's position to `part_end`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RowsCursor {
    /// Where the part ends; the walk's own end when `None`.
    pub(super) part_end: Option<Position>,
    /// The last row that was answered.
    pub(super) after: RowMark,
}

/// A row's key, short enough for a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RowMark {
    /// The first bytes of the key.
    pub(super) prefix: Bytes,
    /// Of the whole key.
    pub(super) hash: u128,
}
