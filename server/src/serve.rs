//! Binds the port, serves until told to stop, drains.
//!
//! ```text
//! bind ─▶ SERVING ─▶ … stop ─▶ NOT_SERVING, no new connections or calls ─▶ calls under way end ─▶ return
//! ```

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use anabranch_runtime::Clock;
use anabranch_runtime::telemetry::Metrics;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::{Routes, RoutesBuilder};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tracing::{info, warn};

use crate::http::{Admission, CallMetrics, Front, Guard, Methods, observing};

/// How the port is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeSettings {
    /// Host and port; port 0 takes a free one.
    pub listen: String,
    /// Serve on an address that other machines can reach, although nothing is encrypted and no one is asked
    /// who they are.
    pub insecure: bool,
    /// Calls under way, at most; more are turned away.
    pub requests_in_flight_max: usize,
    /// Bytes of requests under way, at most; more are turned away.
    pub request_bytes_in_flight_max: usize,
    /// Most bytes of one message of a request.
    pub message_bytes_max: usize,
    /// Calls at once on one connection.
    pub connection_calls_max: u32,
    /// The time that a call gets when its caller does not say.
    pub default_deadline: Duration,
    /// The time that a call gets at most, whatever its caller says; an operator's may wait for longer. What is not used any
    /// more is kept for so long.
    pub deadline_max: Duration,
    /// How long calls under way may take to end once the server is told to stop.
    pub drain_grace: Duration,
}

impl Default for ServeSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7600".to_owned(),
            insecure: false,
            requests_in_flight_max: 1_024,
            request_bytes_in_flight_max: 256 << 20,
            message_bytes_max: 16 << 20,
            connection_calls_max: 1_024,
            default_deadline: Duration::from_secs(60),
            deadline_max: Duration::from_secs(60),
            drain_grace: Duration::from_secs(10),
        }
    }
}

/// Most bytes of one message of an answer: a page ends near 2 MiB, with at most one event past it.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// Why the port could not be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address is not one.
    #[error("listen address `{listen}` can not be resolved: use HOST:PORT, such as 127.0.0.1:7600")]
    Address {
        /// As it was given.
        listen: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Other machines could reach it.
    #[error(
        "{listen} can be reached from other machines, but there is no encryption or authentication yet: \
         listen on 127.0.0.1, or accept that with --insecure"
    )]
    NotLoopback {
        /// As it was given.
        listen: String,
    },
    /// The port can not be had.
    #[error("can not listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The descriptors do not fit together.
    #[error("service descriptors can not be read: {problem}")]
    Descriptors {
        /// What is wrong.
        problem: String,
    },
    /// The transport failed.
    #[error("server stopped serving")]
    Transport(#[source] tonic::transport::Error),
}

/// Takes the port. Nothing is answered yet.
///
/// # Errors
/// When the address is wrong, taken, or not on loopback without `insecure`.
pub async fn bind(settings: &ServeSettings) -> Result<TcpListener, ServeError> {
    let listen = settings.listen.clone();
    let addresses = listen.to_socket_addrs().map_err(|source| ServeError::Address {
        listen: listen.clone(),
        source,
    })?;
    let addresses: Vec<SocketAddr> = addresses.collect();
    if !settings.insecure && !addresses.iter().all(|address| address.ip().is_loopback()) {
        return Err(ServeError::NotLoopback { listen });
    }
    let Some(address) = addresses.first().copied() else {
        let source = std::io::Error::other("no address");
        return Err(ServeError::Address { listen, source });
    };
    TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Bind { address, source })
}

/// The server before its services are added: what they need to know of it.
#[derive(Clone, Debug)]
pub struct Port {
    settings: ServeSettings,
    guard: Arc<Guard>,
    metrics: Metrics,
}

impl Port {
    /// A port of these settings. `draining` is cancelled by whoever stops the server.
    ///
    /// # Errors
    /// When the descriptors that were compiled in do not fit together.
    pub fn new(
        settings: ServeSettings,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        draining: CancellationToken,
    ) -> Result<Self, ServeError> {
        let methods = Methods::load().map_err(|error| ServeError::Descriptors {
            problem: error.to_string(),
        })?;
        let guard = Guard {
            clock,
            methods: Arc::new(methods),
            admission: Admission::new(
                settings.requests_in_flight_max,
                settings.request_bytes_in_flight_max,
            ),
            metrics: CallMetrics::new(),
            default_deadline: settings.default_deadline,
            deadline_max: settings.deadline_max,
            draining,
        };
        Ok(Self {
            settings,
            guard: Arc::new(guard),
            metrics,
        })
    }

    /// How much is under way.
    pub fn admission(&self) -> &Admission {
        &self.guard.admission
    }

    /// Cancelled when the server drains.
    pub fn draining(&self) -> CancellationToken {
        self.guard.draining.clone()
    }

    /// Most bytes of one message of a request, and of an answer.
    pub fn message_bytes_max(&self) -> (usize, usize) {
        (self.settings.message_bytes_max, ANSWER_BYTES_MAX)
    }

    /// Everything the port answers: the services given, health and reflection.
    ///
    /// # Errors
    /// When the descriptors that were compiled in do not fit together.
    pub fn router(&self, services: Routes, health: Health) -> Result<axum::Router, ServeError> {
        let mut routes = RoutesBuilder::from(services);
        routes.add_service(tonic_health::pb::health_server::HealthServer::new(health.service));
        let problem = |error: tonic_reflection::server::Error| ServeError::Descriptors {
            problem: error.to_string(),
        };
        let sets = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(anabranch_proto::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
                .include_reflection_service(false)
        };
        routes.add_service(sets().build_v1().map_err(problem)?);
        routes.add_service(sets().build_v1alpha().map_err(problem)?);
        let front = Front {
            guard: self.guard.clone(),
            metrics: self.metrics.clone(),
            message_bytes_max: self.settings.message_bytes_max,
        };
        Ok(front.around(routes.routes()))
    }

    /// Serves until `draining` is cancelled and the calls under way have ended, or the grace is over.
    ///
    /// # Errors
    /// When the transport fails, or the descriptors do not fit together.
    pub async fn serve(&self, listener: TcpListener, services: Routes) -> Result<(), ServeError> {
        let (health, reporter) = Health::new();
        let services_known = self.guard.methods.services();
        report(&reporter, &services_known, ServingStatus::Serving).await;
        let router = self.router(services, health)?;

        let draining = self.guard.draining.clone();
        let drain = async {
            draining.cancelled().await;
            // Load balancers look away before the port is closed.
            report(&reporter, &services_known, ServingStatus::NotServing).await;
            info!("draining: no more connections or calls are taken");
        };
        let serve = Server::builder()
            .accept_http1(true)
            .tcp_nodelay(true)
            .http2_keepalive_interval(Some(Duration::from_secs(30)))
            .http2_keepalive_timeout(Some(Duration::from_secs(10)))
            .max_concurrent_streams(self.settings.connection_calls_max)
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(8 << 20)
            .add_routes(Routes::from(router))
            .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), drain);
        let clock = &self.guard.clock;
        let grace = async {
            draining.cancelled().await;
            clock.sleep(self.settings.drain_grace).await;
        };
        tokio::select! {
            served = serve => served.map_err(ServeError::Transport),
            () = grace => {
                let calls = self.guard.admission.calls_in_flight();
                warn!(calls, "calls or connections did not end within the grace period");
                Ok(())
            }
        }
    }
}

/// Serves the port of a process that takes no calls, until `draining` is cancelled.
///
/// # Errors
/// When the transport fails.
pub async fn observe(
    listener: TcpListener,
    metrics: Metrics,
    draining: CancellationToken,
) -> std::io::Result<()> {
    let router = observing(metrics, draining.clone());
    axum::serve(listener, router)
        .with_graceful_shutdown(draining.cancelled_owned())
        .await
}

/// The health service.
#[derive(Debug)]
pub struct Health {
    service: tonic_health::server::HealthService,
}

impl Health {
    /// Nothing is reported yet.
    pub fn new() -> (Self, HealthReporter) {
        let reporter = HealthReporter::new();
        let service = tonic_health::server::HealthService::from_health_reporter(reporter.clone());
        (Self { service }, reporter)
    }
}

async fn report(reporter: &HealthReporter, services: &[String], status: ServingStatus) {
    for service in services.iter().map(String::as_str).chain(["", "readiness"]) {
        reporter.set_service_status(service, status).await;
    }
    // A process that drains is alive: it must not be restarted.
    reporter
        .set_service_status("liveness", ServingStatus::Serving)
        .await;
}
