//! A JSON body as the message of its method, or what is wrong with it and where.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost_reflect::{DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::Value;

use crate::errors::{self, Reason, ServiceError};

/// The message of a body. An empty body is an empty message.
///
/// # Errors
/// `UNKNOWN_FIELD` with the path and the nearest name; `INVALID_JSON` with line and column.
pub(super) fn message(descriptor: &MessageDescriptor, body: &[u8]) -> Result<DynamicMessage, ServiceError> {
    if body.is_empty() {
        return Ok(DynamicMessage::new(descriptor.clone()));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = DynamicMessage::deserialize_with_options(
        descriptor.clone(),
        &mut json,
        &DeserializeOptions::new().deny_unknown_fields(true),
    );
    match read.and_then(|message| json.end().map(|()| message)) {
        Ok(message) => Ok(message),
        Err(error) => Err(explain(descriptor, body, &error)),
    }
}

/// A message as gRPC sends it: not compressed, its length, itself.
pub(super) fn frame(message: &DynamicMessage) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(5 + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    frame.extend_from_slice(&message.encode_to_vec());
    frame.freeze()
}

fn explain(descriptor: &MessageDescriptor, body: &[u8], error: &serde_json::Error) -> ServiceError {
    if let Ok(json) = serde_json::from_slice::<Value>(body)
        && let Some(unknown) = unknown_field(descriptor, &json, "")
    {
        return unknown;
    }
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    let problem = text.split(" at line ").next().unwrap_or(&text);
    ServiceError::new(
        Reason::InvalidJson,
        format!("body, line {line}, column {column}: {problem}"),
    )
    .with("line", line)
    .with("column", column)
    .with("problem", problem)
    .field("body", problem)
}

/// The first field of a body that its message does not have.
fn unknown_field(descriptor: &MessageDescriptor, json: &Value, path: &str) -> Option<ServiceError> {
    // Well-known types have a JSON of their own.
    if descriptor.full_name().starts_with("google.protobuf.") {
        return None;
    }
    for (name, value) in json.as_object()? {
        let at = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        let found = descriptor
            .get_field_by_json_name(name)
            .or_else(|| descriptor.get_field_by_name(name));
        let Some(field) = found else {
            let known: Vec<FieldDescriptor> = descriptor.fields().collect();
            let names = known.iter().map(|field| field.json_name());
            let hint = errors::did_you_mean(name, names);
            let problem = format!("{} has no such field{hint}", descriptor.name());
            return Some(ServiceError::of_field(Reason::UnknownField, at, problem));
        };
        if let Some(inner) = unknown_inside(&field, value, &at) {
            return Some(inner);
        }
    }
    None
}

fn unknown_inside(field: &FieldDescriptor, value: &Value, path: &str) -> Option<ServiceError> {
    if field.is_map() {
        return None;
    }
    let Kind::Message(message) = field.kind() else {
        return None;
    };
    match value {
        Value::Array(values) => values
            .iter()
            .enumerate()
            .find_map(|(index, value)| unknown_field(&message, value, &format!("{path}[{index}]"))),
        value => unknown_field(&message, value, path),
    }
}
