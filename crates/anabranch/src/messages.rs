//! Messages of the wire as proto3 JSON, through their descriptors: for everything but events, which have a
//! faster way of their own.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::Value;

static POOL: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(anabranch_proto::FILE_DESCRIPTOR_SET).ok());

/// The descriptor of a message of this build.
pub(crate) fn descriptor(name: &str) -> Result<MessageDescriptor, String> {
    POOL.as_ref()
        .and_then(|pool| pool.get_message_by_name(name))
        .ok_or_else(|| format!("this build does not know the message {name}"))
}

/// Reads a message from proto3 JSON text.
pub(crate) fn from_json_text<M: Message + Default>(name: &str, text: &str) -> Result<M, String> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let dynamic =
        DynamicMessage::deserialize(descriptor(name)?, &mut reader).map_err(|error| error.to_string())?;
    reader.end().map_err(|error| error.to_string())?;
    dynamic.transcode_to().map_err(|error| error.to_string())
}

/// A message as proto3 JSON, with every field when `complete`.
pub(crate) fn to_json<M: Message>(name: &str, message: &M, complete: bool) -> Value {
    let as_json = || -> Result<Value, String> {
        let mut dynamic = DynamicMessage::new(descriptor(name)?);
        dynamic
            .transcode_from(message)
            .map_err(|error| error.to_string())?;
        let options = SerializeOptions::new().skip_default_fields(!complete);
        dynamic
            .serialize_with_options(serde_json::value::Serializer, &options)
            .map_err(|error| error.to_string())
    };
    // A message of this build always has a JSON form; a value out of range (a year past 9999) has none.
    as_json().unwrap_or_else(Value::String)
}
