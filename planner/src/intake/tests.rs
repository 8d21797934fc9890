//! What the bus takes back is let go of.

use std::sync::Arc;
use std::time::Duration;

use anabranch_bus::conformance::detection;
use anabranch_bus::{BusError, Delivery, Detection, DetectionBus, StoreBus};
use anabranch_runtime::telemetry::Metrics;
use anabranch_runtime::{ManualClock, Randomness};
use anabranch_storage::memory::MemoryStore;
use async_trait::async_trait;
use tokio::sync::{Notify, watch};

use crate::{Planner, PlannerMetrics, PlannerParts, PlannerSettings, TimedFreezer};

/// A bus that takes back what it handed out after the first ack.
#[derive(Debug)]
struct TakesBack {
    inner: StoreBus,
    recalled: watch::Sender<bool>,
}

#[async_trait]
impl DetectionBus for TakesBack {
    async fn publish(&self, detection: &Detection) -> Result<(), BusError> {
        self.inner.publish(detection).await
    }

    async fn receive(&self, detections_max: usize) -> Result<Vec<Delivery>, BusError> {
        self.recalled.send_replace(false);
        self.inner.receive(detections_max).await
    }

    async fn ack(&self, delivery: &Delivery) -> Result<(), BusError> {
        self.inner.ack(delivery).await?;
        self.recalled.send_replace(true);
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn arrived(&self) {
        self.inner.arrived().await;
    }

    async fn recalled(&self) {
        self.recalled
            .subscribe()
            .wait_for(|recalled| *recalled)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn work_on_what_is_recalled_stops_and_the_rest_comes_again() {
    let records = Arc::new(MemoryStore::new());
    let metrics = Metrics::default();
    let bus = Arc::new(TakesBack {
        inner: StoreBus::new(records.clone(), &metrics),
        recalled: watch::Sender::new(false),
    });
    let clock = ManualClock::at(0);
    let parts = PlannerParts {
        events: records.clone(),
        records: records.clone(),
        bus: bus.clone(),
        freezer: Arc::new(TimedFreezer::new(
            records.clone(),
            clock.clone(),
            Duration::from_secs(30),
        )),
        clock,
        foreground: None,
        nudge: Arc::new(Notify::new()),
        planned: Arc::new(Notify::new()),
    };
    let mut planner = Planner::new(
        parts,
        &Randomness::from_seed(1),
        PlannerMetrics::new(&metrics),
        PlannerSettings::default(),
    );
    let count = 3;
    for n in 0..count {
        bus.publish(&detection(&format!("id{n}"), 1)).await.unwrap();
    }
    // Each round deals with one, and lets go of the others.
    for left in (1..=count).rev() {
        assert_eq!(planner.round().await.unwrap().detections, left);
    }
    assert_eq!(planner.round().await.unwrap().detections, 0);
    let counted = metrics.encode().unwrap();
    assert!(counted.contains("planner_recalls_total 3"), "{counted}");
}
