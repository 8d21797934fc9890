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
    read(descriptor, body).or_else(|error| {
        with_masks_respelled(descriptor, body)
            .and_then(|body| read(descriptor, &body).ok())
            .ok_or_else(|| explain(descriptor, body, &error))
    })
}

fn read(descriptor: &MessageDescriptor, body: &[u8]) -> Result<DynamicMessage, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let message = DynamicMessage::deserialize_with_options(
        descriptor.clone(),
        &mut json,
        &DeserializeOptions::new().deny_unknown_fields(true),
    )?;
    json.end().map(|()| message)
}

/// The body with the paths of its field masks in lowerCamelCase. Names of fields may be spelled either way
/// in JSON; this lets the paths that name them be spelled either way too.
fn with_masks_respelled(descriptor: &MessageDescriptor, body: &[u8]) -> Option<Vec<u8>> {
    let mut json: Value = serde_json::from_slice(body).ok()?;
    let mut found = false;
    for (name, value) in json.as_object_mut()? {
        let field = descriptor
            .get_field_by_json_name(name)
            .or_else(|| descriptor.get_field_by_name(name))?;
        let Kind::Message(message) = field.kind() else {
            continue;
        };
        if let (FIELD_MASK, Value::String(paths)) = (message.full_name(), value) {
            *paths = camel_case(paths);
            found = true;
        }
    }
    if found {
        serde_json::to_vec(&json).ok()
    } else {
        None
    }
}

const FIELD_MASK: &str = "google.protobuf.FieldMask";

fn camel_case(paths: &str) -> String {
    let mut respelled = String::with_capacity(paths.len());
    let mut upper = false;
    for letter in paths.chars() {
        match letter {
            '_' => upper = true,
            letter if upper => {
                respelled.push(letter.to_ascii_uppercase());
                upper = false;
            }
            letter => respelled.push(letter),
        }
    }
    respelled
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Methods;

    #[test]
    fn paths_of_a_mask_may_be_spelled_either_way() {
        let methods = Methods::load().unwrap();
        let read = methods
            .find("anabranch.timeseries.v1.TimeSeriesService/ReadEventRecords")
            .unwrap();
        let input = read.descriptor.input();
        let of = |mask: &str| message(&input, format!(r#"{{"readMask":"{mask}"}}"#).as_bytes()).unwrap();
        assert_eq!(
            of("event_id,event_items.event_item_key"),
            of("eventId,eventItems.eventItemKey")
        );
        assert_ne!(of("event_id"), of("eventTime"));
    }
}
