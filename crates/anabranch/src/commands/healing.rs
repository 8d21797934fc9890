//! Planner and splitter inside the server's process: with an embedded store nobody else can have it open.
//!
//! ```text
//! core.reader ─▶ bus ─▶ planner ─freeze─▶ core.keeper          planner ─planned─▶ splitter
//! ```
//!
//! - S4: a freeze here counts at once: the keeper has waited for every write of this process, and there is no other.

use std::sync::Arc;

use anabranch_bus::DetectionBus;
use anabranch_model::{EventTime, NamespaceName, PartitionKey, SliceName};
use anabranch_planner::{
    DryPlan, DryPlanner, Freeze, Freezer, Planner, PlannerMetrics, PlannerParts, PlannerSettings,
};
use anabranch_runtime::telemetry::Metrics;
use anabranch_runtime::{Clock, Randomness, Tasks};
use anabranch_server::admin::{PlanPreview, PlanPreviewed};
use anabranch_server::core::Core;
use anabranch_server::errors::ServiceError;
use anabranch_server::slices::SliceKeeper;
use anabranch_split::SplitReason;
use anabranch_splitter::{Splitter, SplitterMetrics, SplitterParts, SplitterSettings};
use anabranch_storage::StoreError;
use async_trait::async_trait;
use tokio::sync::Notify;

/// Starts both beside a core, as its tasks.
pub(super) fn start(
    core: &Core,
    bus: Arc<dyn DetectionBus>,
    clock: Arc<dyn Clock>,
    randomness: &Randomness,
    tasks: &Tasks,
    metrics: &Metrics,
) {
    let store = core.store();
    let (nudge, planned) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let parts = PlannerParts {
        events: store.events.clone(),
        records: store.records.clone(),
        bus,
        freezer: Arc::new(OwnFreezer(core.keeper.clone())),
        clock: clock.clone(),
        foreground: Some(core.foreground.clone()),
        nudge,
        planned: planned.clone(),
    };
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
        nudge: planned,
    };
    let settings = SplitterSettings {
        sole_owner: true,
        sweep_interval: SWEEP_INTERVAL,
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
