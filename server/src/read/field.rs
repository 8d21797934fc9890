//! Item values as their field type reads them.
//!
//! A value that does not parse under the type of its key is no value of it: it matches nothing and is
//! left out of every aggregation.

use std::cmp::Ordering;

use anabranch_model::{EventTime, FieldType, NamespaceSettings};
use bytes::Bytes;

/// A value under a field type.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum FieldValue {
    Keyword(Bytes),
    Integer(i64),
    /// Never NaN.
    Double(f64),
    Boolean(bool),
    Timestamp(EventTime),
}

/// The type of a key in a namespace.
pub(super) fn type_of(settings: &NamespaceSettings, item_key: &str) -> FieldType {
    settings.field_mapping.get(item_key).copied().unwrap_or_default()
}

/// Reads a value; `None` when it is none of the type.
pub(super) fn parse(field_type: FieldType, value: &Bytes) -> Option<FieldValue> {
    if field_type == FieldType::Keyword {
        return Some(FieldValue::Keyword(value.clone()));
    }
    let text = std::str::from_utf8(value).ok()?;
    match field_type {
        FieldType::Keyword => None,
        FieldType::Integer => text.parse().ok().map(FieldValue::Integer),
        FieldType::Double => text
            .parse()
            .ok()
            .filter(|number: &f64| !number.is_nan())
            .map(FieldValue::Double),
        FieldType::Boolean => match text {
            "true" => Some(FieldValue::Boolean(true)),
            "false" => Some(FieldValue::Boolean(false)),
            _ => None,
        },
        FieldType::Timestamp => timestamp(text).map(FieldValue::Timestamp),
    }
}

/// What a value of the type looks like, for messages.
pub(super) fn example(field_type: FieldType) -> &'static str {
    match field_type {
        FieldType::Keyword => "any bytes",
        FieldType::Integer => "a decimal integer of 64 bits, such as 42",
        FieldType::Double => "a decimal number, such as 0.5",
        FieldType::Boolean => "true or false",
        FieldType::Timestamp => "an RFC 3339 time, such as 2026-01-31T12:00:00Z",
    }
}

/// The type's name, as settings write it.
pub(super) fn name(field_type: FieldType) -> &'static str {
    match field_type {
        FieldType::Keyword => "KEYWORD",
        FieldType::Integer => "INTEGER",
        FieldType::Double => "DOUBLE",
        FieldType::Boolean => "BOOLEAN",
        FieldType::Timestamp => "TIMESTAMP",
    }
}

impl FieldValue {
    /// How two values of one type compare; `None` for values of different types.
    pub(super) fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Keyword(a), Self::Keyword(b)) => Some(a.cmp(b)),
            (Self::Integer(a), Self::Integer(b)) => Some(a.cmp(b)),
            (Self::Double(a), Self::Double(b)) => a.partial_cmp(b),
            (Self::Boolean(a), Self::Boolean(b)) => Some(a.cmp(b)),
            (Self::Timestamp(a), Self::Timestamp(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }
}

fn timestamp(text: &str) -> Option<EventTime> {
    let nanos = text.parse::<jiff::Timestamp>().ok()?.as_nanosecond();
    // Finer digits are dropped downwards, as everywhere.
    let micros = i64::try_from(nanos.div_euclid(1_000)).ok()?;
    let time = EventTime::from_micros(micros);
    (EventTime::MIN..=EventTime::MAX).contains(&time).then_some(time)
}
