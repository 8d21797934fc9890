//! The whole surface over a real socket: gRPC, gRPC-Web, JSON, health, reflection, drain.

mod harness;
mod ingest;
mod json;
mod transport;
