//! A detection becomes a stored plan.
//!
//! ```text
//! bus ─▶ intake ─▶ record: Detected ─▶ sweep ─▶ freeze ─▶ survey ─▶ decide ─▶ record: Planned ─▶ splitter
//!                                        ▲ timer, nudge              └▶ Parked, NotWorthIt, Failed
//! ```
//!
//! - S4: only what is frozen is surveyed and planned ([`mod@freeze`], `survey`).
//! - S5: a planner whose record was moved by another stops ([`anabranch_split::state`]).
//! - Messages and nudges only make it sooner: a sweep finds every record that needs a planner.
//!
//! Any number of planners may work on one store. One works on one record at a time.

mod decide;
mod dry;
pub mod freeze;
mod intake;
pub mod metrics;
pub mod settings;
mod survey;
mod sweep;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anabranch_bus::{BusError, DetectionBus};
use anabranch_catalog::{Ground, LoadedNamespace, SplitWatch, ground, load, names};
use anabranch_model::{EventTime, NamespaceName, PartitionKey};
use anabranch_runtime::{Clock, Foreground, OwnPages, Randomness, error_chain};
use anabranch_split::{LeaseWatch, SplitReason, SplitState, Step};
use anabranch_storage::{ErrorKind, EventStore, Moved, RecordStore, SplitRecords, StoreError, StoredSplit};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub use crate::dry::{DryPlan, DryPlanner};
pub use crate::freeze::{Freeze, Freezer, TimedFreezer};
pub use crate::metrics::PlannerMetrics;
pub use crate::settings::PlannerSettings;
use crate::sweep::{Need, need};

/// What a planner works with.
#[derive(Clone, Debug)]
pub struct PlannerParts {
    /// The originals.
    pub events: Arc<dyn EventStore>,
    /// Namespaces, slices and split records.
    pub records: Arc<dyn RecordStore>,
    /// Where detections wait.
    pub bus: Arc<dyn DetectionBus>,
    /// Makes slices immutable.
    pub freezer: Arc<dyn Freezer>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// How long requests take beside it, where that is known; elsewhere its own pages have to tell.
    pub foreground: Option<Arc<Foreground>>,
    /// Rung by whoever wants a sweep now.
    pub nudge: Arc<Notify>,
    /// Rung when there is a plan for a splitter.
    pub planned: Arc<Notify>,
}

/// What a round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Detections taken from the bus.
    pub detections: usize,
    /// Records that needed a planner.
    pub needed: usize,
    /// Of these, those that moved.
    pub moved: usize,
}

/// Why a round ended early. The next one begins where this one was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RoundError {
    /// The store failed.
    #[error("planner could not use the store")]
    Store(#[from] StoreError),
    /// The bus failed.
    #[error("planner could not use the bus")]
    Bus(#[from] BusError),
}

/// Turns detections into plans.
#[derive(Debug)]
pub struct Planner {
    planning: Arc<Planning>,
    sweeping: Sweeping,
}

/// What all parts of a planner share.
#[derive(Debug)]
pub(crate) struct Planning {
    parts: PlannerParts,
    splits: SplitRecords,
    settings: PlannerSettings,
    metrics: PlannerMetrics,
    /// Tells this planner from others.
    owner: u64,
    /// Partitions whose records were stored here since the last sweep.
    noted: Mutex<BTreeSet<(NamespaceName, PartitionKey)>>,
    /// Rung by the intake.
    recorded: Notify,
    own_pages: OwnPages,
}

/// What a planner has seen of the records.
#[derive(Debug)]
struct Sweeping {
    watch: SplitWatch,
    leases: LeaseWatch<(NamespaceName, PartitionKey)>,
    loaded: BTreeMap<NamespaceName, LoadedNamespace>,
}

impl Planner {
    /// A planner that has not begun.
    pub fn new(
        parts: PlannerParts,
        randomness: &Randomness,
        metrics: PlannerMetrics,
        settings: PlannerSettings,
    ) -> Self {
        let splits = SplitRecords::new(parts.records.clone());
        let lease = if settings.sole_owner {
            Duration::ZERO
        } else {
            settings.lease
        };
        let sweeping = Sweeping {
            watch: SplitWatch::new(splits.clone(), settings.whole_sweep),
            leases: LeaseWatch::new(lease),
            loaded: BTreeMap::new(),
        };
        let planning = Planning {
            parts,
            splits,
            settings,
            metrics,
            owner: randomness.next_u64(),
            noted: Mutex::new(BTreeSet::new()),
            recorded: Notify::new(),
            own_pages: OwnPages::default(),
        };
        Self {
            planning: Arc::new(planning),
            sweeping,
        }
    }

    /// Plans without consequences, with this planner's parts.
    pub fn dry(&self) -> DryPlanner {
        DryPlanner(self.planning.clone())
    }

    /// Works until it is told to stop. Stopping in the middle of anything is as good as at its end.
    pub async fn run(mut self, stopping: CancellationToken) {
        let planning = self.planning.clone();
        let sweeping = &mut self.sweeping;
        let both = async {
            tokio::join!(
                Box::pin(planning.take_in_forever()),
                Box::pin(sweep_forever(&planning, sweeping))
            );
        };
        tokio::select! {
            biased;
            () = stopping.cancelled() => {}
            () = both => {}
        }
    }

    /// One pass: takes in what waits on the bus, and sees to every record that needs a planner.
    ///
    /// # Errors
    /// When the bus or the store fails outside of a survey; what is left is done in the next round.
    pub async fn round(&mut self) -> Result<Progress, RoundError> {
        let detections = Box::pin(self.planning.intake()).await?;
        let mut progress = Box::pin(sweep(&self.planning, &mut self.sweeping)).await?;
        progress.detections = detections;
        Ok(progress)
    }
}

async fn sweep_forever(planning: &Planning, sweeping: &mut Sweeping) {
    loop {
        match Box::pin(sweep(planning, sweeping)).await {
            // What moved may be in need again at once.
            Ok(progress) if progress.moved > 0 => continue,
            Ok(_) => {}
            Err(error) => planning.round_failed(&error),
        }
        tokio::select! {
            biased;
            () = planning.recorded.notified() => {}
            () = planning.parts.nudge.notified() => {}
            () = planning.parts.clock.sleep(planning.settings.sweep_interval) => {}
        }
    }
}

/// Sees to every record that needs a planner, one after the other.
async fn sweep(planning: &Planning, sweeping: &mut Sweeping) -> Result<Progress, RoundError> {
    for (namespace, partition) in planning.take_noted() {
        sweeping.watch.note(&namespace, &partition);
    }
    let records = &*planning.parts.records;
    let all: BTreeSet<NamespaceName> = names(records).await?.into_iter().collect();
    for gone in sweeping.watch.retain(&all) {
        planning.metrics.forget(&gone);
    }
    sweeping.loaded.retain(|name, _| all.contains(name));
    let mut progress = Progress::default();
    for name in &all {
        let namespace = match load(records, name, sweeping.loaded.get(name)).await {
            Ok(Some(namespace)) => namespace,
            Ok(None) => continue,
            // A namespace that can not be read, because a newer version changed it or it is damaged, stops no other.
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                planning.round_failed(&error.into());
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        for (stored, need) in needed(planning, sweeping, &namespace).await? {
            progress.needed += 1;
            let moved = planning.see_to(name, stored, need).await?;
            progress.moved += usize::from(moved);
        }
        sweeping.loaded.insert(name.clone(), namespace);
    }
    planning
        .metrics
        .stalled(sweeping.watch.stalled_seconds(planning.now()));
    Ok(progress)
}

/// The records of a namespace that need a planner now.
async fn needed(
    planning: &Planning,
    sweeping: &mut Sweeping,
    namespace: &LoadedNamespace,
) -> Result<Vec<(StoredSplit, Need)>, StoreError> {
    let grounds = Ground::of_slices(namespace);
    let (now, elapsed) = (planning.now(), planning.parts.clock.elapsed());
    let Sweeping { watch, leases, .. } = sweeping;
    let needs = |stored: &StoredSplit| need(&stored.record, grounds.get(&stored.record.partition.slice), now);
    let mut look = |stored: &StoredSplit| {
        let key = (namespace.name.clone(), stored.record.partition.clone());
        if !matches!(stored.record.state, SplitState::Planning { .. }) {
            leases.forget(&key);
        }
        needs(stored).look(|| leases.lapsed(&key, stored.version, elapsed))
    };
    let found = watch.sweep(namespace, elapsed, now, &mut look).await?;
    for (state, count) in watch.states(&namespace.name) {
        planning.metrics.records(&namespace.name, state, count);
    }
    for (why, count) in watch.unreadable(&namespace.name) {
        planning.metrics.unreadable(&namespace.name, why, count);
    }
    Ok(found
        .into_iter()
        .map(|stored| {
            let need = needs(&stored);
            (stored, need)
        })
        .collect())
}

impl Planning {
    fn now(&self) -> EventTime {
        EventTime::from_micros(self.parts.clock.unix_micros())
    }

    /// What requests of others take; where they are not of this process, what its own pages say of them.
    fn foreground(&self) -> Duration {
        match &self.parts.foreground {
            Some(foreground) => foreground.latency(),
            None => self.own_pages.excess(),
        }
    }

    fn note(&self, namespace: &NamespaceName, partition: &PartitionKey) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.insert((namespace.clone(), partition.clone()));
    }

    fn take_noted(&self) -> BTreeSet<(NamespaceName, PartitionKey)> {
        std::mem::take(&mut *self.noted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn round_failed(&self, error: &RoundError) {
        warn!(error = error_chain(error), "planner's round failed");
        self.metrics.round_failed();
    }

    async fn take_in_forever(&self) {
        loop {
            match Box::pin(self.intake()).await {
                Ok(0) => {}
                // There may be more than was asked for, but what others hold up comes again at once too.
                Ok(_) => self.recorded.notify_one(),
                Err(error) => self.round_failed(&error),
            }
            tokio::select! {
                biased;
                () = self.parts.bus.arrived() => {}
                () = self.parts.clock.sleep(self.settings.intake_interval) => {}
            }
        }
    }

    /// Gives a record what it needs. True when it moved.
    async fn see_to(
        &self,
        namespace: &NamespaceName,
        stored: StoredSplit,
        need: Need,
    ) -> Result<bool, StoreError> {
        match need {
            Need::Nothing(_) => Ok(false),
            Need::Survey | Need::SurveyIfLapsed => Box::pin(self.survey(namespace, stored)).await,
            Need::Invalidate => self.invalidate(namespace, &stored).await,
            Need::Detect => {
                let bytes = stored.record.detected_bytes;
                self.step(namespace, &stored, Step::Detect { bytes }).await
            }
        }
    }

    /// Takes back what rests on something that is not there any more.
    async fn invalidate(&self, namespace: &NamespaceName, stored: &StoredSplit) -> Result<bool, StoreError> {
        // Read after the record, for what the sweep held may be older than it.
        let ground = ground(&*self.parts.records, namespace, &stored.record.partition.slice).await?;
        if need(&stored.record, ground.as_ref(), self.now()) != Need::Invalidate {
            return Ok(false);
        }
        let reason = match ground {
            Some(_) => SplitReason::EpochChanged,
            None => SplitReason::SliceGone,
        };
        let moved = self.step(namespace, stored, Step::Invalidate { reason }).await?;
        if moved {
            self.metrics.invalidated(namespace, reason.as_str());
        }
        Ok(moved)
    }

    async fn step(
        &self,
        namespace: &NamespaceName,
        stored: &StoredSplit,
        step: Step,
    ) -> Result<bool, StoreError> {
        let moved = self.splits.step(namespace, stored, step, self.now()).await?;
        let to = matches!(moved, Moved::To(_));
        if !to {
            self.metrics.claim_lost(namespace);
        }
        Ok(to)
    }
}
