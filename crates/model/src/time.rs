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

/// RFC 3339, with as many digits of the second as it takes.
impl fmt::Display for EventTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAY: i64 = 86_400;
        let seconds = self.0.div_euclid(MICROS_PER_SECOND);
        let (year, month, day) = civil_from_days(seconds.div_euclid(DAY));
        let of_day = seconds.rem_euclid(DAY);
        let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
        )?;
        let micros = self.0.rem_euclid(MICROS_PER_SECOND);
        if micros != 0 {
            let digits = format!("{micros:06}");
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

/// Year, month and day of a day number since the epoch, in the proleptic Gregorian calendar.
///
/// Slices and events may lie outside of the years that a time library knows, so the days are counted here,
/// after Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
pub(crate) fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
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

    /// The times that an event can have.
    pub const EVENTS: Self = Self {
        start: EventTime::MIN,
        end: EventTime(EventTime::MAX.0 + 1),
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
    fn times_print_as_rfc_3339_over_the_whole_range() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (1_774_656_000_120_000, "2026-03-28T00:00:00.12Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00Z"),
            (EventTime::MIN.micros(), "0001-01-01T00:00:00Z"),
            (EventTime::MAX.micros(), "9999-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(EventTime::from_micros(micros).to_string(), text);
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
