//! `planner` and `splitter`: processes of their own, any number of them, on a store that is shared.
//!
//! ```text
//! settings ─▶ port (/metrics, /healthz) ─▶ store ─▶ bus ─▶ works … stop ─▶ tasks end ─▶ store closes
//! ```
//!
//! - S5: stopping one in the middle of anything, or killing it, is as good as at its end: another one takes over once
//!   its lease has lapsed.

use std::sync::Arc;
use std::time::Duration;

use anabranch_planner::{Planner, PlannerMetrics, PlannerParts, PlannerSettings, TimedFreezer};
use anabranch_runtime::telemetry::Metrics;
use anabranch_runtime::{Randomness, SystemClock, Tasks};
use anabranch_server::serve::{ServeSettings, bind, observe};
use anabranch_splitter::{Splitter, SplitterMetrics, SplitterParts, SplitterSettings};
use anabranch_storage::Store;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tracing::info;

use super::Session;
use super::bus::open_bus;
use super::config::load;
use super::open;
use super::serve::{TASKS_GRACE, internal, start_logs, stop_signal, usage};
use crate::cli::{SettingsArgs, Worker};
use crate::exit::Failure;
use crate::output::print_line;
use crate::settings::Settings;

pub(super) async fn planner(session: &Session, args: &Worker) -> Result<(), Failure> {
    let worker = Prepared::new(session, args, |settings| &settings.planner_listen).await?;
    let records = worker.store.records.clone();
    let bus = open_bus(
        &worker.settings.bus,
        records.clone(),
        worker.clock.clone(),
        &worker.tasks,
        &worker.metrics,
    )
    .await?;
    let parts = PlannerParts {
        events: worker.store.events.clone(),
        records: records.clone(),
        bus,
        freezer: Arc::new(TimedFreezer::new(records, worker.clock.clone(), worker.settle)),
        clock: worker.clock.clone(),
        foreground: None,
        nudge: Arc::new(Notify::new()),
        planned: Arc::new(Notify::new()),
    };
    let metrics = PlannerMetrics::new(&worker.metrics);
    let planner = Planner::new(parts, &worker.randomness, metrics, PlannerSettings::default());
    worker
        .tasks
        .spawn("planner", planner.run(worker.tasks.stopping()));
    worker.until_told().await
}

pub(super) async fn splitter(session: &Session, args: &Worker) -> Result<(), Failure> {
    let worker = Prepared::new(session, args, |settings| &settings.splitter_listen).await?;
    let parts = SplitterParts {
        events: worker.store.events.clone(),
        records: worker.store.records.clone(),
        clock: worker.clock.clone(),
        foreground: None,
        nudge: Arc::new(Notify::new()),
        completed: Arc::new(Notify::new()),
    };
    let metrics = SplitterMetrics::new(&worker.metrics);
    let settings = SplitterSettings {
        retire_after: worker.retire_after,
        ..SplitterSettings::default()
    };
    let splitter = Splitter::new(parts, &worker.randomness, metrics, settings);
    worker
        .tasks
        .spawn("splitter", splitter.run(worker.tasks.stopping()));
    worker.until_told().await
}

/// What both are before they work.
struct Prepared {
    settings: Settings,
    clock: Arc<SystemClock>,
    randomness: Randomness,
    metrics: Metrics,
    listener: TcpListener,
    store: Store,
    /// How long a freeze takes to count.
    settle: Duration,
    /// How long targets are kept that are not served any more.
    retire_after: Duration,
    tasks: Tasks,
}

impl Prepared {
    async fn new(
        session: &Session,
        args: &Worker,
        listen: impl FnOnce(&Settings) -> &String,
    ) -> Result<Self, Failure> {
        let (settings, _) = load(&SettingsArgs {
            config: args.config.clone(),
            insecure: args.insecure,
            ..SettingsArgs::default()
        })?;
        start_logs("info")?;
        let listen = args.listen.clone().unwrap_or_else(|| listen(&settings).clone());
        let port = ServeSettings {
            listen,
            insecure: settings.insecure,
            ..ServeSettings::default()
        };
        let listener = bind(&port).await.map_err(usage)?;
        let (clock, metrics) = (session.clock.clone(), Metrics::default());
        if !settings.store.is_shared() {
            return Err(Failure::usage(
                "store.kind is embedded: one process owns that store, and `anabranch serve` plans and splits in it by \
                 itself. Set store.kind to cassandra to run planners and splitters apart",
            ));
        }
        let randomness = Randomness::from_system().map_err(|error| internal(&error))?;
        let (store, server_settings) = open::store(&settings, clock.clone(), &randomness, &metrics).await?;
        Ok(Self {
            settings,
            clock,
            randomness,
            metrics,
            listener,
            store,
            settle: server_settings.slices.settle,
            retire_after: server_settings.retire_after(),
            tasks: Tasks::new(),
        })
    }

    /// Works until a signal says stop, or the port breaks.
    async fn until_told(self) -> Result<(), Failure> {
        let address = self.listener.local_addr().map_err(|error| internal(&error))?;
        let port = observe(self.listener, self.metrics.clone(), self.tasks.stopping());
        let mut port = self.tasks.spawn("port", port);
        info!(%address, store = self.settings.store.kind(), place = self.settings.store.place(), "working");
        print_line(&format!("listening on http://{address}"))?;
        let broken = tokio::select! {
            told = stop_signal() => told.err(),
            port = &mut port => match port {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(internal(&error)),
                Err(error) => Some(internal(&error)),
            },
        };
        info!("stopping");
        let ended = self.tasks.stop(&*self.clock, TASKS_GRACE).await;
        self.store.status().close().map_err(|error| internal(&error))?;
        info!(ended, "stopped");
        broken.map_or(Ok(()), Err)
    }
}
