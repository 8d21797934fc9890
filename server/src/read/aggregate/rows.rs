//! Rows and their order: by group, then, for `distinct`, by value.
//!
//! Times and values sort as their type does; items that group, and KEYWORD values, by bytes. A row's key
//! is bytes that sort so: see [`row_key`].

use anabranch_model::query::AggregationKind;

use super::accumulate::{RowState, State};
use crate::read::field::FieldValue;
use crate::read::request::{AggregatedValue, AggregationRow, Group};

/// Bytes that sort as the rows do.
pub(super) type RowKey = Vec<u8>;

pub(super) fn row_key(group: Option<&Group>, distinct: Option<&FieldValue>) -> RowKey {
    let mut key = Vec::new();
    match group {
        None => {}
        Some(Group::Time(time)) => key.extend_from_slice(&ordered(time.micros())),
        Some(Group::Item(value)) => {
            // The end must sort before every byte that can follow: 00 00, with 00 itself as 00 FF.
            for byte in value {
                key.push(*byte);
                if *byte == 0 {
                    key.push(0xFF);
                }
            }
            key.extend_from_slice(&[0, 0]);
        }
    }
    match distinct {
        None => {}
        Some(FieldValue::Keyword(bytes)) => key.extend_from_slice(bytes),
        Some(FieldValue::Integer(number)) => key.extend_from_slice(&ordered(*number)),
        Some(FieldValue::Double(number)) => key.extend_from_slice(&ordered_double(*number)),
        Some(FieldValue::Boolean(boolean)) => key.push(u8::from(*boolean)),
        Some(FieldValue::Timestamp(time)) => key.extend_from_slice(&ordered(time.micros())),
    }
    key
}

fn ordered(number: i64) -> [u8; 8] {
    (number ^ i64::MIN).to_be_bytes()
}

fn ordered_double(number: f64) -> [u8; 8] {
    // The two zeros are one value.
    let number = if number == 0.0 { 0.0 } else { number };
    let bits = number.to_bits();
    let sign = 1 << 63;
    let turned = if bits & sign == 0 { bits ^ sign } else { !bits };
    turned.to_be_bytes()
}

pub(super) fn row_of(kind: AggregationKind, state: RowState) -> AggregationRow {
    let count = state.count;
    let (sum, value) = match state.value {
        State::Count => (None, Some(count_value(count))),
        State::Distinct(value) => (None, Some(value_of(value))),
        State::Extreme(value) => (None, value.map(value_of)),
        State::IntegerSum(sum) => (Some(as_double(sum)), integer_sum(kind, sum, count)),
        State::DoubleSum(sum) => (Some(sum), double_sum(kind, sum, count)),
    };
    AggregationRow {
        group: state.group,
        count,
        sum,
        value,
    }
}

fn integer_sum(kind: AggregationKind, sum: i128, count: u64) -> Option<AggregatedValue> {
    if kind == AggregationKind::Avg {
        return mean(as_double(sum), count);
    }
    Some(match i64::try_from(sum) {
        Ok(sum) => AggregatedValue::Integer(sum),
        Err(_) => AggregatedValue::Double(as_double(sum)),
    })
}

fn double_sum(kind: AggregationKind, sum: f64, count: u64) -> Option<AggregatedValue> {
    if kind == AggregationKind::Avg {
        return mean(sum, count);
    }
    Some(AggregatedValue::Double(sum))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a mean is a float, as near as it comes"
)]
fn mean(sum: f64, count: u64) -> Option<AggregatedValue> {
    (count > 0).then(|| AggregatedValue::Double(sum / count as f64))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a sum past an integer's range is given as near as a float comes"
)]
fn as_double(sum: i128) -> f64 {
    sum as f64
}

fn count_value(count: u64) -> AggregatedValue {
    AggregatedValue::Integer(i64::try_from(count).unwrap_or(i64::MAX))
}

fn value_of(value: FieldValue) -> AggregatedValue {
    match value {
        FieldValue::Keyword(bytes) => AggregatedValue::Keyword(bytes),
        FieldValue::Integer(number) => AggregatedValue::Integer(number),
        FieldValue::Double(number) => AggregatedValue::Double(number),
        FieldValue::Boolean(boolean) => AggregatedValue::Boolean(boolean),
        FieldValue::Timestamp(time) => AggregatedValue::Timestamp(time),
    }
}
