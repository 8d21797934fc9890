//! Notices partitions that are too wide, and tells the planner.
//!
//! ```text
//! bytes of an original, over all pages ─past detect_bytes▶ offer ─▶ suppressed? ─no▶ channel ─▶ task ─▶ bus
//!                                                                        └ yes, or the channel is full: counted
//! ```
//!
//! - A read never waits: an offer is a look at a map and a try to send.
//! - What was offered is not offered again for a while, but always again after it: a detection that was lost is made
//!   up for by the next wide read. One that could not be published is forgotten at once.
//!
//! What becomes of a detection is for the planner, which looks for itself.

mod suppress;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anabranch_bus::{Detection, DetectionBus};
use anabranch_catalog::{NamespaceView, justified};
use anabranch_model::namespace::Rollout;
use anabranch_model::{EventTime, PartitionKey};
use anabranch_runtime::telemetry::Metrics;
use anabranch_runtime::{Clock, Tasks, error_chain};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::suppress::Suppressed;

/// How detections are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DetectSettings {
    /// How long a partition that was offered is not offered again.
    pub suppress: Duration,
    /// Most partitions that are suppressed at once; past it the oldest are let go.
    pub suppressed_max: usize,
    /// Most detections that wait to be published.
    pub waiting_max: usize,
    /// Times that one is tried to be published.
    pub attempts_max: u32,
    /// Wait after the first failure; doubled by each further one.
    pub attempt_wait: Duration,
}

impl Default for DetectSettings {
    fn default() -> Self {
        Self {
            suppress: Duration::from_secs(60),
            suppressed_max: 10_000,
            waiting_max: 1_024,
            attempts_max: 4,
            attempt_wait: Duration::from_millis(200),
        }
    }
}

/// Where reads tell how much they read. Clones share what is suppressed.
#[derive(Clone, Debug)]
pub struct Detector(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    waiting: mpsc::Sender<Detection>,
    suppressed: Mutex<Suppressed>,
    clock: Arc<dyn Clock>,
    counted: Counted,
    settings: DetectSettings,
}

#[derive(Clone, Debug, Default)]
struct Counted {
    offered: Counter,
    suppressed: Counter,
    dropped: Counter,
    published: Counter,
    failed: Counter,
}

impl Detector {
    /// Starts the task that publishes.
    pub fn start(
        bus: Arc<dyn DetectionBus>,
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
        metrics: &Metrics,
        settings: DetectSettings,
    ) -> Self {
        let (waiting, detections) = mpsc::channel(settings.waiting_max.max(1));
        let detector = Self(Arc::new(Inner {
            waiting,
            suppressed: Mutex::new(Suppressed::new(settings.suppress, settings.suppressed_max)),
            clock,
            counted: Counted::register(metrics),
            settings,
        }));
        let publishing = detector.0.clone();
        let stop = tasks.stopping();
        tasks.spawn("publish detections", async move {
            publishing.publish_all(bus, detections, stop).await;
        });
        detector
    }

    /// Takes in that so many bytes of a partition's original were read, over all pages of one walk.
    pub fn offer(&self, view: &NamespaceView, partition: &PartitionKey, bytes: u64) {
        let wide = &view.settings.wide_partition;
        if bytes <= wide.detect_bytes || wide.rollout == Rollout::Off {
            return;
        }
        let Inner { counted, clock, .. } = &*self.0;
        counted.offered.inc();
        let key = (view.name.clone(), partition.clone());
        let now = clock.elapsed();
        let mut suppressed = self.0.suppressed();
        if suppressed.holds(&key, now) {
            counted.suppressed.inc();
            return;
        }
        // A full channel must not suppress: the next read tries again.
        let Ok(room) = self.0.waiting.try_reserve() else {
            counted.dropped.inc();
            return;
        };
        suppressed.insert(key, now);
        room.send(Detection {
            namespace: view.name.clone(),
            partition: partition.clone(),
            bytes,
            immutable: immutable(view, partition, EventTime::from_micros(clock.unix_micros())),
        });
    }
}

impl Inner {
    async fn publish_all(
        &self,
        bus: Arc<dyn DetectionBus>,
        mut detections: mpsc::Receiver<Detection>,
        stop: CancellationToken,
    ) {
        loop {
            let detection = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                detection = detections.recv() => match detection {
                    Some(detection) => detection,
                    None => return,
                },
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.publish(&*bus, &detection) => {}
            }
        }
    }

    async fn publish(&self, bus: &dyn DetectionBus, detection: &Detection) {
        let mut wait = self.settings.attempt_wait;
        for attempt in 1.. {
            let Err(error) = bus.publish(detection).await else {
                self.counted.published.inc();
                return;
            };
            let error = error_chain(&error);
            if attempt >= self.settings.attempts_max {
                self.counted.failed.inc();
                let key = (detection.namespace.clone(), detection.partition.clone());
                self.suppressed().clear(&key);
                warn!(partition = %detection.partition, error, "detection could not be published");
                return;
            }
            debug!(partition = %detection.partition, error, attempt, "detection is published again");
            self.clock.sleep(wait).await;
            wait = wait.saturating_mul(2);
        }
    }

    fn suppressed(&self) -> MutexGuard<'_, Suppressed> {
        self.suppressed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether no write may reach the partition any more, as far as this server can tell.
fn immutable(view: &NamespaceView, partition: &PartitionKey, now: EventTime) -> bool {
    let Some(slice) = view.slice_named(&partition.slice) else {
        return false;
    };
    let end = slice.bucket_interval(partition.time_bucket).end;
    justified(&view.settings, view.sealed_before, now).is_some_and(|before| end <= before)
}

impl Counted {
    fn register(metrics: &Metrics) -> Self {
        let counted = Self::default();
        metrics.register(|registry| {
            let mut counter = |name: &str, help: &str, counter: &Counter| {
                registry.register(name, help, counter.clone());
            };
            counter(
                "detections_offered",
                "Times that a read found a partition wide",
                &counted.offered,
            );
            counter(
                "detections_suppressed",
                "Detections of a partition that was detected a little while ago",
                &counted.suppressed,
            );
            counter(
                "detections_dropped",
                "Detections for which there was no room",
                &counted.dropped,
            );
            counter(
                "detections_published",
                "Detections that were handed to the bus",
                &counted.published,
            );
            counter(
                "detections_failed",
                "Detections that could not be handed to the bus",
                &counted.failed,
            );
        });
        counted
    }
}

#[cfg(test)]
mod tests;
