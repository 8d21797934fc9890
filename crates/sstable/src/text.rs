//! Times and long numbers as Cassandra's tools write them.

use std::fmt::Write;

/// Where `local_delete_time` and the like come from, and how fine they are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    Seconds,
    Microseconds,
}

/// `2026-11-24T10:48:00.123456Z`, with no more digits than are needed, in threes.
pub(crate) fn instant(unit: Unit, time: i64) -> String {
    let (seconds, micros) = match unit {
        Unit::Seconds => (time, 0),
        Unit::Microseconds => (time.div_euclid(1_000_000), time.rem_euclid(1_000_000)),
    };
    let mut text = date_and_time(seconds, 'T');
    match (micros / 1_000, micros % 1_000) {
        (0, 0) => {}
        (millis, 0) => push(&mut text, format_args!(".{millis:03}")),
        (millis, micros) => push(&mut text, format_args!(".{millis:03}{micros:03}")),
    }
    text.push('Z');
    text
}

/// `2026-11-24 10:48:00.123Z`
pub(crate) fn timestamp(millis: i64) -> String {
    let mut text = date_and_time(millis.div_euclid(1_000), ' ');
    push(&mut text, format_args!(".{:03}Z", millis.rem_euclid(1_000)));
    text
}

/// `10:48:00.123456789`
pub(crate) fn time(nanoseconds: i64) -> String {
    let (seconds, nanos) = (
        nanoseconds.div_euclid(1_000_000_000),
        nanoseconds.rem_euclid(1_000_000_000),
    );
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}.{nanos:09}")
}

/// `2026-11-24`, with a sign before years that have not four digits.
pub(crate) fn date(days: i64) -> String {
    let (year, month, day) = civil(days);
    let sign = match year {
        10_000.. => "+",
        ..0 => "-",
        _ => "",
    };
    format!("{sign}{:04}-{month:02}-{day:02}", year.unsigned_abs())
}

fn date_and_time(seconds: i64, between: char) -> String {
    let mut text = date(seconds.div_euclid(86_400));
    let second = seconds.rem_euclid(86_400);
    let (hours, minutes, seconds) = (second / 3_600, second / 60 % 60, second % 60);
    push(
        &mut text,
        format_args!("{between}{hours:02}:{minutes:02}:{seconds:02}"),
    );
    text
}

/// Year, month and day of a day since 1970, by Hinnant's method: years start in March, so that the leap day is
/// their last, and eras have 400 of them.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// `-1y2mo3d4h5m6s7ms8us9ns`, without the units that are zero.
pub(crate) fn duration(months: i64, days: i64, nanoseconds: i64) -> String {
    const UNITS: [(&str, u64); 6] = [
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
    ];
    let mut text = String::new();
    if months < 0 || days < 0 || nanoseconds < 0 {
        text.push('-');
    }
    let mut part = |amount: u64, unit: &str| {
        if amount > 0 {
            push(&mut text, format_args!("{amount}{unit}"));
        }
    };
    part(months.unsigned_abs() / 12, "y");
    part(months.unsigned_abs() % 12, "mo");
    part(days.unsigned_abs(), "d");
    let mut rest = nanoseconds.unsigned_abs();
    for (unit, size) in UNITS {
        part(rest / size, unit);
        rest %= size;
    }
    text
}

/// A whole number of any length, from big-endian two's complement.
pub(crate) fn varint(bytes: &[u8]) -> String {
    let is_negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let flip = if is_negative { 0xff } else { 0 };
    // Limbs of nine digits, the smallest first. Negating is flipping every bit and adding one.
    let mut limbs: Vec<u64> = vec![0];
    let mut multiply_add = |factor: u64, mut carry: u64| {
        for limb in &mut limbs {
            let sum = *limb * factor + carry;
            (*limb, carry) = (sum % 1_000_000_000, sum / 1_000_000_000);
        }
        while carry > 0 {
            limbs.push(carry % 1_000_000_000);
            carry /= 1_000_000_000;
        }
    };
    for byte in bytes {
        multiply_add(256, u64::from(byte ^ flip));
    }
    if is_negative {
        multiply_add(1, 1);
    }
    let mut text = String::from(if is_negative { "-" } else { "" });
    for (at, limb) in limbs.iter().rev().enumerate() {
        match at {
            0 => push(&mut text, format_args!("{limb}")),
            _ => push(&mut text, format_args!("{limb:09}")),
        }
    }
    text
}

/// A decimal number as Java's `BigDecimal` writes it: with an exponent when it is very small, or when zeroes
/// before the point are not digits of it.
pub(crate) fn decimal(scale: i32, unscaled: &[u8]) -> String {
    let whole = varint(unscaled);
    if scale == 0 {
        return whole;
    }
    let (sign, digits) = match whole.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", whole.as_str()),
    };
    let scale = i64::from(scale);
    let count = i64::try_from(digits.len()).unwrap_or(i64::MAX);
    let exponent = count - 1 - scale;
    if scale >= 0 && exponent >= -6 {
        let point = usize::try_from(count - scale).unwrap_or(0);
        let zeroes = usize::try_from(scale - count).unwrap_or(0);
        return match digits.split_at_checked(point) {
            Some((before, after)) if !before.is_empty() => format!("{sign}{before}.{after}"),
            _ => format!("{sign}0.{}{digits}", "0".repeat(zeroes)),
        };
    }
    let (first, rest) = digits.split_at_checked(1).unwrap_or((digits, ""));
    let point = if rest.is_empty() { "" } else { "." };
    format!("{sign}{first}{point}{rest}E{exponent:+}")
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = text.write_fmt(arguments);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_java_does() {
        assert_eq!(instant(Unit::Seconds, 0), "1970-01-01T00:00:00Z");
        assert_eq!(instant(Unit::Microseconds, -1), "1969-12-31T23:59:59.999999Z");
        assert_eq!(
            instant(Unit::Microseconds, 1_442_880_000_120_000),
            "2015-09-22T00:00:00.120Z"
        );
        assert_eq!(timestamp(951_782_400_007), "2000-02-29 00:00:00.007Z");
        assert_eq!(time(86_399_999_999_999), "23:59:59.999999999");
        assert_eq!(date(-(1 << 31)), "-5877641-06-23");
        assert_eq!(date((1 << 31) - 1), "+5881580-07-11");
        assert_eq!(duration(-14, -3, -3_723_000_000_004), "-1y2mo3d1h2m3s4ns");
    }

    #[test]
    fn long_numbers_are_written_in_full() {
        assert_eq!(varint(&[]), "0");
        assert_eq!(varint(&[0x80]), "-128");
        assert_eq!(varint(&[0xff, 0xff]), "-1");
        assert_eq!(varint(&[0x7f; 16]), "169473963133173273960190490760135540607");
        let million = [0x0f, 0x42, 0x40];
        for (scale, text) in [
            (0, "1000000"),
            (3, "1000.000"),
            (7, "0.1000000"),
            (12, "0.000001000000"),
            (13, "1.000000E-7"),
            (-2, "1.000000E+8"),
        ] {
            assert_eq!(decimal(scale, &million), text);
        }
        assert_eq!(decimal(2, &[0xff]), "-0.01");
        assert_eq!(decimal(-3, &[1]), "1E+3");
        assert_eq!(decimal(1, &[0]), "0.0");
    }
}
