//! Times, durations and sizes as people write and read them.

use std::time::Duration;

use prost_types::Timestamp;

const MICROS_PER_SECOND: i64 = 1_000_000;

/// A time: RFC 3339, a date, `now`, or relative to now as in `-7d`, `+1h`, `now-15m`.
///
/// What has no zone is UTC.
pub(crate) fn parse_time(text: &str, now_micros: i64) -> Result<Timestamp, String> {
    let text = text.trim();
    let relative = text.strip_prefix("now").unwrap_or(text).trim_start();
    if relative.is_empty() && !text.is_empty() {
        return timestamp_of_micros(now_micros);
    }
    let sign = match relative.chars().next() {
        Some('-') => -1,
        Some('+') => 1,
        _ if text.starts_with("now") => {
            return Err(format!("`{text}`: after `now` comes `-` or `+` and a duration"));
        }
        _ => return parse_absolute(text),
    };
    let offset = parse_duration(&relative[1..])?;
    let offset = i64::try_from(offset.as_micros()).map_err(|_| format!("`{text}` is too far away"))?;
    timestamp_of_micros(now_micros.saturating_add(sign * offset))
}

fn parse_absolute(text: &str) -> Result<Timestamp, String> {
    let wrong = || {
        format!(
            "`{text}` is not a time; use 2026-03-28T00:00:00Z, 2026-03-28, now, or relative to now as in -7d"
        )
    };
    // First what jiff has no instants for: the last day of the year 9999.
    if let Ok(zoned) = text.parse::<jiff::Timestamp>() {
        return timestamp_of_micros(zoned.as_microsecond());
    }
    // By way of text, because jiff has no instants for the last day of the year 9999.
    let civil = text.parse::<jiff::civil::DateTime>();
    let utc = civil.map_or_else(|_| text.to_owned(), |civil| format!("{civil}Z"));
    let time = parse_rfc3339(&utc).map_err(|_| wrong())?;
    timestamp_of_micros(time.seconds * MICROS_PER_SECOND + i64::from(time.nanos / 1_000))
}

fn timestamp_of_micros(micros: i64) -> Result<Timestamp, String> {
    let seconds = micros.div_euclid(MICROS_PER_SECOND);
    if !(-62_135_596_800..=253_402_300_799).contains(&seconds) {
        return Err("the time is outside the years 0001 to 9999".to_owned());
    }
    Ok(Timestamp {
        seconds,
        nanos: i32::try_from(micros.rem_euclid(MICROS_PER_SECOND) * 1_000).unwrap_or(0),
    })
}

/// A timestamp in RFC 3339 with as many digits (0, 3, 6 or 9) as it needs: the form of proto3 JSON.
pub(crate) fn format_time(time: &Timestamp) -> String {
    let mut text = String::with_capacity(30);
    push_time(&mut text, time);
    text
}

/// Appends what [`format_time`] returns.
pub(crate) fn push_time(text: &mut String, time: &Timestamp) {
    use std::fmt::Write as _;
    let (year, month, day) = civil_of_days(time.seconds.div_euclid(86_400));
    let second = time.seconds.rem_euclid(86_400);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    // Writing to a string does not fail.
    let _ = write!(
        text,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
    );
    let _ = match time.nanos {
        0 => Ok(()),
        nanos if nanos % 1_000_000 == 0 => write!(text, ".{:03}", nanos / 1_000_000),
        nanos if nanos % 1_000 == 0 => write!(text, ".{:06}", nanos / 1_000),
        nanos => write!(text, ".{nanos:09}"),
    };
    text.push('Z');
}

/// Year, month and day of a count of days since 1970-01-01, in the proleptic Gregorian calendar.
fn civil_of_days(days: i64) -> (i64, i64, i64) {
    // Years start in March here, so that the leap day is the last of its year.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// Days since 1970-01-01 of a year, month and day; the reverse of [`civil_of_days`].
fn days_of_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// An RFC 3339 timestamp, as proto3 JSON wants it. The common form is read without a general parser, because every line of
/// an import has one.
pub(crate) fn parse_rfc3339(text: &str) -> Result<Timestamp, String> {
    if let Some(time) = parse_utc(text.as_bytes()) {
        return Ok(time);
    }
    let wrong = || format!("`{text}` is not an RFC 3339 time such as 2026-03-28T00:00:00.123456Z");
    // The general parser also takes spaces and forms without an offset.
    let offset =
        text.ends_with('Z') || text.ends_with('z') || text.rfind(['+', '-']).is_some_and(|at| at > 9);
    if !offset {
        return Err(wrong());
    }
    let time: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
    timestamp_of_micros(time.as_microsecond())
}

/// `YYYY-MM-DDTHH:MM:SS[.digits]Z` and nothing else.
fn parse_utc(text: &[u8]) -> Option<Timestamp> {
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        text.get(range)?.iter().try_fold(0_i64, |sum, byte| {
            byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0'))
        })
    };
    let punctuation = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if text.len() < 20 || punctuation.iter().any(|(at, byte)| text[*at] != *byte) {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if year < 1 || !(1..=days_in_month).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (fraction, zone) = match &text[19..] {
        [b'.', rest @ ..] => rest.split_at(rest.iter().take_while(|byte| byte.is_ascii_digit()).count()),
        rest => (&[][..], rest),
    };
    if zone != b"Z" || fraction.len() > 9 || (text[19] == b'.' && fraction.is_empty()) {
        return None;
    }
    let mut nanos = 0;
    for place in 0..9 {
        nanos = nanos * 10 + i32::from(fraction.get(place).map_or(0, |byte| byte - b'0'));
    }
    Some(Timestamp {
        seconds: days_of_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second,
        nanos,
    })
}

/// A duration: `15m`, `1h30m`, `0.5s`, `7d`; a bare number is seconds only when it is 0.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if let Some(duration) = parse_decimal_duration(text) {
        return Ok(duration);
    }
    humantime::parse_duration(text).map_err(|_| {
        format!("`{text}` is not a duration; use a number with a unit, as in 15m, 1h30m, 7d or 0.5s")
    })
}

fn parse_decimal_duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(unit_at);
    if !number.contains('.') {
        return None;
    }
    let seconds = match unit.trim() {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        "w" => 604_800.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()
}

/// A number of bytes: `16MiB`, `20 MB`, `4096`.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    text.trim()
        .parse::<bytesize::ByteSize>()
        .map(|size| size.as_u64())
        .map_err(|_| format!("`{text}` is not a size; use a number of bytes, or a unit as in 64KiB or 16MiB"))
}

/// Bytes for a person: `71.2 MiB`.
pub(crate) fn format_size(bytes: u64) -> String {
    bytesize::ByteSize::b(bytes).display().iec().to_string()
}

/// A count for a person: `216,336`.
pub(crate) fn format_count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count and its noun: `1 event`, `2,000 events`.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", format_count(count))
}

/// How many a second, over a time; whole.
pub(crate) fn a_second(count: u64, over: Duration) -> u64 {
    let micros = over.as_micros().max(1);
    u64::try_from(u128::from(count) * 1_000_000 / micros).unwrap_or(u64::MAX)
}

/// A duration for a person, in the unit that fits: `840 µs`, `1.9 ms`, `3.2 s`, `2m 5s`.
pub(crate) fn format_elapsed(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1e-3 {
        format!("{:.0} µs", seconds * 1e6)
    } else if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1e3)
    } else if seconds < 120.0 {
        format!("{seconds:.1} s")
    } else {
        humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
    }
}

/// A duration as protobuf counts it.
pub(crate) fn proto_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: i64 = 1_774_656_000_000_000; // 2026-03-28T00:00:00Z

    fn time(text: &str) -> String {
        parse_time(text, NOW).map_or_else(|error| error, |time| format_time(&time))
    }

    #[test]
    fn times_are_absolute_or_relative_to_now() {
        assert_eq!(time("now"), "2026-03-28T00:00:00Z");
        assert_eq!(time("-7d"), "2026-03-21T00:00:00Z");
        assert_eq!(time("now-15m"), "2026-03-27T23:45:00Z");
        assert_eq!(time("+1h30m"), "2026-03-28T01:30:00Z");
        assert_eq!(time("2026-03-01"), "2026-03-01T00:00:00Z");
        assert_eq!(time("2026-03-01T12:00"), "2026-03-01T12:00:00Z");
        assert_eq!(time("9999-12-31"), "9999-12-31T00:00:00Z");
        assert_eq!(time("9999-12-31T23:59:59Z"), "9999-12-31T23:59:59Z");
        assert_eq!(time("2026-03-01T12:00:00+02:00"), "2026-03-01T10:00:00Z");
        assert_eq!(
            time("2026-03-01T12:00:00.1234567Z"),
            "2026-03-01T12:00:00.123456Z"
        );
    }

    #[test]
    fn a_wrong_time_says_what_would_fit() {
        assert!(time("yesterday").contains("use 2026-03-28T00:00:00Z"));
        assert!(time("-7q").contains("not a duration"));
        assert!(time("now7d").contains("after `now`"));
        assert!(time("-90000y").contains("outside the years") || time("-90000y").contains("not a duration"));
    }

    #[test]
    fn durations_and_sizes_have_units() {
        assert_eq!(parse_duration("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(parse_duration("0.5s"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        assert!(parse_duration("15").is_err());
        assert_eq!(parse_size("16MiB"), Ok(16 << 20));
        assert_eq!(parse_size("4096"), Ok(4096));
        assert!(parse_size("big").is_err());
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(format_count(0), "0");
        assert_eq!(format_count(999), "999");
        assert_eq!(format_count(216_336), "216,336");
        assert_eq!(counted(1, "event"), "1 event");
        assert_eq!(counted(1_000, "event"), "1,000 events");
    }

    #[test]
    fn only_rfc_3339_is_read_from_json() {
        assert!(parse_rfc3339("2026-03-28").is_err());
        assert!(parse_rfc3339("2026-03-28T00:00:00").is_err());
        assert!(parse_rfc3339("2026-02-29T00:00:00Z").is_err());
        assert!(parse_rfc3339("2026-03-28T00:00:00.Z").is_err());
        let offset = parse_rfc3339("2026-03-28T02:00:00+02:00").unwrap();
        assert_eq!(format_time(&offset), "2026-03-28T00:00:00Z");
        assert_eq!(
            parse_rfc3339("2024-02-29T00:00:00.5Z").unwrap().nanos,
            500_000_000
        );
    }

    proptest! {
        #[test]
        fn timestamps_roundtrip_and_agree_with_jiff(
            seconds in -62_135_596_800_i64..=253_402_300_799, micros in 0_i32..1_000_000
        ) {
            let time = Timestamp { seconds, nanos: micros * 1_000 };
            let text = format_time(&time);
            prop_assert_eq!(parse_rfc3339(&text), Ok(time));
            if let Ok(jiff) = text.parse::<jiff::Timestamp>() {
                prop_assert_eq!(jiff.as_second().min(seconds), seconds.min(jiff.as_second()));
                prop_assert_eq!(jiff.as_microsecond(), seconds * 1_000_000 + i64::from(micros));
            }
        }
    }
}
