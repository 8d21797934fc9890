//! A world: its processes, its oracle, and how what is wrong is said.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anabranch_model::{EventKey, EventTime, NamespaceName, PartitionKey, TimeSeriesId, layout};
use anabranch_server::core::Core;
use anabranch_server::errors::{Reason, ServiceError};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clock::{SimClock, sleep};
use crate::dice::Dice;
use crate::model::Model;
use crate::process::{Process, Role};
use crate::report::Counts;
use crate::scenario::Scenario;
use crate::store::Disk;
use crate::trace::Trace;

/// Everything that there is.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) namespace: NamespaceName,
    pub(crate) disk: Arc<Disk>,
    pub(crate) model: Model,
    pub(crate) trace: Trace,
    pub(crate) processes: Vec<Arc<Process>>,
    begun: (Instant, i64),
    over: AtomicBool,
    failure: Mutex<Option<String>>,
    failed: Notify,
    counts: Mutex<Counts>,
    /// Targets that lost events after they were proved.
    damaged: Mutex<BTreeSet<PartitionKey>>,
}

impl World {
    pub(crate) fn new(
        scenario: Scenario,
        namespace: NamespaceName,
        told: bool,
        dice: &Dice,
        begun: (Instant, i64),
    ) -> Self {
        let trace = Trace::new(begun.0, told);
        let disk = Arc::new(Disk::new(trace.clone(), &scenario));
        let kinds = [
            (Role::Server, "server", scenario.servers),
            (Role::Planner, "planner", scenario.planners),
            (Role::Splitter, "splitter", scenario.splitters),
        ];
        let processes = kinds
            .iter()
            .flat_map(|(role, name, count)| {
                (0..*count).map(move |number| (*role, format!("{name}-{number}")))
            })
            .map(|(role, name)| {
                let process = Process::new(name, role, disk.clone(), dice.fork(), begun, scenario.clone());
                Arc::new(process)
            })
            .collect();
        Self {
            scenario,
            namespace,
            disk,
            model: Model::default(),
            trace,
            processes,
            begun,
            over: AtomicBool::new(false),
            failure: Mutex::new(None),
            failed: Notify::new(),
            counts: Mutex::default(),
            damaged: Mutex::default(),
        }
    }

    /// Something is not as it must be. The first such thing is kept.
    pub(crate) fn fail(&self, what: String) {
        self.trace.note("CHECK", "fails", 0, || what.clone());
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(what);
        self.failed.notify_one();
    }

    pub(crate) fn failure(&self) -> Option<String> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns when something has failed.
    pub(crate) async fn failing(&self) {
        self.failed.notified().await;
    }

    pub(crate) fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A target that is served has lost events.
    pub(crate) fn damaged(&self, target: &PartitionKey) {
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        damaged.insert(target.clone());
    }

    /// True for a target that has lost events while it was served.
    pub(crate) fn is_damaged(&self, target: &PartitionKey) -> bool {
        let damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        damaged.contains(target)
    }

    /// From now on nobody begins anything.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// True while things are done.
    pub(crate) fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed) && self.trace.now() < self.scenario.length
    }

    /// What a clock that is right shows.
    pub(crate) fn time(&self) -> EventTime {
        let elapsed = i64::try_from(self.trace.now().as_micros()).unwrap_or(i64::MAX);
        EventTime::from_micros(self.begun.1.saturating_add(elapsed))
    }

    /// The servers, running or not.
    pub(crate) fn servers(&self) -> impl Iterator<Item = &Arc<Process>> {
        self.processes
            .iter()
            .filter(|process| process.role == Role::Server)
    }

    /// One of the servers that run; waits when none does.
    pub(crate) async fn a_server(&self, dice: &Dice) -> Arc<Process> {
        loop {
            let running: Vec<&Arc<Process>> = self
                .servers()
                .filter(|server| server.running().is_some())
                .collect();
            if let Some(server) = dice.pick(&running) {
                return Arc::clone(server);
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// Makes a request of a server, in one of its own tasks: it is lost with the server. `None` when it was.
    pub(crate) async fn ask<T, F>(
        &self,
        server: &Process,
        request: impl FnOnce(Arc<Core>, Arc<SimClock>) -> F,
    ) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let running = server.running()?;
        let core = running.core?;
        let (clock, request) = (running.clock.clone(), request(core, running.clock));
        let asked = async move {
            clock.wake().await;
            let answer = request.await;
            // A process that sleeps does not answer either.
            clock.wake().await;
            answer
        };
        running.tasks.spawn("request", asked).await.ok()
    }

    /// True when an acked event must be found by everyone: its slice has been there for so long that no server can
    /// go by a view without it.
    pub(crate) fn is_due(&self, key: &EventKey) -> bool {
        if self.scenario.may_be_closed(key.time, self.time()) {
            return false;
        }
        let Ok((slice, _)) = layout::slice_at(key.time, self.scenario.settings.seconds_per_time_slice) else {
            return false;
        };
        let lifetime = self.scenario.settings_lifetime();
        self.disk
            .slice_made(&slice)
            .is_some_and(|made| self.trace.now() > made.saturating_add(lifetime))
    }

    /// The keys of an id's acked events that everyone must find.
    pub(crate) fn due(&self, id: &TimeSeriesId, inside: impl Fn(&EventKey) -> bool) -> Vec<EventKey> {
        self.model.acked(id, |key| inside(key) && self.is_due(key))
    }

    /// True for an error that the store or a restart explains, so that the request is made again.
    pub(crate) fn passes(&self, error: &ServiceError) -> bool {
        matches!(
            error.reason,
            Reason::StoreUnreachable
                | Reason::StoreOutcomeUnknown
                | Reason::ServerOverloaded
                | Reason::ServerDraining
                | Reason::DeadlineExceeded
                | Reason::WritePartlyFailed
                | Reason::NamespaceChanged
        )
    }
}
