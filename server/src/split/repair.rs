//! Splits that a read found broken: their records are invalidated, so that they are made again.
//!
//! - R3: the read itself has gone to the original already; nothing here is waited for.
//! - Only the generation that was found broken is invalidated: another may have replaced it.

use std::sync::Arc;
use std::time::Duration;

use anabranch_model::{EventTime, NamespaceName, PartitionKey};
use anabranch_runtime::{Clock, Tasks, error_chain};
use anabranch_split::{SplitReason, Step};
use anabranch_storage::{Moved, SplitRecords, SplitSlot, StoreError};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::cache::RecordCache;
use super::metrics::SplitMetrics;

/// Damage that waits to be recorded. What finds no room is found again by the next read.
const WAITING_MAX: usize = 256;
/// Times that a record is read again because somebody else moved it.
const OVERTAKEN_MAX: usize = 8;
/// Times that the store is asked.
const ATTEMPTS_MAX: u32 = 4;

/// A split that does not hold what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) namespace: NamespaceName,
    pub(crate) partition: PartitionKey,
    /// The generation that was served.
    pub(crate) generation: u32,
    pub(crate) reason: SplitReason,
}

#[derive(Clone, Debug)]
pub(super) struct Repairs {
    inner: Arc<Inner>,
    waiting: mpsc::Sender<Damage>,
}

#[derive(Debug)]
struct Inner {
    records: SplitRecords,
    cache: Arc<RecordCache>,
    clock: Arc<dyn Clock>,
    metrics: Arc<SplitMetrics>,
}

impl Repairs {
    pub(super) fn start(
        records: SplitRecords,
        cache: Arc<RecordCache>,
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
        metrics: Arc<SplitMetrics>,
    ) -> Self {
        let (waiting, damages) = mpsc::channel(WAITING_MAX);
        let inner = Arc::new(Inner {
            records,
            cache,
            clock,
            metrics,
        });
        tasks.spawn(
            "invalidate damaged splits",
            inner.clone().run(damages, tasks.stopping()),
        );
        Self { inner, waiting }
    }

    pub(super) async fn report(&self, damage: Damage) {
        self.inner
            .cache
            .forget(&damage.namespace, &damage.partition)
            .await;
        if self.waiting.try_send(damage).is_err() {
            self.inner.metrics.repair_failures.inc();
        }
    }

    /// Invalidates a split, if it is still the one that was served.
    pub(super) async fn invalidate(&self, damage: &Damage) {
        self.inner.repair(damage).await;
    }

    pub(super) fn records(&self) -> &SplitRecords {
        &self.inner.records
    }
}

impl Inner {
    async fn run(self: Arc<Self>, mut damages: mpsc::Receiver<Damage>, stop: CancellationToken) {
        loop {
            let damage = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                damage = damages.recv() => match damage {
                    Some(damage) => damage,
                    None => return,
                },
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.repair(&damage) => {}
            }
        }
    }

    async fn repair(&self, damage: &Damage) {
        let Damage {
            namespace, partition, ..
        } = damage;
        for attempt in 1..=ATTEMPTS_MAX {
            match self.invalidate(damage).await {
                Ok(invalidated) => {
                    self.cache.forget(namespace, partition).await;
                    if invalidated {
                        self.metrics.invalidated.inc();
                        let (generation, reason) = (damage.generation, damage.reason.as_str());
                        warn!(%namespace, %partition, generation, reason, "split is invalidated");
                    }
                    return;
                }
                Err(error) => {
                    let error = error_chain(&error);
                    warn!(%namespace, %partition, error, attempt, "split could not be invalidated");
                    self.clock
                        .sleep(Duration::from_secs(1).saturating_mul(attempt))
                        .await;
                }
            }
        }
        self.metrics.repair_failures.inc();
    }

    async fn invalidate(&self, damage: &Damage) -> Result<bool, StoreError> {
        for _ in 0..OVERTAKEN_MAX {
            let slot = self.records.get(&damage.namespace, &damage.partition).await?;
            let SplitSlot::Taken(stored) = slot else {
                return Ok(false);
            };
            let serving = stored.record.serving.as_ref();
            if serving.is_none_or(|serving| serving.generation != damage.generation) {
                return Ok(false);
            }
            let step = Step::Invalidate {
                reason: damage.reason,
            };
            let now = EventTime::from_micros(self.clock.unix_micros());
            match self.records.step(&damage.namespace, &stored, step, now).await? {
                Moved::To(_) => return Ok(true),
                Moved::Illegal(_) => return Ok(false),
                Moved::Overtaken => {}
            }
        }
        Ok(false)
    }
}
