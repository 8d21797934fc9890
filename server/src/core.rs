//! The server without its edge: every component of the service, wired once.
//!
//! ```text
//!             ┌─▶ Namespaces ◀─ SliceKeeper ◀─ Admin
//! Core::start ┤        ▲            ▲
//!             ├─▶ Writer ─ WriteQueue            Store, Clock, Randomness, Tasks, Metrics: passed in
//!             └─▶ Reader ─ Splits, Detector ─▶ bus
//! ```
//!
//! The gRPC layer and the binary hold a [`Core`]; nothing in here knows of either.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anabranch_bus::DetectionBus;
use anabranch_model::EventTime;
use anabranch_runtime::telemetry::Metrics;
use anabranch_runtime::{Clock, Foreground, Randomness, Tasks};
use anabranch_storage::Store;

use crate::admin::{Admin, ServerStatus};
use crate::detect::Detector;
use crate::errors::ServiceError;
use crate::namespaces::Namespaces;
use crate::read::{Healing, PageTokens, Reader};
use crate::settings::ServerSettings;
use crate::slices::SliceKeeper;
use crate::split::Splits;
use crate::write::{InFlight, WriteMetrics, WriteQueue, Writer};

/// Every component of the service.
#[derive(Debug)]
pub struct Core {
    /// The namespaces.
    pub namespaces: Namespaces,
    /// The keeper of slices.
    pub keeper: SliceKeeper,
    /// The way in.
    pub writer: Writer,
    /// The way in for those who do not wait.
    pub queue: WriteQueue,
    /// The way out.
    pub reader: Reader,
    /// What is served from splits.
    pub splits: Splits,
    /// What operators ask.
    pub admin: Admin,
    /// How long reads take at present: background work gives way to them.
    pub foreground: Arc<Foreground>,
    store: Store,
    clock: Arc<dyn Clock>,
    started: (EventTime, Duration),
    draining: AtomicBool,
}

impl Core {
    /// Reads what the store holds and starts every component.
    ///
    /// # Errors
    /// When the store does not answer, or what it holds is damaged.
    pub async fn start(
        store: Store,
        bus: Arc<dyn DetectionBus>,
        clock: Arc<dyn Clock>,
        randomness: &Randomness,
        tasks: &Tasks,
        metrics: &Metrics,
        settings: ServerSettings,
    ) -> Result<Arc<Self>, ServiceError> {
        let namespaces =
            Namespaces::start(&store, clock.clone(), tasks, metrics, settings.namespaces).await?;
        let in_flight = InFlight::default();
        let keeper = SliceKeeper::start(
            store.clone(),
            namespaces.clone(),
            randomness,
            tasks,
            metrics,
            in_flight.clone(),
            settings.slices,
        );
        let write_metrics = WriteMetrics::new(metrics);
        let writer = Writer::new(
            store.events.clone(),
            namespaces.clone(),
            keeper.clone(),
            in_flight,
            clock.clone(),
            tasks.clone(),
            write_metrics.clone(),
        );
        let queue = WriteQueue::start(writer.clone(), clock.clone(), tasks, settings.queue);
        let splits = Splits::start(
            store.records.clone(),
            namespaces.clone(),
            keeper.clone(),
            clock.clone(),
            randomness,
            tasks,
            metrics,
            settings.splits,
        );
        let foreground = Arc::new(Foreground::default());
        let tokens = PageTokens::load_or_create(&*store.records, randomness).await?;
        let reader = Reader::new(
            store.events.clone(),
            clock.clone(),
            tokens,
            metrics,
            settings.read,
        )
        .healing(Healing {
            detector: Detector::start(bus, clock.clone(), tasks, metrics, settings.detect),
            splits: splits.clone(),
            foreground: foreground.clone(),
        })
        .reading_ahead(tasks);
        let admin = Admin::new(
            namespaces.clone(),
            keeper.clone(),
            write_metrics,
            store.clone(),
            splits.clone(),
            clock.clone(),
        );
        let started = (EventTime::from_micros(clock.unix_micros()), clock.elapsed());
        Ok(Arc::new(Self {
            namespaces,
            keeper,
            writer,
            queue,
            reader,
            splits,
            admin,
            foreground,
            store,
            clock,
            started,
            draining: AtomicBool::new(false),
        }))
    }

    /// Takes no more queued writes and writes those that wait. Called before the tasks are stopped,
    /// because what waits may still need a slice.
    pub async fn stop(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.queue.drain().await;
    }

    /// The store behind it.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// How it is doing.
    pub fn status(&self) -> ServerStatus {
        let (started, started_elapsed) = self.started;
        ServerStatus {
            store_kind: self.store.status().kind(),
            store_facts: self.store.status().facts(),
            ready: !self.draining.load(Ordering::Relaxed),
            started,
            uptime: self.clock.elapsed().saturating_sub(started_elapsed),
            namespaces: self.namespaces.count(),
            queue_bytes: self.queue.bytes(),
        }
    }
}
