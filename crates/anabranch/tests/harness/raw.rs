//! gRPC calls with bytes as messages: any method, right or wrong.

use anabranch_proto::FILE_DESCRIPTOR_SET;
use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Request, Status};

#[derive(Clone, Copy, Debug, Default)]
struct AsBytes;

impl Codec for AsBytes {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for AsBytes {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for AsBytes {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// Calls a unary method, `package.Service/Method`, with bytes.
pub(crate) async fn call(
    channel: &Channel,
    method: &str,
    message: Bytes,
    headers: &[(&'static str, &str)],
) -> Result<Bytes, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone()).max_decoding_message_size(64 << 20);
    client
        .ready()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let path = format!("/{method}")
        .parse()
        .map_err(|_| Status::invalid_argument("not a path"))?;
    let mut request = Request::new(message);
    for (name, value) in headers {
        request.metadata_mut().insert(
            *name,
            value
                .parse()
                .map_err(|_| Status::invalid_argument("not a header"))?,
        );
    }
    client
        .unary(request, path, AsBytes)
        .await
        .map(tonic::Response::into_inner)
}

/// Every message and method of the surface.
pub(crate) fn pool() -> DescriptorPool {
    DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap()
}

/// A method by its name on the wire.
pub(crate) fn method(pool: &DescriptorPool, name: &str) -> Option<MethodDescriptor> {
    let (service, method) = name.split_once('/')?;
    pool.get_service_by_name(service)?
        .methods()
        .find(|one| one.name() == method)
}

/// The bytes of a request that is written as JSON.
pub(crate) fn encode(pool: &DescriptorPool, name: &str, json: &serde_json::Value) -> Result<Bytes, String> {
    let method = method(pool, name).ok_or("no such method")?;
    let message =
        DynamicMessage::deserialize(method.input(), json.clone()).map_err(|error| error.to_string())?;
    Ok(message.encode_to_vec().into())
}
