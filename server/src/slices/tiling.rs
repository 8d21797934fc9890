//! Cuts time into slices: every time in exactly one, whatever the widths were before.
//!
//! ```text
//! existing   │ 20260101 (week) │         gap          │ 20260122 (day) │
//! wanted                   └── slice_at(time, width) ──┘
//! cut                          │ its part in the gap  │
//! ```
//!
//! A new slice is where `slice_at` puts it under the current width, cut to the gap between its
//! neighbours. Slices never move, so a time keeps its slice for good (W2). Slices never overlap and
//! never go away (a dropped one keeps its record), so no two ever start at one time, and a name made of
//! the start is never used twice.

use std::collections::BTreeMap;

use anabranch_model::layout::slice_at;
use anabranch_model::{EventTime, InvalidName, NamespaceSettings, SliceName, TimeInterval, TimeSlice};

const SECONDS_PER_DAY: i64 = 86_400;
const SECONDS_PER_HOUR: i64 = 3_600;

/// The slices to make so that each of `times` has one.
pub fn missing(
    existing: &[TimeSlice],
    settings: &NamespaceSettings,
    times: &[EventTime],
) -> Result<Vec<TimeSlice>, InvalidName> {
    let mut taken: BTreeMap<EventTime, TimeInterval> = existing
        .iter()
        .map(|slice| (slice.interval.start, slice.interval))
        .collect();
    let mut slices = Vec::new();
    for time in times {
        if let Some((name, interval)) = cut(&taken, settings.seconds_per_time_slice, *time)? {
            taken.insert(interval.start, interval);
            slices.push(TimeSlice::cut(name, interval, settings.partition_settings()));
        }
    }
    Ok(slices)
}

/// Name and interval of the slice to make for `time`; `None` when one holds it already.
fn cut(
    taken: &BTreeMap<EventTime, TimeInterval>,
    seconds_per_time_slice: i64,
    time: EventTime,
) -> Result<Option<(SliceName, TimeInterval)>, InvalidName> {
    let before = taken.range(..=time).next_back().map(|(_, interval)| *interval);
    if before.is_some_and(|interval| interval.contains(time)) {
        return Ok(None);
    }
    let after = taken.range(time..).next().map(|(start, _)| *start);
    let (name, wanted) = slice_at(time, seconds_per_time_slice)?;
    let gap = TimeInterval {
        start: before.map_or(TimeInterval::ALL.start, |interval| interval.end),
        end: after.unwrap_or(TimeInterval::ALL.end),
    };
    let mut interval = wanted.intersection(&gap);
    if interval == wanted {
        return Ok(Some((name, wanted)));
    }
    if interval.start == TimeInterval::ALL.start {
        // Only the whole all-time slice may have no start: buckets are counted from the start.
        interval.start = EventTime::MIN;
    }
    let name = if interval.start == wanted.start {
        name
    } else {
        name_of_start(interval.start)?
    };
    Ok(Some((name, interval)))
}

/// The name of a slice that starts where its neighbour ends: the date, with the hour unless it is
/// midnight. Ends are whole hours because widths are.
fn name_of_start(start: EventTime) -> Result<SliceName, InvalidName> {
    let day = slice_at(start, SECONDS_PER_DAY)?;
    if day.1.start == start {
        return Ok(day.0);
    }
    Ok(slice_at(start, SECONDS_PER_HOUR)?.0)
}

#[cfg(test)]
mod tests;
