//! Reads made both ways: what they say of a split, and what is done about it.
//!
//! ```text
//! same span, from original and through targets ─▶ equal ─▶ gain ─now and then─▶ record
//!                                              └▶ first difference ─▶ log, invalidate, rollout back to SPLIT
//! ```
//!
//! - R2 is what this watches over. Only events that the targets claim to hold are compared: the tail of a partition
//!   may grow between the two reads.
//! - One comparison at a time; what comes meanwhile is dropped and counted. The answer has left by then.
//!
//! How the second read is made is for `read`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anabranch_model::namespace::Rollout;
use anabranch_model::{EventRecord, EventTime, NamespaceName, PartitionKey};
use anabranch_runtime::{Clock, Randomness, Tasks, error_chain};
use anabranch_split::{Gain, Serving, SplitReason, Step};
use anabranch_storage::{Moved, SplitSlot, StoreError};
use tokio::sync::Semaphore;
use tracing::warn;

use super::metrics::SplitMetrics;
use super::repair::{Damage, Repairs};
use crate::errors::Reason;
use crate::slices::SliceKeeper;

/// Times that a namespace is stepped back again because somebody else changed it.
const ATTEMPTS_MAX: usize = 8;

/// How reads are made both ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompareSettings {
    /// Events after which a comparison is given up.
    pub events_max: usize,
    /// Comparisons of a partition after which what they found is stored.
    pub store_reads: u64,
    /// Or after this long, by the next comparison of any partition.
    pub store_after: Duration,
    /// Most partitions of which something waits to be stored.
    pub waiting_max: usize,
}

impl Default for CompareSettings {
    fn default() -> Self {
        Self {
            events_max: 100_000,
            store_reads: 16,
            store_after: Duration::from_secs(30),
            waiting_max: 1_024,
        }
    }
}

/// What became of the second read.
#[derive(Debug)]
pub(crate) enum Compared {
    /// It went over the same span.
    Done(Span),
    /// It could not be made to the end.
    GivenUp,
}

/// A span of a walk, read both ways.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) namespace: NamespaceName,
    /// The records that the targets claim to hold, as the original had them.
    pub(crate) original: Vec<(PartitionKey, EventRecord)>,
    /// The same, as the targets had them.
    pub(crate) targets: Vec<(PartitionKey, EventRecord)>,
    /// What was read through.
    pub(crate) served: BTreeMap<PartitionKey, Arc<Serving>>,
    pub(crate) original_took: Duration,
    pub(crate) targets_took: Duration,
}

impl Span {
    /// The first record that only one side has, or that differs.
    fn first_difference(&self) -> Option<&(PartitionKey, EventRecord)> {
        let longer = self.original.len().max(self.targets.len());
        let differs = |n: &usize| self.original.get(*n) != self.targets.get(*n);
        let n = (0..longer).find(differs)?;
        self.original.get(n).or_else(|| self.targets.get(n))
    }
}

/// Where reads are compared. Clones share the one turn.
#[derive(Clone, Debug)]
pub(crate) struct Comparisons(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    repairs: Repairs,
    keeper: SliceKeeper,
    clock: Arc<dyn Clock>,
    randomness: Randomness,
    tasks: Tasks,
    metrics: Arc<SplitMetrics>,
    settings: CompareSettings,
    turn: Arc<Semaphore>,
    gains: Mutex<BTreeMap<(NamespaceName, PartitionKey), Waiting>>,
}

/// What was found of a partition and is not stored yet.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    generation: u32,
    gain: Gain,
    since: Duration,
}

impl Comparisons {
    pub(super) fn new(
        repairs: Repairs,
        keeper: SliceKeeper,
        clock: Arc<dyn Clock>,
        randomness: Randomness,
        tasks: Tasks,
        metrics: Arc<SplitMetrics>,
        settings: CompareSettings,
    ) -> Self {
        Self(Arc::new(Inner {
            repairs,
            keeper,
            clock,
            randomness,
            tasks,
            metrics,
            settings,
            turn: Arc::new(Semaphore::new(1)),
            gains: Mutex::default(),
        }))
    }

    pub(crate) fn settings(&self) -> &CompareSettings {
        &self.0.settings
    }

    /// True for this share of reads.
    pub(crate) fn sampled(&self, ratio: f64) -> bool {
        let drawn = u32::try_from(self.0.randomness.next_u64() >> 32).unwrap_or(0);
        f64::from(drawn) < ratio * 2f64.powi(32)
    }

    /// Makes the second read in the background, if none is being made.
    pub(crate) fn start(&self, read: impl Future<Output = Compared> + Send + 'static) {
        let Ok(turn) = self.0.turn.clone().try_acquire_owned() else {
            self.0.metrics.compare_skipped.inc();
            return;
        };
        let (inner, stop) = (self.0.clone(), self.0.tasks.stopping());
        self.0.tasks.spawn("compare a read", async move {
            let _turn = turn;
            let compare = async {
                match read.await {
                    Compared::Done(span) => Box::pin(inner.weigh(&span)).await,
                    Compared::GivenUp => {
                        inner.metrics.compare_skipped.inc();
                    }
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = compare => {}
            }
        });
    }
}

impl Inner {
    async fn weigh(&self, span: &Span) {
        self.metrics.compared.inc();
        self.metrics.compare_took(span.original_took, span.targets_took);
        let Some((partition, record)) = span.first_difference() else {
            self.keep_gain(span).await;
            return;
        };
        self.metrics.compare_mismatches.inc();
        let namespace = &span.namespace;
        let (time, id) = (record.event.key.time, &record.event.key.id);
        warn!(
            %namespace, %partition, event_time = %time, event_id = %id,
            "a read through targets differs from the original"
        );
        if let Some(serving) = span.served.get(partition) {
            let damage = Damage {
                namespace: namespace.clone(),
                partition: partition.clone(),
                generation: serving.generation,
                reason: SplitReason::CompareMismatch,
            };
            self.repairs.invalidate(&damage).await;
        }
        self.step_back(namespace).await;
    }

    /// No split of the namespace is served, or compared, until an operator says so again.
    async fn step_back(&self, namespace: &NamespaceName) {
        for _ in 0..ATTEMPTS_MAX {
            let changed = self.keeper.update(namespace, |settings| {
                let mut settings = settings.clone();
                let rollout = &mut settings.wide_partition.rollout;
                if matches!(rollout, Rollout::Compare | Rollout::Serve) {
                    *rollout = Rollout::Split;
                }
                Ok(settings)
            });
            match changed.await {
                Ok(_) => {
                    warn!(%namespace, "rollout is stepped back to SPLIT");
                    return;
                }
                Err(error) if error.reason == Reason::NamespaceChanged => {}
                Err(error) => {
                    warn!(%namespace, %error, "rollout could not be stepped back");
                    return;
                }
            }
        }
        warn!(%namespace, "rollout could not be stepped back: others keep changing the namespace");
    }

    async fn keep_gain(&self, span: &Span) {
        let now = self.clock.elapsed();
        for ((namespace, partition), waiting) in self.add_gain(span, now) {
            if let Err(error) = self.store_gain(&namespace, &partition, waiting).await {
                let error = error_chain(&error);
                warn!(%namespace, %partition, error, "gain of a split could not be stored");
            }
        }
    }

    /// Takes in what a span found, and out what is to be stored.
    fn add_gain(&self, span: &Span, now: Duration) -> Vec<((NamespaceName, PartitionKey), Waiting)> {
        // Several partitions of one read share its time.
        let shares = u32::try_from(span.served.len().max(1)).unwrap_or(u32::MAX);
        let micros = |took: Duration| u64::try_from((took / shares).as_micros()).unwrap_or(u64::MAX);
        let found = Gain {
            reads: 1,
            original_micros: micros(span.original_took),
            targets_micros: micros(span.targets_took),
        };
        let mut gains = self.gains.lock().unwrap_or_else(PoisonError::into_inner);
        for (partition, serving) in &span.served {
            let fresh = Waiting {
                generation: serving.generation,
                gain: Gain::default(),
                since: now,
            };
            let key = (span.namespace.clone(), partition.clone());
            let waiting = gains.entry(key).or_insert(fresh);
            if waiting.generation != serving.generation {
                *waiting = fresh;
            }
            waiting.gain = sum(waiting.gain, found);
        }
        let CompareSettings {
            store_reads,
            store_after,
            waiting_max,
            ..
        } = self.settings;
        let mut left = gains.len();
        let due = gains.extract_if(.., |_, waiting| {
            let due = waiting.gain.reads >= store_reads
                || now.saturating_sub(waiting.since) >= store_after
                || left > waiting_max;
            left -= usize::from(due);
            due
        });
        due.collect()
    }

    async fn store_gain(
        &self,
        namespace: &NamespaceName,
        partition: &PartitionKey,
        waiting: Waiting,
    ) -> Result<(), StoreError> {
        let records = self.repairs.records();
        for _ in 0..ATTEMPTS_MAX {
            let SplitSlot::Taken(stored) = records.get(namespace, partition).await? else {
                return Ok(());
            };
            let serving = stored.record.serving.as_ref();
            if serving.is_none_or(|serving| serving.generation != waiting.generation) {
                return Ok(());
            }
            let gain = sum(stored.record.gain.unwrap_or_default(), waiting.gain);
            let now = EventTime::from_micros(self.clock.unix_micros());
            let step = Step::Measured { gain };
            match records.step(namespace, &stored, step, now).await? {
                // Illegal: nothing is served any more.
                Moved::To(_) | Moved::Illegal(_) => return Ok(()),
                Moved::Overtaken => {}
            }
        }
        Ok(())
    }
}

fn sum(a: Gain, b: Gain) -> Gain {
    Gain {
        reads: a.reads.saturating_add(b.reads),
        original_micros: a.original_micros.saturating_add(b.original_micros),
        targets_micros: a.targets_micros.saturating_add(b.targets_micros),
    }
}
