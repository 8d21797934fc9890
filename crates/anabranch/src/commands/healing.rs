//! Planner and splitter inside the server's process: with an embedded store nobody else can have it open. Where the
//! store is shared they are processes of their own ([`super::workers`]).
//!
//! ```text
//! core.reader ─▶ bus ─▶ planner ─freeze─▶ core.keeper          planner ─planned─▶ splitter ─completed─▶ core.splits
//! ```
//!
//! - S4: a freeze here counts at once: the keeper has waited for every write of this process, and there is no other.

use std::sync::Arc;

use anabranch_bus::DetectionBus;
use anabranch_model::{EventTime, NamespaceName, PartitionKey, SliceName};
use anabranch_planner::{
    DryPlan, DryPlanner, Freeze, Freezer, Planner, PlannerMetrics, PlannerParts, PlannerSettings,
    TimedFreezer,
};
use anabranch_runtime::telemetry::Metrics;
use anabranch_runtime::{Clock, Randomness, Tasks};
use anabranch_server::admin::{PlanPreview, PlanPreviewed};
use anabranch_server::core::Core;
use anabranch_server::errors::ServiceError;
use anabranch_server::settings::ServerSettings;
use anabranch_server::slices::SliceKeeper;
use anabranch_split::SplitReason;
use anabranch_splitter::{Splitter, SplitterMetrics, SplitterParts, SplitterSettings};
use anabranch_storage::StoreError;
use async_trait::async_trait;
use tokio::sync::Notify;

/// Starts both beside a core, as its tasks; on a store that is shared, only dry runs are planned here.
pub(super) fn start(
    core: &Core,
    bus: Arc<dyn DetectionBus>,
    server: &ServerSettings,
    clock: Arc<dyn Clock>,
    randomness: &Randomness,
    tasks: &Tasks,
    metrics: &Metrics,
) {
    let store = core.store();
    let nudge = Arc::new(Notify::new());
    let freezer: Arc<dyn Freezer> = if server.slices.shared_store {
        Arc::new(TimedFreezer::new(
            store.records.clone(),
            clock.clone(),
            server.slices.settle,
        ))
    } else {
        Arc::new(OwnFreezer(core.keeper.clone()))
    };
    let parts = PlannerParts {
        events: store.events.clone(),
        records: store.records.clone(),
        bus,
        freezer,
        clock: clock.clone(),
        foreground: Some(core.foreground.clone()),
        nudge: Arc::new(Notify::new()),
        planned: nudge.clone(),
    };
    if server.slices.shared_store {
        // Metrics of a planner that never works would say that one stands still.
        let metrics = PlannerMetrics::new(&Metrics::default());
        let planner = Planner::new(parts, randomness, metrics, PlannerSettings::default());
        core.admin.set_plan_preview(Arc::new(Preview(planner.dry())));
        return;
    }
    let settings = PlannerSettings {
        sole_owner: true,
        sweep_interval: SWEEP_INTERVAL,
        park_interval: PARK_INTERVAL,
        ..PlannerSettings::default()
    };
    let planner = Planner::new(parts, randomness, PlannerMetrics::new(metrics), settings);
    core.admin.set_plan_preview(Arc::new(Preview(planner.dry())));
    tasks.spawn("planner", planner.run(tasks.stopping()));

    let parts = SplitterParts {
        events: store.events.clone(),
        records: store.records.clone(),
        clock,
        foreground: Some(core.foreground.clone()),
        nudge,
        completed: core.splits.nudge(),
    };
    let settings = SplitterSettings {
        sole_owner: true,
        sweep_interval: SWEEP_INTERVAL,
        retire_after: server.retire_after(),
        ..SplitterSettings::default()
    };
    let splitter = Splitter::new(parts, randomness, SplitterMetrics::new(metrics), settings);
    tasks.spawn("splitter", splitter.run(tasks.stopping()));
}

/// Markers are cheap to look at in the own store.
const SWEEP_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

/// A growing partition is looked at again soon: what has become immutable of it meanwhile is cheap to know here.
const PARK_INTERVAL: std::time::Duration = std::time::Duration::from_secs(5);

/// Freezes through the keeper of this process.
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
        outcome.map(Freeze::of_own).map_err(unavailable)
    }
}

fn unavailable(error: ServiceError) -> StoreError {
    StoreError::Unavailable {
        doing: "freezing a time slice",
        source: Box::new(error),
    }
}

/// Answers dry runs.
#[derive(Debug)]
struct Preview(DryPlanner);

#[async_trait]
impl PlanPreview for Preview {
    async fn preview(
        &self,
        namespace: &NamespaceName,
        partition: &PartitionKey,
    ) -> Result<PlanPreviewed, ServiceError> {
        let nothing = PlanPreviewed {
            boundary: None,
            bytes: 0,
            rows: 0,
            plan: None,
            reason: None,
        };
        Ok(match self.0.plan(namespace, partition).await? {
            DryPlan::Unknown => PlanPreviewed {
                reason: Some(SplitReason::SliceGone),
                ..nothing
            },
            DryPlan::Mutable { .. } => PlanPreviewed {
                reason: Some(SplitReason::Mutable),
                ..nothing
            },
            DryPlan::TooSmall { boundary, total } => PlanPreviewed {
                boundary: Some(boundary),
                bytes: total.bytes,
                rows: total.rows,
                reason: Some(SplitReason::Small),
                plan: None,
            },
            DryPlan::Plan { plan, total } => PlanPreviewed {
                boundary: Some(plan.boundary),
                bytes: total.bytes,
                rows: total.rows,
                plan: Some(plan),
                reason: None,
            },
            DryPlan::Exhausted => PlanPreviewed {
                reason: Some(SplitReason::GenerationsExhausted),
                ..nothing
            },
        })
    }
}
