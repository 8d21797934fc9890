//! A process of the world: started, killed where it stands, started again with an empty memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anabranch_bus::{DetectionBus, StoreBus};
use anabranch_model::{EventTime, NamespaceName, SliceName};
use anabranch_planner::{Freeze, Freezer, Planner, PlannerMetrics, PlannerParts, TimedFreezer};
use anabranch_runtime::telemetry::Metrics;
use anabranch_runtime::{Clock, Foreground, Tasks};
use anabranch_server::core::Core;
use anabranch_server::slices::SliceKeeper;
use anabranch_splitter::{Splitter, SplitterMetrics, SplitterParts};
use anabranch_storage::{Store, StoreError};
use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::bus::FaultyBus;
use crate::clock::{SimClock, now, sleep};
use crate::dice::Dice;
use crate::scenario::Scenario;
use crate::store::{Disk, FaultyStore};

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Server,
    Planner,
    Splitter,
}

/// A process, running or not.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) name: Arc<str>,
    pub(crate) role: Role,
    disk: Arc<Disk>,
    dice: Dice,
    /// When the world began, and what everybody's clock should have shown then.
    world: (Instant, i64),
    scenario: Scenario,
    starts: AtomicU64,
    running: Mutex<Option<Running>>,
    panicked: Mutex<Vec<&'static str>>,
}

/// What a running process consists of.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub(crate) tasks: Tasks,
    pub(crate) clock: Arc<SimClock>,
    /// Of a server.
    pub(crate) core: Option<Arc<Core>>,
}

/// What a process is started with.
struct Parts {
    tasks: Tasks,
    clock: Arc<SimClock>,
    metrics: Metrics,
    store: Store,
    bus: Arc<dyn DetectionBus>,
}

impl Process {
    pub(crate) fn new(
        name: String,
        role: Role,
        disk: Arc<Disk>,
        dice: Dice,
        world: (Instant, i64),
        scenario: Scenario,
    ) -> Self {
        Self {
            name: name.into(),
            role,
            disk,
            dice,
            world,
            scenario,
            starts: AtomicU64::new(0),
            running: Mutex::new(None),
            panicked: Mutex::default(),
        }
    }

    /// Starts it, however often the store fails.
    pub(crate) async fn start(&self) {
        if self.running().is_some() {
            return;
        }
        let skew = i64::try_from(self.scenario.skew.as_micros()).unwrap_or(0);
        let skew = self.dice.within(-skew, skew);
        loop {
            let number = self.starts.fetch_add(1, Ordering::Relaxed);
            self.disk.trace.note(&self.name, "starts", number, String::new);
            let parts = self.parts(skew);
            match self.run(&parts).await {
                Ok(core) => {
                    let running = Running {
                        tasks: parts.tasks,
                        clock: parts.clock,
                        core,
                    };
                    *self.slot() = Some(running);
                    return;
                }
                Err(error) => {
                    self.disk
                        .trace
                        .note(&self.name, "does not start", number, || error);
                    parts.tasks.kill();
                    sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// Ends it where it stands.
    pub(crate) fn kill(&self) {
        if let Some(running) = self.slot().take() {
            self.disk.trace.note(&self.name, "killed", 0, String::new);
            running.tasks.kill();
            self.panics_of(&running);
        }
    }

    /// What runs, if it does.
    pub(crate) fn running(&self) -> Option<Running> {
        self.slot().clone()
    }

    /// The tasks of it that have ever panicked.
    pub(crate) fn panicked(&self) -> Vec<&'static str> {
        if let Some(running) = self.running() {
            self.panics_of(&running);
        }
        self.panicked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn panics_of(&self, running: &Running) {
        let mut panicked = self.panicked.lock().unwrap_or_else(PoisonError::into_inner);
        panicked.extend(running.tasks.panicked());
    }

    fn slot(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parts(&self, skew_micros: i64) -> Parts {
        let clock = Arc::new(SimClock::new(self.world, skew_micros));
        let way = FaultyStore::new(
            self.disk.clone(),
            self.name.clone(),
            clock.clone(),
            self.dice.fork(),
        );
        let way = Arc::new(way);
        let store = Store::of_parts(way.clone(), way, self.disk.memory.clone());
        let metrics = Metrics::default();
        let topic = Arc::new(StoreBus::new(store.records.clone(), &metrics));
        Parts {
            tasks: Tasks::new(),
            clock,
            bus: Arc::new(FaultyBus::new(topic, self.disk.clone(), self.dice.fork())),
            metrics,
            store,
        }
    }

    async fn run(&self, parts: &Parts) -> Result<Option<Arc<Core>>, String> {
        let clock: Arc<dyn Clock> = parts.clock.clone();
        match self.role {
            Role::Server => {
                let randomness = self.dice.randomness();
                let core = Core::start(
                    parts.store.clone(),
                    parts.bus.clone(),
                    clock.clone(),
                    &randomness,
                    &parts.tasks,
                    &parts.metrics,
                    self.scenario.server,
                );
                let core = Box::pin(core).await.map_err(|error| error.to_string())?;
                if self.scenario.alone {
                    let foreground = Some(core.foreground.clone());
                    let freezer = Arc::new(OwnFreezer(core.keeper.clone()));
                    self.plan(parts, clock.clone(), freezer, foreground.clone());
                    self.split(parts, clock, foreground);
                }
                Ok(Some(core))
            }
            Role::Planner => {
                let records = parts.store.records.clone();
                let freezer = TimedFreezer::new(records, clock.clone(), self.scenario.settle());
                self.plan(parts, clock, Arc::new(freezer), None);
                Ok(None)
            }
            Role::Splitter => {
                self.split(parts, clock, None);
                Ok(None)
            }
        }
    }

    fn plan(
        &self,
        parts: &Parts,
        clock: Arc<dyn Clock>,
        freezer: Arc<dyn Freezer>,
        foreground: Option<Arc<Foreground>>,
    ) {
        let planner = Planner::new(
            PlannerParts {
                events: parts.store.events.clone(),
                records: parts.store.records.clone(),
                bus: parts.bus.clone(),
                freezer,
                clock,
                foreground,
                nudge: Arc::new(Notify::new()),
                planned: Arc::new(Notify::new()),
            },
            &self.dice.randomness(),
            PlannerMetrics::new(&parts.metrics),
            self.scenario.planner,
        );
        parts.tasks.spawn("plan", planner.run(parts.tasks.stopping()));
    }

    fn split(&self, parts: &Parts, clock: Arc<dyn Clock>, foreground: Option<Arc<Foreground>>) {
        let splitter = Splitter::new(
            SplitterParts {
                events: parts.store.events.clone(),
                records: parts.store.records.clone(),
                clock,
                foreground,
                nudge: Arc::new(Notify::new()),
                completed: Arc::new(Notify::new()),
            },
            &self.dice.randomness(),
            SplitterMetrics::new(&parts.metrics),
            self.scenario.splitter,
        );
        parts.tasks.spawn("split", splitter.run(parts.tasks.stopping()));
    }
}

/// Freezes through the keeper of the one process that there is.
#[derive(Debug)]
struct OwnFreezer(SliceKeeper);

#[async_trait]
impl Freezer for OwnFreezer {
    async fn freeze(
        &self,
        namespace: &NamespaceName,
        slice: &SliceName,
        before: EventTime,
    ) -> Result<Freeze, StoreError> {
        let outcome = self.0.freeze(namespace, slice, before).await;
        outcome
            .map(Freeze::of_own)
            .map_err(|error| StoreError::Unavailable {
                doing: "freezing a time slice",
                source: Box::new(error),
            })
    }
}

/// When a world begins: the runtime's time and what clocks should show.
pub(crate) fn begin(scenario: &Scenario) -> (Instant, i64) {
    (now(), scenario.begins)
}
