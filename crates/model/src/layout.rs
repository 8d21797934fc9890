//! Where an event lives: slice, time bucket, event bucket.
//!
//! ```text
//! time ─▶ slice (own table, own settings) ─▶ time bucket (from the slice's start) ─┐
//! event id ─▶ xxh3-64 mod event_buckets ───────────────────────────▶ event bucket ─┴▶ PartitionKey
//! ```
//!
//! - W2: pure functions of the event's own fields under settings frozen with the slice, so that a
//!   repeated write lands on itself.
//!
//! The hash is part of the stored format: `XXH3_64bits` of the event id's bytes, seed 0.

use std::fmt;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::event::EventKey;
use crate::names::{InvalidName, SliceName, TimeSeriesId};
use crate::time::{EventTime, MICROS_PER_SECOND, TimeInterval, civil_from_days};

/// How a slice divides its time into partitions. Frozen before the slice's first write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PartitionSettings {
    /// Width of a time bucket in seconds, at least 1.
    pub seconds_per_time_bucket: i64,
    /// Event buckets in each time bucket, at least 1.
    pub event_buckets: u32,
}

/// What may still happen to a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SliceState {
    /// Takes reads and writes (writes not before `sealed_before`).
    Open,
    /// Past `close_after` of the retention: neither reads nor writes.
    Closed,
    /// Past `delete_after`: the table is going or gone. The name is never used again.
    Dropped,
}

/// Whether a slice has a table for what its wide partitions are split into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WideTable {
    /// Nothing of the slice was ever to be split.
    #[default]
    None,
    /// Something is to be split; the table is still to be made, or is being made.
    Wanted,
    /// It is there.
    Made,
}

/// A range of time with its own table and its own partition settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeSlice {
    /// Name, unique in the namespace.
    pub name: SliceName,
    /// The times that belong to it.
    pub interval: TimeInterval,
    /// Frozen when the slice was created.
    pub settings: PartitionSettings,
    /// What may happen to it.
    pub state: SliceState,
    /// Grows whenever something that was immutable may change again.
    pub epoch: u64,
    /// No event before this is accepted any more; `None` accepts as the namespace does.
    pub sealed_before: Option<EventTime>,
    /// No event before this is accepted any more, whatever seal and limits say by anyone's clock: what lies
    /// before it may be split. Moves back only under a new `epoch`.
    #[serde(default)]
    pub frozen_before: Option<EventTime>,
    /// Whether it has a table for targets of splits.
    #[serde(default)]
    pub wide_table: WideTable,
    /// Since when it is being opened: nothing of it may be frozen or split until that has ended.
    #[serde(default)]
    pub opening_since: Option<EventTime>,
}

/// What the store reads as one unit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionKey {
    /// The slice whose table holds it.
    pub slice: SliceName,
    /// The entity.
    pub time_series_id: TimeSeriesId,
    /// Number of the time bucket, counted from the slice's start (from the epoch in the all-time slice).
    pub time_bucket: i64,
    /// Number of the event bucket.
    pub event_bucket: u32,
}

impl fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            slice,
            time_series_id,
            time_bucket,
            event_bucket,
        } = self;
        write!(f, "{slice}/{time_series_id}/{time_bucket}/{event_bucket}")
    }
}

impl PartitionKey {
    /// Slice, id, time bucket and event bucket of a partition as [`fmt::Display`] writes it: the slice is before the
    /// first `/`, the buckets after the last two, and the id may have any character. None of them is checked.
    pub fn split_text(text: &str) -> Option<[&str; 4]> {
        let (slice, rest) = text.split_once('/')?;
        let (rest, event_bucket) = rest.rsplit_once('/')?;
        let (id, time_bucket) = rest.rsplit_once('/')?;
        Some([slice, id, time_bucket, event_bucket])
    }
}

impl TimeSlice {
    /// A slice as it is when it is cut: open, with nothing sealed or frozen.
    pub fn cut(name: SliceName, interval: TimeInterval, settings: PartitionSettings) -> Self {
        Self {
            name,
            interval,
            settings,
            state: SliceState::Open,
            epoch: 0,
            sealed_before: None,
            frozen_before: None,
            wide_table: WideTable::None,
            opening_since: None,
        }
    }

    /// Buckets count from here. The all-time slice has no start, so it counts from the epoch.
    fn origin(&self) -> i64 {
        if self.interval == TimeInterval::ALL {
            0
        } else {
            self.interval.start.micros()
        }
    }

    fn bucket_micros(&self) -> i64 {
        self.settings
            .seconds_per_time_bucket
            .saturating_mul(MICROS_PER_SECOND)
            .max(1)
    }

    /// Number of the time bucket that holds `time`.
    pub fn time_bucket(&self, time: EventTime) -> i64 {
        time.micros()
            .saturating_sub(self.origin())
            .div_euclid(self.bucket_micros())
    }

    /// The times of a bucket, cut to the slice.
    pub fn bucket_interval(&self, time_bucket: i64) -> TimeInterval {
        let start = self
            .origin()
            .saturating_add(time_bucket.saturating_mul(self.bucket_micros()));
        let end = start.saturating_add(self.bucket_micros());
        let whole = TimeInterval {
            start: EventTime::from_micros(start),
            end: EventTime::from_micros(end),
        };
        whole.intersection(&self.interval)
    }

    /// First and last bucket that an interval touches, or `None` when it misses the slice. There are none beside the
    /// times that an event can have.
    pub fn buckets_touched(&self, interval: &TimeInterval) -> Option<(i64, i64)> {
        let within = interval
            .intersection(&self.interval)
            .intersection(&TimeInterval::EVENTS);
        if within.is_empty() {
            return None;
        }
        let last = EventTime::from_micros(within.end.micros() - 1);
        Some((self.time_bucket(within.start), self.time_bucket(last)))
    }

    /// Event bucket of an event id.
    pub fn event_bucket(&self, event_id: &str) -> u32 {
        let buckets = u64::from(self.settings.event_buckets.max(1));
        u32::try_from(xxh3_64(event_id.as_bytes()) % buckets).unwrap_or(0)
    }

    /// The partition of an event. The caller has chosen the slice by the event's time.
    pub fn partition_of(&self, time_series_id: &TimeSeriesId, key: &EventKey) -> PartitionKey {
        PartitionKey {
            slice: self.name.clone(),
            time_series_id: time_series_id.clone(),
            time_bucket: self.time_bucket(key.time),
            event_bucket: self.event_bucket(key.id.as_str()),
        }
    }
}

/// Name and interval of the slice that holds `time`, for slices of `seconds_per_time_slice`.
///
/// Slices start at multiples of their width since the epoch. Width 0 is one slice for all time, named
/// `all`. The name is the start's date, with the hour where slices do not all start at midnight.
pub fn slice_at(
    time: EventTime,
    seconds_per_time_slice: i64,
) -> Result<(SliceName, TimeInterval), InvalidName> {
    if seconds_per_time_slice <= 0 {
        return Ok((SliceName::new("all")?, TimeInterval::ALL));
    }
    let width = seconds_per_time_slice.saturating_mul(MICROS_PER_SECOND);
    let start = time.micros().div_euclid(width).saturating_mul(width);
    let interval = TimeInterval {
        start: EventTime::from_micros(start),
        end: EventTime::from_micros(start.saturating_add(width)),
    };
    Ok((
        slice_name(start.div_euclid(MICROS_PER_SECOND), seconds_per_time_slice)?,
        interval,
    ))
}

fn slice_name(start_seconds: i64, seconds_per_time_slice: i64) -> Result<SliceName, InvalidName> {
    const DAY: i64 = 86_400;
    let (year, month, day) = civil_from_days(start_seconds.div_euclid(DAY));
    // A wide slice can start before year 1; `m` for minus keeps the name within its characters.
    let sign = if year < 0 { "m" } else { "" };
    let date = format!("{sign}{:04}{month:02}{day:02}", year.unsigned_abs());
    if seconds_per_time_slice % DAY == 0 {
        return SliceName::new(date);
    }
    SliceName::new(format!("{date}_{:02}", start_seconds.rem_euclid(DAY) / 3_600))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::EventId;
    use proptest::prelude::*;

    fn slice(seconds_per_slice: i64, seconds_per_bucket: i64, event_buckets: u32, at: i64) -> TimeSlice {
        let (name, interval) = slice_at(EventTime::from_micros(at), seconds_per_slice).unwrap();
        let settings = PartitionSettings {
            seconds_per_time_bucket: seconds_per_bucket,
            event_buckets,
        };
        TimeSlice::cut(name, interval, settings)
    }

    #[test]
    fn slice_names_carry_the_hour_when_slices_do_not_start_at_midnight() {
        let at = EventTime::from_timestamp(1_774_656_000 + 5 * 3_600, 0).unwrap();
        assert_eq!(slice_at(at, 86_400).unwrap().0.as_str(), "20260328");
        assert_eq!(slice_at(at, 4 * 3_600).unwrap().0.as_str(), "20260328_04");
        assert_eq!(
            slice_at(at, 129_600).unwrap().0.as_str().len(),
            "20260328_12".len()
        );
        assert_eq!(slice_at(at, 0).unwrap().0.as_str(), "all");
        assert_eq!(
            slice_at(EventTime::MIN, 31_536_000).unwrap().0.as_str(),
            "00000423"
        );
    }

    #[test]
    fn the_event_bucket_hash_is_a_stored_format() {
        let slice = slice(0, 86_400, 16, 0);
        let buckets: Vec<u32> = ["a", "b", "event-1", "1eb7644349cb"]
            .map(|id| slice.event_bucket(id))
            .into();
        assert_eq!(
            buckets,
            ["a", "b", "event-1", "1eb7644349cb"].map(|id| (xxh3_64(id.as_bytes()) % 16) as u32)
        );
        assert_eq!(
            xxh3_64(b"a"),
            0xe6c6_32b6_1e96_4e1f,
            "XXH3_64bits of `a`, as published"
        );
    }

    proptest! {
        #[test]
        fn every_event_has_one_bucket_that_holds_its_time(
            micros in EventTime::MIN.micros()..=EventTime::MAX.micros(),
            (slice_width, bucket_width) in prop_oneof![
                Just((604_800, 86_400)), Just((0, 3_600)), Just((14_400, 60)), Just((129_600, 43_200)),
                Just((31_536_000, 31_536_000)),
            ],
        ) {
            let slice = slice(slice_width, bucket_width, 4, micros);
            let time = EventTime::from_micros(micros);
            prop_assert!(slice.interval.contains(time));
            let bucket = slice.time_bucket(time);
            prop_assert!(slice.bucket_interval(bucket).contains(time));
            let key = EventKey { time, id: EventId::new("x").unwrap() };
            let partition = slice.partition_of(&TimeSeriesId::new("t").unwrap(), &key);
            prop_assert_eq!(partition.time_bucket, bucket);
            prop_assert!(partition.event_bucket < 4);
        }

        #[test]
        fn buckets_touched_are_just_those_whose_interval_meets(
            start in -1_000_000i64..1_000_000, length in 1i64..500_000,
        ) {
            let second = MICROS_PER_SECOND;
            let slice = slice(0, 3_600, 1, 0);
            let interval = TimeInterval {
                start: EventTime::from_micros(start * second),
                end: EventTime::from_micros((start + length) * second),
            };
            let (first, last) = slice.buckets_touched(&interval).unwrap();
            prop_assert!(slice.bucket_interval(first).contains(interval.start));
            prop_assert!(slice.bucket_interval(last).contains(EventTime::from_micros(interval.end.micros() - 1)));
        }

        #[test]
        fn slices_adjoin(micros in EventTime::MIN.micros()..EventTime::MAX.micros(), width in 1i64..2_000) {
            let (name, interval) = slice_at(EventTime::from_micros(micros), width * 3_600).unwrap();
            let (next, after) = slice_at(interval.end, width * 3_600).unwrap();
            prop_assert_eq!(interval.end, after.start);
            prop_assert_ne!(name, next);
        }
    }
}
