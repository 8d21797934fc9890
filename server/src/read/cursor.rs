//! Where a walk stands, in terms of events and originals only.
//!
//! - R1: a cursor names no table, generation or driver state, so a split, a restart or another server
//!   between two pages changes nothing.
//!
//! A cursor is signed and made text by [`super::token`].

use anabranch_model::{Direction, EventKey, EventTime, TimeInterval, TimeSeriesId};
use anabranch_split::planted::{Bug, planted};
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
            (Self::Event { key, .. }, Direction::Ascending) => {
                let past = i64::from(planted(Bug::CursorOffByOne));
                let from = EventTime::from_micros(key.time.micros().saturating_add(past));
                (from, interval.end)
            }
            (Self::Event { key, .. }, Direction::Descending) => (
                interval.start,
                EventTime::from_micros(key.time.micros().saturating_add(1)),
            ),
            _ => return interval,
        };
        interval.intersection(&TimeInterval { start, end })
    }
}

/// How a position stands to the end of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Before,
    /// Everything up to the end is examined, and nothing after it.
    At,
    /// The end's partition was never met: it is gone, or others have come where it was looked for.
    Missed,
}

impl Position {
    /// How far a walk that stops at `end` has come. In event order an end is a key or a time; in
    /// partition order only equal partitions can be told, since their order is the store's.
    pub(super) fn reach(&self, end: &Self, direction: Direction) -> Reach {
        let at = |reached: bool| if reached { Reach::At } else { Reach::Before };
        match (self, end) {
            (Self::Time(time), Self::Time(end)) => at(direction.compare(time, end).is_ge()),
            (Self::Time(time), Self::Event { key, .. }) => at(match direction {
                Direction::Ascending => *time > key.time,
                Direction::Descending => *time <= key.time,
            }),
            (
                Self::Event { key, time_series_id },
                Self::Event {
                    key: end_key,
                    time_series_id: end_id,
                },
            ) => at(direction
                .compare(&(key, time_series_id), &(end_key, end_id))
                .is_ge()),
            (Self::Slice { slice_start }, Self::Slice { slice_start: end })
            | (Self::Partition { slice_start, .. }, Self::Slice { slice_start: end })
                if slice_start == end =>
            {
                at(matches!(self, Self::Slice { .. }))
            }
            (
                Self::Slice { slice_start } | Self::Partition { slice_start, .. },
                Self::Slice { slice_start: end },
            ) => at(direction.compare(slice_start, end).is_gt()),
            (
                Self::Partition {
                    slice_start, event, ..
                },
                Self::Partition {
                    slice_start: end_start,
                    event: end_event,
                    ..
                },
            ) => {
                if self.same_partition(end) {
                    return at(match (event, end_event) {
                        (None, _) => true,
                        (Some(event), Some(end)) => direction.compare(event, end).is_ge(),
                        (Some(_), None) => false,
                    });
                }
                match direction.compare(slice_start, end_start).is_gt() {
                    true => Reach::Missed,
                    false => Reach::Before,
                }
            }
            (
                Self::Slice { slice_start },
                Self::Partition {
                    slice_start: end_start,
                    ..
                },
            ) => match direction.compare(slice_start, end_start).is_ge() {
                true => Reach::Missed,
                false => Reach::Before,
            },
            _ => Reach::Before,
        }
    }

    fn same_partition(&self, other: &Self) -> bool {
        let place = |position: &Self| match position {
            Self::Partition {
                slice_start,
                time_series_id,
                time_bucket,
                event_bucket,
                ..
            } => Some((*slice_start, time_series_id.clone(), *time_bucket, *event_bucket)),
            _ => None,
        };
        place(self) == place(other)
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

/// Where the pages of an aggregation stand: its part starts at the cursor's position.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RowsCursor {
    /// What cut this part or the one before it.
    pub(super) cut: Option<Cut>,
    /// Where its rows stand; `None` when none has been answered yet.
    pub(super) page: Option<PartPage>,
}

/// What cut a part of an aggregation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Cut {
    Deadline,
    Groups,
}

/// Where the rows of a part stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PartPage {
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
