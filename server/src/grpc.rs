//! The services of the wire: a message in, the core, a message out.
//!
//! Nothing is decided here: fields are checked by [`crate::wire`], everything else by the core.

mod admin;
mod ingest;
mod timeseries;

use std::sync::Arc;

use anabranch_proto::admin::v1::admin_service_server::AdminServiceServer;
use anabranch_proto::timeseries::v1::time_series_service_server::TimeSeriesServiceServer;
use anabranch_runtime::Deadline;
use tonic::Request;
use tonic::codec::CompressionEncoding::{Gzip, Zstd};
use tonic::service::{Routes, RoutesBuilder};

use crate::core::Core;
use crate::serve::Port;

pub use admin::AdminEdge;
pub use timeseries::TimeSeriesEdge;

/// Both services over a core, with the limits of a port.
pub fn services(core: &Arc<Core>, port: &Port) -> Routes {
    let (request_bytes_max, answer_bytes_max) = port.message_bytes_max();
    let time_series = TimeSeriesServiceServer::new(TimeSeriesEdge::new(core.clone(), port.draining()))
        .max_decoding_message_size(request_bytes_max)
        .max_encoding_message_size(answer_bytes_max)
        .accept_compressed(Gzip)
        .accept_compressed(Zstd)
        .send_compressed(Gzip)
        .send_compressed(Zstd);
    let admin = AdminServiceServer::new(AdminEdge::new(core.clone(), port.admission().clone()))
        .max_decoding_message_size(request_bytes_max)
        .max_encoding_message_size(answer_bytes_max)
        .accept_compressed(Gzip)
        .accept_compressed(Zstd)
        .send_compressed(Gzip)
        .send_compressed(Zstd);
    let mut routes = RoutesBuilder::default();
    routes.add_service(time_series);
    routes.add_service(admin);
    routes.routes()
}

/// The deadline that the guard has given a call.
fn deadline_of<T>(request: &Request<T>) -> Option<Deadline> {
    request.extensions().get::<Deadline>().copied()
}

#[cfg(test)]
mod tests;
