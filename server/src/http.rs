//! One port for everything: gRPC, gRPC-Web, JSON, metrics, health.
//!
//! ```text
//!                      ┌▶ /api/… ─▶ gateway ─(in process)─┐
//! tonic's server ─▶ axum ─▶ application/grpc* ─▶ grpc-web ─┴▶ guard ─▶ services, health, reflection
//!                      └▶ /metrics, /healthz
//! ```
//!
//! - Every call passes one guard, however it came in: draining, room, deadline, reasons, measurements.
//! - axum runs inside tonic's server, not the other way round: only there keepalive and limits of HTTP/2 apply.

pub mod admission;
mod deadline;
mod gateway;
mod guard;
mod methods;
mod observe;

use std::sync::Arc;

use anabranch_runtime::telemetry::Metrics;
use axum::extract::{Request, State};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use http::{StatusCode, header};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tower::{Layer, ServiceExt};

pub use admission::Admission;
pub use guard::Guard;
pub use methods::Methods;
pub use observe::{CallMetrics, code_name};

/// Everything on the port.
#[derive(Clone, Debug)]
pub struct Front {
    /// What calls pass.
    pub guard: Arc<Guard>,
    /// The process's metrics.
    pub metrics: Metrics,
    /// Most bytes of one message of a request.
    pub message_bytes_max: usize,
}

#[derive(Clone)]
struct Inside {
    front: Front,
    services: axum::Router,
}

impl Front {
    /// The services behind everything that this port does.
    pub fn around(self, services: Routes) -> axum::Router {
        let services = services
            .prepare()
            .into_axum_router()
            .layer(from_fn_with_state(self.guard.clone(), guard::guard));
        let gateway = gateway::Gateway {
            methods: self.guard.methods.clone(),
            services: services.clone(),
            admission: self.guard.admission.clone(),
            message_bytes_max: self.message_bytes_max,
        };
        let inside = Inside {
            front: self,
            services,
        };
        axum::Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(healthz))
            .fallback(grpc)
            .with_state(inside)
            .route("/api/{*method}", any(gateway::call).with_state(gateway))
    }
}

/// gRPC and gRPC-Web; any other request has come to the wrong place.
async fn grpc(State(inside): State<Inside>, request: Request) -> Response {
    let kind = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    if !kind.is_some_and(|kind| kind.starts_with("application/grpc")) {
        return gateway::nothing_here(&inside.front.guard.methods, request.method(), request.uri());
    }
    let web = tonic_web::GrpcWebLayer::new().layer(inside.services);
    match web.oneshot(request).await {
        Ok(response) => response.map(axum::body::Body::new),
        Err(never) => match never {},
    }
}

/// The port of a process that takes no calls: `/metrics` and `/healthz`, which says no once `draining` is cancelled.
pub fn observing(metrics: Metrics, draining: CancellationToken) -> axum::Router {
    axum::Router::new()
        .route("/metrics", get(|| async move { exposition(metrics.encode()) }))
        .route("/healthz", get(|| async move { health(&draining) }))
}

async fn metrics(State(inside): State<Inside>) -> Response {
    let Front { guard, metrics, .. } = &inside.front;
    let calls = guard.metrics.encode(&guard.admission);
    exposition(calls.and_then(|calls| observe::joined(&calls, &metrics.encode()?)))
}

fn exposition(text: Result<String, std::fmt::Error>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn healthz(State(inside): State<Inside>) -> Response {
    health(&inside.front.guard.draining)
}

fn health(draining: &CancellationToken) -> Response {
    if draining.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    "ok\n".into_response()
}
