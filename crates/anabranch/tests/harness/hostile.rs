//! Requests full of what may break out of a statement, a log or a format: made at random for any method, from the
//! descriptors of its messages.

use bytes::Bytes;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};

use super::made::Dice;

/// Whatever a text of a user's may be made of.
const PIECES: &[&str] = &[
    "'",
    "''",
    "\"",
    "`",
    ";",
    "--",
    "/*",
    "*/",
    "\\",
    "\0",
    "\n",
    "\r\n",
    "\t",
    "%s",
    "%n",
    "{}",
    "{0}",
    "${x}",
    "?",
    ":x",
    "$$",
    "(",
    ")",
    ",",
    "=",
    "<",
    ">",
    "&",
    "|",
    "..",
    "/",
    "é",
    "日本",
    "\u{202e}",
    "\u{feff}",
    "\u{10ffff}",
    "\u{7f}",
    "\u{1}",
    "DROP TABLE ",
    "DROP KEYSPACE ",
    "TRUNCATE ",
    "SELECT * FROM ",
    "INSERT INTO ",
    "BEGIN BATCH ",
    "APPLY BATCH;",
    " OR '1'='1",
    " ALLOW FILTERING",
    " IF EXISTS",
    " USING TTL 1",
    "system.local",
    "system_schema.tables",
    "wide_row",
    "namespace",
    "null",
    "NaN",
    "-1",
    "0x00",
    "true",
    "a",
    "Z",
    "_",
    "-",
    " ",
];

/// Bytes that are in every text made here, and in no name that is made to be one.
pub(crate) const CANARY: &str = "qZx9";

/// Makes hostile messages.
#[derive(Clone, Debug)]
pub(crate) struct Hostile {
    pub(crate) dice: Dice,
    /// Namespaces that there are.
    pub(crate) namespaces: Vec<String>,
    /// Times near this one are the right ones, in seconds since the epoch.
    pub(crate) now: i64,
}

impl Hostile {
    /// Any text, marked.
    pub(crate) fn text(&mut self) -> String {
        let pieces = match self.dice.below(40) {
            0 => 400,
            1 => 60,
            _ => 1 + self.dice.below(6),
        };
        let mut text: String = (0..pieces).map(|_| *self.dice.pick(PIECES)).collect();
        let at = usize::try_from(self.dice.below(text.len() as u64 + 1)).unwrap();
        let at = (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.insert_str(at, CANARY);
        text
    }

    /// Any bytes, marked.
    pub(crate) fn bytes(&mut self) -> Bytes {
        let length = match self.dice.below(20) {
            0 => 4_000,
            _ => usize::try_from(self.dice.below(60)).unwrap(),
        };
        let mut bytes = self.text().into_bytes();
        bytes.extend(self.dice.bytes(length));
        bytes.into()
    }

    /// A namespace: mostly one that there is, or a text, or a name that could be one.
    fn namespace(&mut self) -> String {
        match self.dice.below(20) {
            0..=13 => self.dice.pick(&self.namespaces).clone(),
            14..=16 => self.text(),
            _ => {
                let words = [
                    "system",
                    "SELECT",
                    "drop-table",
                    "a__b",
                    "0",
                    "wide_row",
                    "Null",
                    "-",
                ];
                let number = self.dice.below(1_000);
                format!("{}{number}", self.dice.pick(&words))
            }
        }
    }

    fn slice(&mut self) -> String {
        match self.dice.below(4) {
            0 => self.text(),
            1 => "20260101".to_owned(),
            _ => "all".to_owned(),
        }
    }

    /// A message of any kind.
    pub(crate) fn message(&mut self, descriptor: &MessageDescriptor, depth: u32) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        match descriptor.full_name() {
            "google.protobuf.Timestamp" => {
                let seconds = match self.dice.below(10) {
                    0 => *self
                        .dice
                        .pick(&[i64::MIN, i64::MAX, -1, 0, 253_402_300_799, 253_402_300_800]),
                    1 => i64::try_from(self.dice.below(1_800_000_000)).unwrap(),
                    _ => self.now - i64::try_from(self.dice.below(60)).unwrap(),
                };
                self.set(&mut message, "seconds", Value::I64(seconds));
                let nanos = *self.dice.pick(&[0, 1, 1_000, 999_999_999, -1, i32::MAX]);
                self.set(&mut message, "nanos", Value::I32(nanos));
                return message;
            }
            "google.protobuf.Duration" => {
                let seconds = *self.dice.pick(&[0, 1, 1, 5, 3_600, -1, i64::MAX]);
                self.set(&mut message, "seconds", Value::I64(seconds));
                return message;
            }
            _ => {}
        }
        let oneofs: Vec<_> = descriptor
            .oneofs()
            .filter(|oneof| !oneof.is_synthetic())
            .collect();
        for field in descriptor.fields() {
            let alternative = field.containing_oneof().filter(|oneof| oneofs.contains(oneof));
            if alternative.is_none() && self.dice.below(8) > 0 {
                self.fill(&mut message, &field, depth);
            }
        }
        for oneof in oneofs {
            let fields: Vec<FieldDescriptor> = oneof.fields().collect();
            let field = self.dice.pick(&fields).clone();
            self.fill(&mut message, &field, depth);
        }
        message
    }

    fn set(&mut self, message: &mut DynamicMessage, name: &str, value: Value) {
        message.set_field_by_name(name, value);
    }

    fn fill(&mut self, message: &mut DynamicMessage, field: &FieldDescriptor, depth: u32) {
        let deep = matches!(field.kind(), Kind::Message(_)) && depth == 0;
        if deep {
            return;
        }
        let value = if field.is_map() {
            let key = self.text();
            let Kind::Message(entry) = field.kind() else {
                return;
            };
            let value = self.value(&entry.map_entry_value_field(), depth);
            Value::Map([(MapKey::String(key), value)].into())
        } else if field.is_list() {
            let count = self.dice.below(4);
            Value::List((0..count).map(|_| self.value(field, depth)).collect())
        } else {
            self.value(field, depth)
        };
        message.set_field(field, value);
    }

    fn value(&mut self, field: &FieldDescriptor, depth: u32) -> Value {
        let number =
            |dice: &mut Dice| *dice.pick(&[0_i64, 1, 1, 2, 10, 100, 1_000, -1, 3_600, i64::MAX, i64::MIN]);
        match field.kind() {
            Kind::String => Value::String(match field.name() {
                "namespace" | "name" => self.namespace(),
                "time_slice" => self.slice(),
                "page_token" if self.dice.below(3) > 0 => String::new(),
                _ => self.text(),
            }),
            Kind::Bytes => Value::Bytes(self.bytes()),
            Kind::Bool => Value::Bool(self.dice.below(2) == 0),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(number(&mut self.dice)),
            Kind::Uint64 | Kind::Fixed64 => Value::U64(self.dice.next()),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                Value::I32(i32::try_from(number(&mut self.dice)).unwrap_or(i32::MIN))
            }
            Kind::Uint32 | Kind::Fixed32 => Value::U32(7),
            Kind::Float => Value::F32(f32::NAN),
            Kind::Double => Value::F64(*self.dice.pick(&[0.0, 0.5, 1.0, -1.0, f64::NAN, f64::INFINITY])),
            Kind::Enum(of) => {
                Value::EnumNumber(i32::try_from(self.dice.below(of.values().len() as u64 + 1)).unwrap())
            }
            Kind::Message(of) => Value::Message(self.message(&of, depth - 1)),
        }
    }
}
