//! `serve`: everything in one process. The one place that wires store, service and port together.
//!
//! ```text
//! settings ─▶ store ─▶ core ─▶ port ─▶ listening … stop ─▶ calls end ─▶ queue empties ─▶ tasks end ─▶ store closes
//! ```

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use anabranch_runtime::telemetry::{self, Metrics};
use anabranch_runtime::{Randomness, SystemClock, Tasks};
use anabranch_server::core::Core;
use anabranch_server::serve::{Port, ServeSettings, bind};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tonic::Code;
use tracing::info;

use super::bus::open_bus;
use super::config::load;
use super::{Session, healing, open};
use crate::cli::Serve;
use crate::exit::Failure;
use crate::output::print_line;
use crate::settings::Settings;

/// How long tasks may take to end, past the calls.
pub(super) const TASKS_GRACE: Duration = Duration::from_secs(10);

pub(super) async fn run(session: &Session, serve: &Serve) -> Result<(), Failure> {
    let (settings, _) = load(&serve.settings)?;
    start_logs("info,lsm_tree=off,scylla=warn")?;
    let served = start(session.clock.clone(), &settings).await?;
    print_line(&format!("listening on {}", served.url()))?;
    served.until_told().await
}

/// Starts logging at a level, unless the environment says another.
pub(crate) fn start_logs(level: &str) -> Result<(), Failure> {
    telemetry::start_logs(level).map_err(Failure::usage)
}

/// A server that takes requests.
#[derive(Debug)]
pub(crate) struct Served {
    url: String,
    core: Arc<Core>,
    clock: Arc<SystemClock>,
    /// The port; stopped first, so that calls end before what they use.
    edge: Tasks,
    serving: JoinHandle<Result<(), Failure>>,
    /// Everything behind it.
    tasks: Tasks,
    drain: Duration,
}

/// Opens the store and takes the port.
pub(crate) async fn start(clock: Arc<SystemClock>, settings: &Settings) -> Result<Served, Failure> {
    let serve_settings = ServeSettings {
        listen: settings.listen.clone(),
        insecure: settings.insecure,
        drain_grace: settings.drain_grace,
        default_deadline: settings.default_deadline,
        deadline_max: settings.deadline_max,
        requests_in_flight_max: settings.requests_in_flight_max,
        request_bytes_in_flight_max: settings.request_bytes_in_flight_max,
        message_bytes_max: settings.message_bytes_max,
        ..ServeSettings::default()
    };
    // A port that is taken is the cheaper thing to notice.
    let listener = bind(&serve_settings).await.map_err(usage)?;
    let address = listener.local_addr().map_err(|error| internal(&error))?;
    let metrics = Metrics::default();
    let randomness = Randomness::from_system().map_err(|error| internal(&error))?;
    let (store, server_settings) = open::store(settings, clock.clone(), &randomness, &metrics).await?;
    let (edge, tasks) = (Tasks::new(), Tasks::new());
    let bus = open_bus(
        &settings.bus,
        store.records.clone(),
        clock.clone(),
        &tasks,
        &metrics,
    )
    .await?;
    let core = Core::start(
        store,
        bus.clone(),
        clock.clone(),
        &randomness,
        &tasks,
        &metrics,
        server_settings,
    )
    .await
    .map_err(|error| match error.reason.entry().code {
        Code::Unavailable => Failure::unavailable(&error),
        _ => internal(&error),
    })?;
    healing::start(
        &core,
        bus,
        &server_settings,
        clock.clone(),
        &randomness,
        &tasks,
        &metrics,
    );
    let port = Port::new(serve_settings, clock.clone(), metrics, edge.stopping())
        .map_err(|error| internal(&error))?;
    let services = anabranch_server::grpc::services(&core, &port);
    let serving = edge.spawn("port", async move {
        port.serve(listener, services)
            .await
            .map_err(|error| internal(&error))
    });
    info!(%address, store = settings.store.kind(), place = settings.store.place(), "serving");
    Ok(Served {
        url: format!("http://{address}"),
        core,
        clock,
        edge,
        serving,
        tasks,
        drain: settings.drain_grace,
    })
}

impl Served {
    /// Where it listens.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Serves until a signal says stop, or the port breaks.
    pub(crate) async fn until_told(mut self) -> Result<(), Failure> {
        let broken = tokio::select! {
            told = stop_signal() => told.err(),
            served = &mut self.serving => match served {
                Ok(served) => served.err(),
                Err(error) => Some(internal(&error)),
            },
        };
        let stopped = tokio::select! {
            stopped = self.stop() => stopped,
            _ = stop_signal() => Err(Failure::internal("told to stop twice: ended without waiting")),
        };
        broken.map_or(stopped, Err)
    }

    /// Ends calls, writes what is queued, ends tasks, closes the store.
    pub(crate) async fn stop(self) -> Result<(), Failure> {
        info!("stopping");
        let calls_ended = self
            .edge
            .stop(&*self.clock, self.drain + Duration::from_secs(1))
            .await;
        self.core.stop().await;
        let tasks_ended = self.tasks.stop(&*self.clock, TASKS_GRACE).await;
        self.core.store().status().close().map_err(|error| {
            Failure::internal(format_args!(
                "the store did not close: {}",
                anabranch_runtime::error_chain(&error)
            ))
        })?;
        info!(calls_ended, tasks_ended, "stopped");
        Ok(())
    }
}

pub(super) async fn stop_signal() -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| internal(&error))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| internal(&error))?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

pub(super) fn usage(error: impl Error + 'static) -> Failure {
    Failure::usage(anabranch_runtime::error_chain(&error))
}

pub(super) fn internal(error: &(dyn Error + 'static)) -> Failure {
    Failure::internal(anabranch_runtime::error_chain(error))
}
