//! The TimeSeries service: one way in, one way round.
//!
//! ```text
//! WRITE  grpc ─▶ wire ─▶ admit, place ─▶ commit ─▶ EventStore        acked after it is durable
//! READ   grpc ─▶ wire ─▶ plan ─▶ divert ─▶ fetch ─▶ merge ─▶ page      divert: `split`; bytes read ─▶ `detect`
//! SLICES keeper: create ahead, freeze, open, close, drop
//! ```
//!
//! Generated protobuf types stop at `wire` and `grpc`; inside, everything is in terms of
//! `anabranch_model`.

pub mod admin;
pub mod context;
pub mod core;
pub mod detect;
pub mod errors;
pub mod grpc;
pub mod http;
pub mod namespaces;
pub mod read;
pub mod serve;
pub mod settings;
pub mod slices;
pub mod split;
pub mod wire;
pub mod write;

#[cfg(test)]
pub(crate) mod testing;
