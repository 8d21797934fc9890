//! A plan is carried out, and the copy proved.
//!
//! ```text
//! record: Planned ─▶ claim ─▶ copy ─▶ read back ─▶ equal? ─▶ record: Completed
//!                                                    └▶ Failed ─▶ planner, next generation
//! record: retiring ─▶ left alone for a while ─▶ targets removed
//! ```
//!
//! - S1: the original is only read.
//! - S2: only what was read back and is equal completes ([`anabranch_split::state`]).
//! - S5: a splitter whose record was moved by another stops.
//! - Nudges only make it sooner: a sweep finds every record that needs a splitter.
//!
//! Any number of splitters may work on one store. One works on one record at a time.

mod copy;
mod janitor;
pub mod metrics;
pub mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anabranch_catalog::{Ground, LoadedNamespace, Look, SplitWatch, Wake, ground, load, names};
use anabranch_model::namespace::Rollout;
use anabranch_model::{EventTime, NamespaceName, PartitionKey, WideTable};
use anabranch_runtime::{Clock, Foreground, OwnPages, Randomness, error_chain};
use anabranch_split::{LeaseWatch, SplitRecord, SplitState};
use anabranch_storage::{ErrorKind, EventStore, RecordStore, SplitRecords, StoreError, StoredSplit};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::janitor::RetiringWatch;
pub use crate::metrics::SplitterMetrics;
pub use crate::settings::SplitterSettings;

/// What a splitter works with.
#[derive(Clone, Debug)]
pub struct SplitterParts {
    /// Originals and targets.
    pub events: Arc<dyn EventStore>,
    /// Namespaces, slices and split records.
    pub records: Arc<dyn RecordStore>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// How long requests take beside it, where that is known; elsewhere its own pages have to tell.
    pub foreground: Option<Arc<Foreground>>,
    /// Rung by whoever wants a sweep now: a planner with a plan, in one process.
    pub nudge: Arc<Notify>,
    /// Rung when a split has completed: a server in the same process serves it at once.
    pub completed: Arc<Notify>,
}

/// What a round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Records that needed a splitter.
    pub needed: usize,
    /// Of these, those that moved.
    pub moved: usize,
    /// Plans that wait for their table of targets.
    pub waiting: usize,
}

/// Carries out plans.
#[derive(Debug)]
pub struct Splitter {
    splitting: Splitting,
    sweeping: Sweeping,
}

/// What all parts of a splitter share.
#[derive(Debug)]
pub(crate) struct Splitting {
    parts: SplitterParts,
    splits: SplitRecords,
    settings: SplitterSettings,
    metrics: SplitterMetrics,
    /// Tells this splitter from others.
    owner: u64,
    own_pages: OwnPages,
}

/// What a splitter has seen of the records.
#[derive(Debug)]
struct Sweeping {
    watch: SplitWatch,
    leases: LeaseWatch<(NamespaceName, PartitionKey)>,
    retiring: RetiringWatch,
    loaded: BTreeMap<NamespaceName, LoadedNamespace>,
}

impl Splitter {
    /// A splitter that has not begun.
    pub fn new(
        parts: SplitterParts,
        randomness: &Randomness,
        metrics: SplitterMetrics,
        settings: SplitterSettings,
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
            retiring: RetiringWatch::default(),
            loaded: BTreeMap::new(),
        };
        let splitting = Splitting {
            parts,
            splits,
            settings,
            metrics,
            owner: randomness.next_u64(),
            own_pages: OwnPages::default(),
        };
        Self { splitting, sweeping }
    }

    /// Works until it is told to stop. Stopping in the middle of anything is as good as at its end.
    pub async fn run(mut self, stopping: CancellationToken) {
        let nudge = self.splitting.parts.nudge.clone();
        let clock = self.splitting.parts.clock.clone();
        let interval = self.splitting.settings.sweep_interval;
        loop {
            let rounds = async {
                match self.round().await {
                    // What moved may be in need again at once.
                    Ok(progress) if progress.moved > 0 => return,
                    Ok(_) => {}
                    Err(error) => self.splitting.round_failed(&error),
                }
                tokio::select! {
                    biased;
                    () = nudge.notified() => {}
                    () = clock.sleep(interval) => {}
                }
            };
            tokio::select! {
                biased;
                () = stopping.cancelled() => return,
                () = Box::pin(rounds) => {}
            }
        }
    }

    /// One pass: sees to every record that needs a splitter, one after the other.
    ///
    /// # Errors
    /// When the store fails outside of a split; what is left is done in the next round.
    pub async fn round(&mut self) -> Result<Progress, StoreError> {
        let Self { splitting, sweeping } = self;
        Box::pin(sweep(splitting, sweeping)).await
    }
}

async fn sweep(splitting: &Splitting, sweeping: &mut Sweeping) -> Result<Progress, StoreError> {
    let records = &*splitting.parts.records;
    let all: BTreeSet<NamespaceName> = names(records).await?.into_iter().collect();
    for gone in sweeping.watch.retain(&all) {
        splitting.metrics.forget(&gone);
    }
    sweeping.loaded.retain(|name, _| all.contains(name));
    let mut progress = Progress::default();
    for name in &all {
        let namespace = match load(records, name, sweeping.loaded.get(name)).await {
            Ok(Some(namespace)) => namespace,
            Ok(None) => continue,
            // A namespace that can not be read, because a newer version changed it or it is damaged, stops no other.
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                splitting.round_failed(&error);
                continue;
            }
            Err(error) => return Err(error),
        };
        for (stored, need) in needed(splitting, sweeping, &namespace, &mut progress.waiting).await? {
            progress.needed += 1;
            let moved = splitting.see_to(name, stored, need).await?;
            progress.moved += usize::from(moved);
        }
        sweeping.loaded.insert(name.clone(), namespace);
    }
    splitting.metrics.waiting(progress.waiting);
    splitting
        .metrics
        .stalled(sweeping.watch.stalled_seconds(splitting.now()));
    Ok(progress)
}

/// What a record needs of a splitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Need {
    /// The first of its retiring targets may be removed.
    remove: bool,
    /// Its plan is to be carried out.
    split: bool,
}

/// Where a record's plan stands with splitters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    None,
    /// There is no table for its targets yet.
    Waiting,
    /// Nobody is at it.
    Free,
    /// Somebody is, or has died.
    Held,
}

fn plan_of(record: &SplitRecord, ground: Option<&Ground>) -> Plan {
    // Without ground, or on another, the planner takes it back.
    let Some(ground) = ground.filter(|ground| ground.settings.wide_partition.rollout >= Rollout::Split)
    else {
        return Plan::None;
    };
    match &record.state {
        SplitState::Planned { .. } if ground.slice.wide_table != WideTable::Made => Plan::Waiting,
        SplitState::Planned { .. } => Plan::Free,
        SplitState::Splitting { .. } | SplitState::Verifying { .. } => Plan::Held,
        _ => Plan::None,
    }
}

/// The records of a namespace that need a splitter now.
async fn needed(
    splitting: &Splitting,
    sweeping: &mut Sweeping,
    namespace: &LoadedNamespace,
    waiting: &mut usize,
) -> Result<Vec<(StoredSplit, Need)>, StoreError> {
    let grounds = Ground::of_slices(namespace);
    let (now, elapsed) = (splitting.now(), splitting.parts.clock.elapsed());
    let Sweeping {
        watch,
        leases,
        retiring,
        ..
    } = sweeping;
    let mut needs: BTreeMap<PartitionKey, Need> = BTreeMap::new();
    let mut look = |stored: &StoredSplit| {
        let record = &stored.record;
        let key = (namespace.name.clone(), record.partition.clone());
        let plan = plan_of(record, grounds.get(&record.partition.slice));
        if plan != Plan::Held {
            leases.forget(&key);
        }
        let retire_after = splitting.settings.retire_after;
        let remove = retiring.due(&namespace.name, record, elapsed, retire_after);
        let split = match plan {
            Plan::None => false,
            Plan::Waiting => {
                *waiting += 1;
                false
            }
            Plan::Free => true,
            Plan::Held => leases.lapsed(&key, stored.version, elapsed),
        };
        if remove || split {
            needs.insert(key.1, Need { remove, split });
            return Look::Needed;
        }
        let idle = plan == Plan::None && record.retiring.is_empty();
        Look::Idle(if idle { Wake::Change } else { Wake::Next })
    };
    let found = watch.sweep(namespace, elapsed, now, &mut look).await?;
    for (why, count) in watch.unreadable(&namespace.name) {
        splitting.metrics.unreadable(&namespace.name, why, count);
    }
    Ok(found
        .into_iter()
        .filter_map(|stored| {
            let need = needs.get(&stored.record.partition).copied()?;
            Some((stored, need))
        })
        .collect())
}

impl Splitting {
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

    fn round_failed(&self, error: &StoreError) {
        warn!(error = error_chain(error), "splitter's round failed");
        self.metrics.round_failed();
    }

    /// Gives a record what it needs. True when it moved.
    async fn see_to(
        &self,
        namespace: &NamespaceName,
        stored: StoredSplit,
        need: Need,
    ) -> Result<bool, StoreError> {
        let mut stored = stored;
        if need.remove {
            match self.remove(namespace, &stored).await? {
                Some(moved) => stored = moved,
                None => return Ok(false),
            }
        }
        if !need.split {
            return Ok(need.remove);
        }
        // Read after the record: what the sweep held of the slice may be older than the record.
        let Some(ground) = ground(&*self.parts.records, namespace, &stored.record.partition.slice).await?
        else {
            return Ok(need.remove);
        };
        let split = Box::pin(self.split(namespace, &ground, &stored)).await?;
        Ok(split || need.remove)
    }
}

#[cfg(test)]
mod tests;
