//! Values as JSON, in the form in which `sstabledump` writes them.
//!
//! Numbers stay numbers, of any length. Where JSON has no number (`NaN`, infinities) there is text.

use std::fmt::Display;
use std::io::Write;
use std::net::IpAddr;

use bytes::Bytes;

use crate::cql::CqlType;
use crate::text;
use crate::value::Value;

/// Appends a value.
pub(crate) fn value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Empty => string(out, ""),
        Value::Text(text) => string(out, text),
        Value::Blob(bytes) => quoted(out, format_args!("0x{}", hex(bytes))),
        Value::Boolean(boolean) => plain(out, boolean),
        Value::Integer(integer) => plain(out, integer),
        Value::VarInt(bytes) => plain(out, text::varint(bytes)),
        Value::Decimal { scale, unscaled } => plain(out, text::decimal(*scale, unscaled)),
        Value::Float(float) if float.is_finite() => plain(out, format_args!("{float:?}")),
        Value::Float(float) => quoted(out, float),
        Value::Double(double) if double.is_finite() => plain(out, format_args!("{double:?}")),
        Value::Double(double) => quoted(out, double),
        Value::Date(days) => quoted(out, text::date(*days)),
        Value::Time(nanoseconds) => quoted(out, text::time(*nanoseconds)),
        Value::Timestamp(millis) => quoted(out, text::timestamp(*millis)),
        Value::Uuid(uuid) => quoted(out, dashed(uuid)),
        Value::Inet(address) => quoted(out, inet(address)),
        Value::Duration {
            months,
            days,
            nanoseconds,
        } => {
            quoted(out, text::duration(*months, *days, *nanoseconds));
        }
        Value::List(elements) => list(out, elements, |out, element| nullable(out, element.as_ref())),
        Value::Map(entries) => {
            let entries = entries.iter().map(|(key, value)| (key_text(key.as_ref()), value));
            map(out, entries);
        }
        Value::Udt(fields) => map(out, fields.iter().map(|(name, value)| (name.clone(), value))),
    }
}

/// The text of a key: keys are text in JSON, whatever their type.
pub(crate) fn key_text(key: Option<&Value>) -> String {
    match key {
        Some(Value::Text(text)) => text.clone(),
        other => {
            let mut out = Vec::new();
            nullable(&mut out, other);
            let text = String::from_utf8_lossy(&out);
            let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
            inner.unwrap_or(&text).to_owned()
        }
    }
}

/// Appends a value or `null`.
pub(crate) fn nullable(out: &mut Vec<u8>, nullable: Option<&Value>) {
    match nullable {
        Some(present) => value(out, present),
        None => out.extend_from_slice(b"null"),
    }
}

/// Appends a stored value.
pub(crate) fn stored(out: &mut Vec<u8>, cql_type: &CqlType, bytes: &Bytes) {
    match Value::decode(cql_type, bytes) {
        Ok(decoded) => value(out, &decoded),
        Err(error) => invalid(out, &error.to_string(), Some(bytes)),
    }
}

/// Appends an object in place of a value that its type does not fit: why, and the bytes that were stored.
pub(crate) fn invalid(out: &mut Vec<u8>, why: &str, bytes: Option<&Bytes>) {
    out.extend_from_slice(b"{\"invalid\":");
    string(out, why);
    if let Some(bytes) = bytes {
        out.extend_from_slice(b",\"bytes\":");
        string(out, &format!("0x{}", hex(bytes)));
    }
    out.push(b'}');
}

/// Appends text in quotes, escaped.
pub(crate) fn string(out: &mut Vec<u8>, text: &str) {
    // Writing text to memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}

/// Appends elements in brackets.
pub(crate) fn list<T>(
    out: &mut Vec<u8>,
    elements: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'[');
    for (at, element) in elements.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(out, element);
    }
    out.push(b']');
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 0xf)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(*byte)])
        .collect()
}

/// A UUID in its usual form.
pub(crate) fn dashed(uuid: &[u8; 16]) -> String {
    let digits = hex(uuid);
    let mut text = String::with_capacity(36);
    for (at, digit) in digits.chars().enumerate() {
        if matches!(at, 8 | 12 | 16 | 20) {
            text.push('-');
        }
        text.push(digit);
    }
    text
}

fn map<'a>(out: &mut Vec<u8>, entries: impl Iterator<Item = (String, &'a Option<Value>)>) {
    out.push(b'{');
    for (at, (key, value)) in entries.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        string(out, &key);
        out.push(b':');
        nullable(out, value.as_ref());
    }
    out.push(b'}');
}

/// Java writes all eight groups of an IPv6 address, and the IPv4 addresses among them as such.
fn inet(address: &IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.to_string(),
            None => v6.segments().map(|group| format!("{group:x}")).join(":"),
        },
    }
}

fn plain(out: &mut Vec<u8>, text: impl Display) {
    // Writing to memory cannot fail.
    let _ = write!(out, "{text}");
}

fn quoted(out: &mut Vec<u8>, text: impl Display) {
    // Nothing that is written this way needs escaping, and writing to memory cannot fail.
    let _ = write!(out, "\"{text}\"");
}
