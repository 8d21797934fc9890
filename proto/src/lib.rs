//! The wire and nothing else: messages, clients and server traits, generated from the `.proto` files beside this crate.
//!
//! Generated types stop at the edge of the server; everything inside speaks `anabranch-model`.

#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    rustdoc::all,
    reason = "generated; the comments are those of the .proto files"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/wire.rs"));
}

pub use generated::anabranch::{admin, pipeline, timeseries};

/// Every message and service of this crate, with its imports and its comments, as an encoded
/// `google.protobuf.FileDescriptorSet`. For reflection and for the JSON gateway.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

#[cfg(test)]
mod tests;
