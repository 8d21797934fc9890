//! Event time: microseconds since the Unix epoch, signed, and intervals of it.
//!
//! Finer digits of a request are dropped, on write and in every bound alike. Every interval includes
//! its start and excludes its end.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Microseconds in a second.
pub const MICROS_PER_SECOND: i64 = 1_000_000;

/// When an event happened: microseconds since 1970-01-01T00:00:00Z.
///
/// Requests may carry the range of `google.protobuf.Timestamp`, year 1 to year 9999
/// ([`EventTime::MIN`] to [`EventTime::MAX`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventTime(i64);

impl EventTime {
    /// 0001-01-01T00:00:00Z, the first time that a request can carry.
    pub const MIN: Self = Self(-62_135_596_800 * MICROS_PER_SECOND);
    /// 9999-12-31T23:59:59.999999Z, the last time that a request can carry.
    pub const MAX: Self = Self(253_402_300_800 * MICROS_PER_SECOND - 1);

    /// Wraps a count of microseconds since the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Seconds and nanoseconds as protobuf counts them (`nanos` forward from `seconds`); digits finer
    /// than a microsecond are dropped. `None` outside years 1 to 9999 or with `nanos` out of range.
    pub fn from_timestamp(seconds: i64, nanos: i32) -> Option<Self> {
        if !(0..1_000_000_000).contains(&nanos) {
            return None;
        }
        let micros = seconds
            .checked_mul(MICROS_PER_SECOND)?
            .checked_add(i64::from(nanos / 1_000))?;
        let time = Self(micros);
        (Self::MIN..=Self::MAX).contains(&time).then_some(time)
    }

    /// Microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds and the nanoseconds forward from them, as protobuf counts them.
    pub fn to_timestamp(self) -> (i64, i32) {
        let seconds = self.0.div_euclid(MICROS_PER_SECOND);
        let nanos = self.0.rem_euclid(MICROS_PER_SECOND) * 1_000;
        (seconds, i32::try_from(nanos).unwrap_or(0))
    }

    /// This time plus a duration, held at the ends of the number range.
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(micros_of(duration)))
    }

    /// This time less a duration, held at the ends of the number range.
    pub fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(micros_of(duration)))
    }
}

impl fmt::Display for EventTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(timestamp) => write!(f, "{timestamp}"),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

/// Whole microseconds of a duration, held at `i64::MAX`.
pub fn micros_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// A range of event time: `start` included, `end` excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TimeInterval {
    /// First time inside.
    pub start: EventTime,
    /// First time after it.
    pub end: EventTime,
}

impl TimeInterval {
    /// Every time there is.
    pub const ALL: Self = Self {
        start: EventTime(i64::MIN),
        end: EventTime(i64::MAX),
    };

    /// True when no time is inside.
    pub fn is_empty(&self) -> bool {
        self.start >= self.end
    }

    /// True when `time` is inside.
    pub fn contains(&self, time: EventTime) -> bool {
        self.start <= time && time < self.end
    }

    /// What both intervals hold; may be empty.
    pub fn intersection(&self, other: &Self) -> Self {
        Self {
            start: self.start.max(other.start),
            end: self.end.min(other.end),
        }
    }
}

impl fmt::Display for TimeInterval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn timestamp_roundtrips_to_the_microsecond(micros in EventTime::MIN.micros()..=EventTime::MAX.micros()) {
            let time = EventTime::from_micros(micros);
            let (seconds, nanos) = time.to_timestamp();
            prop_assert_eq!(EventTime::from_timestamp(seconds, nanos), Some(time));
        }
    }

    #[test]
    fn finer_digits_are_dropped_before_the_epoch_too() {
        assert_eq!(EventTime::from_timestamp(-1, 999_999_999).unwrap().micros(), -1);
        assert_eq!(EventTime::from_timestamp(0, 1_999).unwrap().micros(), 1);
    }

    #[test]
    fn times_outside_protobufs_years_are_refused() {
        assert_eq!(EventTime::from_timestamp(253_402_300_800, 0), None);
        assert_eq!(EventTime::from_timestamp(-62_135_596_801, 0), None);
        assert_eq!(EventTime::from_timestamp(0, 1_000_000_000), None);
    }
}
