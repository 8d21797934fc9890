//! The order of values of each type, as Cassandra sorts by it: clustering values, and the elements of
//! collections.
//!
//! Values that are equal here are the same element or the same row, even when their bytes differ, as those of
//! 1.0 and 1.00 do. Bytes that are no value of their type are ordered as bytes: the order is always a total one.

use std::cmp::Ordering;

use crate::cql::CqlType;
use crate::text;

/// Compares clustering values, of which null is the smallest and empty the next.
pub(crate) fn clustering(cql_type: &CqlType, left: Option<&[u8]>, right: Option<&[u8]>) -> Ordering {
    match (left, right) {
        (Some(left), Some(right)) => values(cql_type, left, right),
        (left, right) => left.is_some().cmp(&right.is_some()),
    }
}

/// Compares two values.
pub(crate) fn values(cql_type: &CqlType, left: &[u8], right: &[u8]) -> Ordering {
    match cql_type {
        CqlType::Reversed(inner) => return values(inner, right, left),
        CqlType::Frozen(inner) => return values(inner, left, right),
        _ if left.is_empty() || right.is_empty() => return left.len().min(1).cmp(&right.len().min(1)),
        _ => {}
    }
    let compared = match cql_type {
        CqlType::TinyInt => fixed(left, right, i8::from_be_bytes),
        CqlType::SmallInt => fixed(left, right, i16::from_be_bytes),
        CqlType::Int => fixed(left, right, i32::from_be_bytes),
        CqlType::BigInt | CqlType::Timestamp => fixed(left, right, i64::from_be_bytes),
        CqlType::Boolean => fixed(left, right, |byte: [u8; 1]| byte != [0]),
        CqlType::Float => fixed(left, right, |bytes| float(f32::from_be_bytes(bytes).into())),
        CqlType::Double => fixed(left, right, |bytes| float(f64::from_be_bytes(bytes))),
        CqlType::Uuid => fixed(left, right, uuid),
        CqlType::TimeUuid => fixed(left, right, time_uuid),
        CqlType::VarInt => Some(varint(left).cmp(&varint(right))),
        CqlType::Decimal => decimals(left, right),
        CqlType::List(element) | CqlType::Set(element) => collections(&[element], left, right),
        CqlType::Map(key, value) => collections(&[key, value], left, right),
        CqlType::Vector(element, dimension) => vectors(element, *dimension, left, right),
        CqlType::Tuple(parts) => tuples(parts.iter(), left, right),
        CqlType::Udt(udt) => tuples(udt.fields.iter().map(|(_, part)| part), left, right),
        _ => None,
    };
    compared.unwrap_or_else(|| left.cmp(right))
}

fn fixed<const N: usize, T: Ord>(left: &[u8], right: &[u8], key: impl Fn([u8; N]) -> T) -> Option<Ordering> {
    Some(key(left.try_into().ok()?).cmp(&key(right.try_into().ok()?)))
}

/// A number that sorts as Java sorts floats: zero after its negative, and all that is not a number last.
fn float(value: f64) -> i64 {
    let bits = value.to_bits().cast_signed();
    match bits {
        _ if value.is_nan() => i64::MAX,
        // Of two negative ones, the one with the greater bits is the smaller.
        ..0 => bits ^ i64::MAX,
        _ => bits,
    }
}

/// By version; then time-based ones by their time, others by their first half; then by the second half.
fn uuid(bytes: [u8; 16]) -> (u8, u64, u64) {
    let bits = u128::from_be_bytes(bytes);
    let version = bytes[6] >> 4;
    let (first, second) = (half(bits >> 64), half(bits));
    match version {
        1 => (version, time_first(first), second),
        _ => (version, first, second),
    }
}

/// By time; then by the bytes of the second half, which count as signed.
fn time_uuid(bytes: [u8; 16]) -> (u64, u64) {
    let bits = u128::from_be_bytes(bytes);
    (time_first(half(bits >> 64)), half(bits) ^ 0x8080_8080_8080_8080)
}

fn half(bits: u128) -> u64 {
    u64::try_from(bits & u128::from(u64::MAX)).unwrap_or_default()
}

/// The parts of a UUID's time, the largest first and without the version.
fn time_first(first: u64) -> u64 {
    (first & 0x0fff) << 48 | (first & 0xffff_0000) << 16 | first >> 32
}

/// Sign and length before the bytes, without those that say nothing.
fn varint(bytes: &[u8]) -> (i64, &[u8]) {
    let is_negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let idle = if is_negative { 0xff } else { 0 };
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        let next_is_negative = tail.first().is_some_and(|next| next & 0x80 != 0);
        if *first != idle || tail.is_empty() || next_is_negative != is_negative {
            break;
        }
        rest = tail;
    }
    let length = i64::try_from(rest.len()).unwrap_or(i64::MAX);
    (if is_negative { -length } else { length }, rest)
}

fn decimals(left: &[u8], right: &[u8]) -> Option<Ordering> {
    let (left, right) = (Digits::of(left)?, Digits::of(right)?);
    let by_sign = left.sign.cmp(&right.sign);
    let by_size = left
        .exponent
        .cmp(&right.exponent)
        .then_with(|| left.digits.cmp(&right.digits));
    Some(by_sign.then(if left.sign < 0 { by_size.reverse() } else { by_size }))
}

/// 0.`digits` * 10^`exponent`, without zeroes at either end.
struct Digits {
    sign: i8,
    exponent: i64,
    digits: String,
}

impl Digits {
    fn of(bytes: &[u8]) -> Option<Self> {
        let (scale, unscaled) = bytes.split_first_chunk::<4>()?;
        let whole = text::varint(unscaled);
        let digits = whole.trim_start_matches('-');
        let sign = match (whole.starts_with('-'), digits) {
            (_, "0") => {
                return Some(Self {
                    sign: 0,
                    exponent: 0,
                    digits: String::new(),
                });
            }
            (true, _) => -1,
            (false, _) => 1,
        };
        let exponent = i64::try_from(digits.len()).ok()? - i64::from(i32::from_be_bytes(*scale));
        Some(Self {
            sign,
            exponent,
            digits: digits.trim_end_matches('0').to_owned(),
        })
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn length(rest: &mut &[u8]) -> Option<i32> {
    Some(i32::from_be_bytes(take(rest, 4)?.try_into().ok()?))
}

/// Element by element, each of the types in turn; the shorter first when all are equal.
fn collections(types: &[&CqlType], mut left: &[u8], mut right: &[u8]) -> Option<Ordering> {
    let (left_count, right_count) = (length(&mut left)?, length(&mut right)?);
    for _ in 0..left_count.min(right_count) {
        for cql_type in types {
            let left_length = usize::try_from(length(&mut left)?).ok()?;
            let right_length = usize::try_from(length(&mut right)?).ok()?;
            let (one, other) = (take(&mut left, left_length)?, take(&mut right, right_length)?);
            let compared = values(cql_type, one, other);
            if compared.is_ne() {
                return Some(compared);
            }
        }
    }
    Some(left_count.cmp(&right_count))
}

/// Part by part; null first, and parts that are missing at the end are null.
fn tuples<'a>(
    types: impl Iterator<Item = &'a CqlType>,
    mut left: &[u8],
    mut right: &[u8],
) -> Option<Ordering> {
    for cql_type in types {
        let (one, other) = (part(&mut left)?, part(&mut right)?);
        let compared = clustering(cql_type, one, other);
        if compared.is_ne() {
            return Some(compared);
        }
    }
    Some(Ordering::Equal)
}

fn part<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    if rest.is_empty() {
        return Some(None);
    }
    match usize::try_from(length(rest)?) {
        Ok(length) => take(rest, length).map(Some),
        Err(_) => Some(None),
    }
}

fn vectors(element: &CqlType, dimension: usize, mut left: &[u8], mut right: &[u8]) -> Option<Ordering> {
    for _ in 0..dimension {
        let one = vector_element(element, &mut left)?;
        let other = vector_element(element, &mut right)?;
        let compared = values(element, one, other);
        if compared.is_ne() {
            return Some(compared);
        }
    }
    Some(Ordering::Equal)
}

fn vector_element<'a>(element: &CqlType, rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    if let Some(length) = element.fixed_length() {
        return take(rest, length);
    }
    let first = *take(rest, 1)?.first()?;
    let more = first.leading_ones();
    let head = if more < 8 {
        usize::from(first & (0xff_u8 >> more))
    } else {
        0
    };
    let tail = take(rest, more as usize)?;
    let length = tail.iter().try_fold(head, |length, byte| {
        length.checked_mul(256)?.checked_add(usize::from(*byte))
    });
    take(rest, length?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ascends(cql_type: &CqlType, sorted: &[&[u8]]) {
        for (at, left) in sorted.iter().enumerate() {
            for (other, right) in sorted.iter().enumerate() {
                assert_eq!(
                    values(cql_type, left, right),
                    at.cmp(&other),
                    "{cql_type}: {left:?} {right:?}"
                );
            }
        }
    }

    #[test]
    fn numbers_sort_by_value_and_not_by_bytes() {
        ascends(
            &CqlType::VarInt,
            &[
                &[],
                &[0xff, 0x7f],
                &[0x80],
                &[0xff],
                &[0],
                &[0x7f],
                &[0, 0x80],
                &[1, 0],
            ],
        );
        assert!(values(&CqlType::VarInt, &[0, 0, 1], &[1]).is_eq());
        let doubles = [
            f64::NEG_INFINITY,
            -1.5,
            -0.0,
            0.0,
            1e-300,
            2.0,
            f64::INFINITY,
            f64::NAN,
        ];
        let doubles = doubles.map(f64::to_be_bytes);
        ascends(
            &CqlType::Double,
            &doubles.each_ref().map(|bytes| bytes.as_slice()),
        );
        let decimal = |scale: i32, unscaled: u8| [scale.to_be_bytes().as_slice(), &[unscaled]].concat();
        let decimals = [
            decimal(0, 0x80),
            decimal(1, 0xff),
            decimal(5, 0),
            decimal(2, 5),
            decimal(0, 9),
            decimal(-3, 1),
        ];
        ascends(&CqlType::Decimal, &decimals.each_ref().map(Vec::as_slice));
        assert!(values(&CqlType::Decimal, &decimal(1, 10), &decimal(0, 1)).is_eq());
    }

    #[test]
    fn reversed_turns_the_order_round_with_empty_last() {
        let reversed = CqlType::Reversed(Box::new(CqlType::Int));
        ascends(&reversed, &[&[0, 0, 0, 2], &[0, 0, 0, 1], &[0xff; 4], &[]]);
    }
}
