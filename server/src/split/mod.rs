//! Which partitions are served from the targets that they were split into.
//!
//! ```text
//! partition ─▶ rollout ─▶ settings fresh ─▶ filter ─maybe─▶ record cache ─serving, basis holds─▶ targets
//!                 └────────────┴──────────────┴─────────────────┴─ anything else, counted ─▶ original
//! ```
//!
//! - R2: diverting never changes an answer. A split is served only under the very incarnation and epoch that it rests
//!   on, and only by a view that is young enough to know of an opening before anybody may write into it.
//! - R3: a filter or record that is late, missing or can not be read costs time, never events.
//!
//! How a partition is read from targets is for `read`; how they come about is for planner and splitter.

mod cache;
mod compare;
mod filter;
mod metrics;
mod refresh;
mod repair;

use std::sync::Arc;
use std::time::Duration;

use anabranch_model::namespace::Rollout;
use anabranch_model::{NamespaceName, PartitionKey};
use anabranch_runtime::telemetry::Metrics;
use anabranch_runtime::{Clock, Randomness, Tasks, error_chain};
use anabranch_split::planted::{Bug, planted};
use anabranch_split::{Basis, Serving, UnreadableRecord};
use anabranch_storage::{RecordStore, SplitRecords};
use tokio::sync::Notify;
use tracing::warn;

use self::cache::{Found, RecordCache};
use self::filter::SplitFilter;
use self::refresh::Refresher;
use crate::namespaces::{Namespaces, ReadView};
use crate::slices::SliceKeeper;

pub use self::compare::CompareSettings;
pub(crate) use self::compare::{Compared, Comparisons, Span};
pub use self::filter::{FilterAnswer, FilterStatistics};
pub(crate) use self::metrics::{OriginalReason, SplitMetrics};
pub(crate) use self::repair::Damage;
use self::repair::Repairs;

/// How splits are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitsSettings {
    /// Whether reads may be diverted at all. A server that may not reads originals, whatever a namespace's rollout
    /// says, and compares nothing.
    pub divert: bool,
    /// How often the filters are brought up to date.
    pub filter_refresh: Duration,
    /// How often they are made again from every record, in case a change was not told.
    pub filter_rebuild: Duration,
    /// How long a record that was looked up is believed.
    pub record_cache_ttl: Duration,
    /// Most records that are kept, misses included.
    pub record_cache_max: u64,
    /// How reads are made both ways.
    pub compare: CompareSettings,
}

impl Default for SplitsSettings {
    fn default() -> Self {
        Self {
            divert: true,
            filter_refresh: Duration::from_secs(1),
            filter_rebuild: Duration::from_secs(300),
            record_cache_ttl: Duration::from_secs(10),
            record_cache_max: 100_000,
            compare: CompareSettings::default(),
        }
    }
}

/// Handle on what this server knows of splits. Clones share it.
#[derive(Clone, Debug)]
pub struct Splits(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    divert: bool,
    records: SplitRecords,
    filter: Arc<SplitFilter>,
    refresher: Refresher,
    cache: Arc<RecordCache>,
    repairs: Repairs,
    comparisons: Comparisons,
    clock: Arc<dyn Clock>,
    metrics: Arc<SplitMetrics>,
    nudge: Arc<Notify>,
}

/// Whom a request lets decide where it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The namespace's rollout.
    Rollout,
    /// Nobody: originals.
    Originals,
    /// Nobody: targets, where there are valid ones.
    Targets,
}

/// Where a partition is read.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// What the filter said.
    pub(crate) filter: FilterAnswer,
    /// What could be served, if anything.
    pub(crate) serving: Option<Arc<Serving>>,
    /// Why not from there.
    pub(crate) original: Option<OriginalReason>,
}

impl Splits {
    /// Starts the tasks that keep filters, repair records and weigh comparisons.
    #[expect(clippy::too_many_arguments, reason = "these are its parts")]
    pub fn start(
        records: Arc<dyn RecordStore>,
        namespaces: Namespaces,
        keeper: SliceKeeper,
        clock: Arc<dyn Clock>,
        randomness: &Randomness,
        tasks: &Tasks,
        metrics: &Metrics,
        settings: SplitsSettings,
    ) -> Self {
        let records = SplitRecords::new(records);
        let counted = Arc::new(SplitMetrics::register(metrics));
        let filter = Arc::new(SplitFilter::new(randomness));
        let cache = Arc::new(RecordCache::new(records.clone(), clock.clone(), &settings));
        let repairs = Repairs::start(
            records.clone(),
            cache.clone(),
            clock.clone(),
            tasks,
            counted.clone(),
        );
        let comparisons = Comparisons::new(
            repairs.clone(),
            keeper,
            clock.clone(),
            randomness.clone(),
            tasks.clone(),
            counted.clone(),
            settings.compare,
        );
        let refresher = Refresher::new(
            records.clone(),
            namespaces,
            filter.clone(),
            clock.clone(),
            counted.clone(),
            settings.filter_rebuild,
        );
        let splits = Self(Arc::new(Inner {
            divert: settings.divert,
            records,
            filter,
            refresher,
            cache,
            repairs,
            comparisons,
            clock: clock.clone(),
            metrics: counted,
            nudge: Arc::new(Notify::new()),
        }));
        let (refreshed, stop) = (splits.clone(), tasks.stopping());
        let nudge = splits.nudge();
        tasks.spawn("refresh split filters", async move {
            loop {
                refreshed.refresh_now().await;
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = clock.sleep(settings.filter_refresh) => {}
                    () = nudge.notified() => {}
                }
            }
        });
        splits
    }

    /// The split records of the store.
    pub fn records(&self) -> &SplitRecords {
        &self.0.records
    }

    /// Brings the filters up to date, as the task does from time to time.
    pub async fn refresh_now(&self) {
        self.0.refresher.refresh().await;
    }

    /// Rung by whoever wants the filters brought up to date now: a splitter that has completed something, in one process.
    pub fn nudge(&self) -> Arc<Notify> {
        self.0.nudge.clone()
    }

    /// What the filters of a namespace hold; `None` while they are not loaded.
    pub fn filter_statistics(&self, namespace: &NamespaceName) -> Option<FilterStatistics> {
        self.0.filter.statistics(namespace)
    }

    /// The record of a partition was changed: it is looked up again.
    pub async fn forget(&self, namespace: &NamespaceName, partition: &PartitionKey) {
        self.0.cache.forget(namespace, partition).await;
    }

    pub(crate) fn comparisons(&self) -> &Comparisons {
        &self.0.comparisons
    }

    pub(crate) fn metrics(&self) -> &SplitMetrics {
        &self.0.metrics
    }

    /// Targets could not be read as they should: nothing reads them until the record was looked at.
    pub(crate) async fn report(&self, damage: Damage) {
        self.0.repairs.report(damage).await;
    }

    /// Which way a request goes that leaves it to the rollout.
    pub(crate) fn way(&self) -> Way {
        if self.0.divert {
            Way::Rollout
        } else {
            Way::Originals
        }
    }

    /// Where to read a partition.
    pub(crate) async fn route(&self, view: &ReadView, partition: &PartitionKey, way: Way) -> Route {
        let rollout = view.settings.wide_partition.rollout;
        let off = |why| Route {
            filter: FilterAnswer::Off,
            serving: None,
            original: Some(why),
        };
        let asked = match way {
            Way::Originals => false,
            Way::Targets => true,
            Way::Rollout => matches!(rollout, Rollout::Serve | Rollout::Compare),
        };
        if !asked {
            return off(OriginalReason::Rollout);
        }
        if !view.is_fresh(&*self.0.clock) {
            return off(OriginalReason::StaleSettings);
        }
        let filter = self.0.filter.ask(&view.name, partition);
        let original = |why| Route {
            filter,
            serving: None,
            original: Some(why),
        };
        match filter {
            FilterAnswer::Off => return original(OriginalReason::FilterOff),
            FilterAnswer::Miss => return original(OriginalReason::FilterMiss),
            FilterAnswer::Hit => {}
        }
        let serving = match self.0.cache.find(&view.name, partition).await {
            Ok(Found::Serving(serving)) => serving,
            Ok(Found::Nothing) => return original(OriginalReason::FalseHit),
            Ok(Found::Unreadable(UnreadableRecord::NewerFormat { .. })) => {
                return original(OriginalReason::RecordNewer);
            }
            Ok(Found::Unreadable(UnreadableRecord::Damaged { .. })) => {
                return original(OriginalReason::RecordDamaged);
            }
            Err(error) => {
                warn!(%partition, error = error_chain(&error), "split record could not be read");
                return original(OriginalReason::RecordError);
            }
        };
        let basis = view.slice_named(&partition.slice).map(|slice| Basis {
            incarnation: view.incarnation,
            epoch: slice.epoch,
        });
        // R2: under another epoch something may have been written that the targets do not have. The view may have
        // grown too old while the record was looked up.
        let holds = basis == Some(serving.basis) || planted(Bug::EpochNotCompared);
        if !holds || !view.is_fresh(&*self.0.clock) {
            return original(OriginalReason::Epoch);
        }
        Route {
            filter,
            serving: Some(serving),
            original: (way == Way::Rollout && rollout == Rollout::Compare).then_some(OriginalReason::Rollout),
        }
    }
}

#[cfg(test)]
mod tests;
