//! One line of NDJSON to an event.
//!
//! The fast way reads straight into the message. Only when it fails is the line read again as any JSON, to
//! say which field is wrong: wrong lines are rare, right ones are millions.

use std::fmt;

use anabranch_proto::timeseries::v1::{EventItem, EventRecord};
use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use prost_types::Timestamp;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde_json::Value;

use crate::units::parse_rfc3339;

/// Why a line is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WrongLine {
    /// Path of the field at fault: `eventItems[2].eventItemValue`; nothing when the line is no JSON.
    pub(crate) field: String,
    /// What is wrong with it.
    pub(crate) problem: String,
}

impl fmt::Display for WrongLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.problem)
    }
}

/// Reads a line.
pub(crate) fn decode(line: &[u8]) -> Result<EventRecord, WrongLine> {
    match serde_json::from_slice::<Event>(line) {
        Ok(event) => event.checked().map_err(|(field, problem)| WrongLine {
            field,
            problem: problem.to_owned(),
        }),
        Err(error) => Err(diagnose(line, &error)),
    }
}

/// Proto3 JSON takes both alphabets of base64, with padding or without.
const fn engine(alphabet: &base64::alphabet::Alphabet) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(alphabet, config)
}
const STANDARD: GeneralPurpose = engine(&base64::alphabet::STANDARD);
const URL_SAFE: GeneralPurpose = engine(&base64::alphabet::URL_SAFE);

fn bytes_of(text: &str) -> Result<Bytes, String> {
    let decoded = if text.contains(['-', '_']) {
        URL_SAFE.decode(text)
    } else {
        STANDARD.decode(text)
    };
    decoded
        .map(Bytes::from)
        .map_err(|error| format!("not base64: {}", error.to_string().to_lowercase()))
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Event {
    #[serde(alias = "time_series_id")]
    time_series_id: Option<String>,
    #[serde(alias = "event_time")]
    event_time: Option<Time>,
    #[serde(alias = "event_id")]
    event_id: Option<String>,
    #[serde(alias = "event_items")]
    event_items: Option<Vec<Item>>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Item {
    #[serde(alias = "event_item_key")]
    event_item_key: Option<String>,
    #[serde(alias = "event_item_value")]
    event_item_value: Option<Base64>,
}

impl Event {
    /// What every event needs. The server checks the same; said here, it costs no batch.
    fn checked(self) -> Result<EventRecord, (String, &'static str)> {
        let text = |field: &str, text: Option<String>| match text {
            Some(text) if !text.is_empty() => Ok(text),
            Some(_) => Err((field.to_owned(), "must not be empty")),
            None => Err((field.to_owned(), "is missing")),
        };
        let time_series_id = text("timeSeriesId", self.time_series_id)?;
        let event_time = self.event_time.ok_or(("eventTime".to_owned(), "is missing"))?.0;
        let event_id = text("eventId", self.event_id)?;
        let items = self.event_items.unwrap_or_default();
        if items.is_empty() {
            return Err(("eventItems".to_owned(), "an event has at least one item"));
        }
        let mut event_items = Vec::with_capacity(items.len());
        for (at, item) in items.into_iter().enumerate() {
            let key = item.event_item_key.unwrap_or_default();
            if key.is_empty() {
                return Err((format!("eventItems[{at}].eventItemKey"), "is missing"));
            }
            event_items.push(EventItem {
                event_item_key: key,
                event_item_value: item.event_item_value.map(|value| value.0).unwrap_or_default(),
            });
        }
        Ok(EventRecord {
            time_series_id,
            event_time: Some(event_time),
            event_id,
            event_items,
        })
    }
}

struct Time(Timestamp);
struct Base64(Bytes);

macro_rules! from_text {
    ($name:ident, $read:expr, $expecting:literal) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct FromText;
                impl Visitor<'_> for FromText {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        $read(text).map($name).map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(FromText)
            }
        }
    };
}
from_text!(Time, parse_rfc3339, "an RFC 3339 time");
from_text!(Base64, bytes_of, "base64 text");

/// Finds the field that made the fast way fail.
fn diagnose(line: &[u8], error: &serde_json::Error) -> WrongLine {
    let wrong = |field: &str, problem: String| WrongLine {
        field: field.to_owned(),
        problem,
    };
    let value: Value = match serde_json::from_slice(line) {
        Ok(value) => value,
        Err(error) => {
            let at = error.column();
            let text = error.to_string();
            let text = text.split(" at line ").next().unwrap_or_default().to_owned();
            return wrong("", format!("not JSON at column {at}: {text}"));
        }
    };
    let Value::Object(fields) = &value else {
        return wrong("", format!("expected an object, found {}", kind(&value)));
    };
    for (name, value) in fields {
        let found = match name.as_str() {
            "timeSeriesId" | "time_series_id" | "eventId" | "event_id" => text(name, value).map(drop),
            "eventTime" | "event_time" => {
                text(name, value).and_then(|text| parse_rfc3339(text).map(drop).map_err(|p| wrong(name, p)))
            }
            "eventItems" | "event_items" => diagnose_items(name, value),
            _ => Err(wrong(name, "there is no such field in an event".to_owned())),
        };
        if let (Err(found), false) = (found, value.is_null()) {
            return found;
        }
    }
    // Left is what only the text shows, such as a field that is there twice.
    let text = error.to_string();
    wrong("", text.split(" at line ").next().unwrap_or_default().to_owned())
}

fn diagnose_items(path: &str, items: &Value) -> Result<(), WrongLine> {
    let wrong = |field: String, problem: String| Err(WrongLine { field, problem });
    let Value::Array(items) = items else {
        return wrong(path.to_owned(), format!("expected a list, found {}", kind(items)));
    };
    for (at, item) in items.iter().enumerate() {
        let Value::Object(fields) = item else {
            return wrong(
                format!("{path}[{at}]"),
                format!("expected an object, found {}", kind(item)),
            );
        };
        for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
            let path = format!("{path}[{at}].{name}");
            match name.as_str() {
                "eventItemKey" | "event_item_key" => text(&path, value).map(drop)?,
                "eventItemValue" | "event_item_value" => {
                    if let Err(problem) = bytes_of(text(&path, value)?) {
                        return wrong(path, problem);
                    }
                }
                _ => return wrong(path, "there is no such field in an item".to_owned()),
            }
        }
    }
    Ok(())
}

fn text<'a>(path: &str, value: &'a Value) -> Result<&'a str, WrongLine> {
    value.as_str().ok_or_else(|| WrongLine {
        field: path.to_owned(),
        problem: format!("expected text, found {}", kind(value)),
    })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::ndjson::EventJson;
    use proptest::prelude::*;

    const LINE: &str = r#"{"timeSeriesId":"a","eventTime":"2026-03-28T00:00:00Z","eventId":"e","eventItems":[{"eventItemKey":"k","eventItemValue":"dg=="}]}"#;

    fn problem(line: &str) -> String {
        decode(line.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn both_spellings_of_names_are_read() {
        let snake = r#"{"time_series_id":"a","event_time":"2026-03-28T02:00:00+02:00","event_id":"e","event_items":[{"event_item_key":"k","event_item_value":"dg"}]}"#;
        assert_eq!(decode(LINE.as_bytes()), decode(snake.as_bytes()));
        assert_eq!(
            decode(LINE.as_bytes()).unwrap().event_items[0].event_item_value,
            "v"
        );
    }

    #[test]
    fn both_alphabets_of_base64_are_read() {
        for text in ["+/8=", "-_8=", "-_8", "+/8"] {
            assert_eq!(bytes_of(text).unwrap(), [0xfb, 0xff][..]);
        }
        assert!(bytes_of("+_8=").is_err());
    }

    #[test]
    fn a_wrong_line_names_the_field() {
        let replaced = |from: &str, to: &str| problem(&LINE.replacen(from, to, 1));
        assert_eq!(
            replaced("\"a\"", "7"),
            "timeSeriesId: expected text, found a number"
        );
        assert_eq!(replaced("\"a\"", "\"\""), "timeSeriesId: must not be empty");
        assert_eq!(replaced("\"eventId\":\"e\",", ""), "eventId: is missing");
        assert_eq!(replaced("\"e\"", "null"), "eventId: is missing");
        assert!(replaced("2026-03-28T", "yesterday ").starts_with("eventTime: `yesterday"));
        assert!(replaced("dg==", "d*==").starts_with("eventItems[0].eventItemValue: not base64"));
        assert_eq!(
            replaced("eventId", "eventld"),
            "eventld: there is no such field in an event"
        );
        assert_eq!(
            replaced("[{\"event", "[7,{\"event"),
            "eventItems[0]: expected an object, found a number"
        );
        assert_eq!(
            replaced("\"eventItemKey\":\"k\",", ""),
            "eventItems[0].eventItemKey: is missing"
        );
        assert!(problem(&LINE[..40]).starts_with("not JSON at column 40: EOF"));
        assert_eq!(problem("[1]"), "expected an object, found a list");
        assert!(problem(&LINE.replacen('{', "{\"eventId\":\"x\",", 1)).contains("duplicate field"));
    }

    proptest! {
        #[test]
        fn what_read_prints_write_reads(
            id in ".{1,8}", event_id in ".{1,8}", micros in 0_i64..4_000_000_000_000_000,
            items in proptest::collection::vec((".{1,8}", proptest::collection::vec(any::<u8>(), 0..20)), 1..4)
        ) {
            let event = EventRecord {
                time_series_id: id,
                event_time: Some(Timestamp {
                    seconds: micros / 1_000_000,
                    nanos: i32::try_from(micros % 1_000_000).unwrap() * 1_000,
                }),
                event_id,
                event_items: items
                    .into_iter()
                    .map(|(event_item_key, value)| EventItem { event_item_key, event_item_value: value.into() })
                    .collect(),
            };
            let line = serde_json::to_vec(&EventJson(&event)).unwrap();
            prop_assert_eq!(decode(&line), Ok(event));
        }

        #[test]
        fn no_line_panics(line in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode(&line);
        }
    }
}
