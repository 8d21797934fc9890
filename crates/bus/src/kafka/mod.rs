//! The bus of a fleet: detections go through a topic of Kafka, from every server to a group of planners.
//!
//! ```text
//! publish ─▶ producer ─▶ topic, keyed by partition ─▶ reader (a thread) ─▶ window ─▶ receive … ack ─▶ position stored
//!                                                        └▶ dead-letter topic, with the reason
//! ```
//!
//! - Publishing returns when all replicas in sync have the detection; it waits in a task, never in a read.
//! - A process joins the group when it first asks for detections: one that only publishes never does.
//! - A position is stored only after every detection before it was acked, and committed a moment later: what a planner that
//!   died held comes again, and finds its record.
//! - In a rebalance the planner is told first, and lets go of what it has in hand; then the other begins.
//! - Kafka is never the truth: topic, group and every message may be lost, and the next wide read tells again. So a process
//!   also starts while no broker answers, and looks at the topics as soon as one does.
//!
//! What rdkafka is to be told is in `client`, what it is asked at the start in `topics`.

mod client;
mod complaints;
mod dead;
mod error;
mod metrics;
mod outlet;
mod producer;
mod reader;
mod settings;
mod shared;
pub mod testing;
#[cfg(test)]
mod tests;
mod topics;
mod window;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anabranch_runtime::telemetry::Metrics;
use anabranch_runtime::{Clock, Tasks, error_chain};
use async_trait::async_trait;
use tracing::{error, info, warn};

use self::dead::DeadLetters;
use self::metrics::KafkaMetrics;
use self::producer::{Outgoing, Producer};
use self::reader::Reader;
use self::shared::Shared;
use self::topics::{Shape, Wanted};
use crate::{BusError, Delivery, Detection, DetectionBus};

pub use self::dead::{OFFSET_HEADER, PARTITION_HEADER, REASON_HEADER, TOPIC_HEADER};
pub use self::error::{Field, KafkaError};
pub use self::outlet::Outlet;
pub use self::settings::{Connection, KafkaSettings, Properties};

/// How long `receive` waits when there is nothing.
const RECEIVE_WAIT: Duration = Duration::from_millis(100);
/// Between two looks at topics while no broker answers, each of which waits for one, too.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Between two looks at topics that are not there and may not be made: somebody has to mend it first.
const LOOK_AGAIN_AT_WRONG: Duration = Duration::from_secs(30);
/// How long the end waits for messages that are on their way.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// Detections in a topic of Kafka.
pub struct KafkaBus {
    settings: KafkaSettings,
    producer: Arc<Producer>,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
}

impl KafkaBus {
    /// Connects, and demands that the topics are there; while no broker answers, that is done later. The bus ends with
    /// `tasks`.
    ///
    /// # Errors
    /// When a topic is not there and may not be created, or a setting is wrong.
    pub async fn open(
        settings: &KafkaSettings,
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
        metrics: &Metrics,
    ) -> Result<Self, KafkaError> {
        settings.check()?;
        let answered = match look_at_topics(settings).await {
            Ok(()) => true,
            // Events are written and read without it.
            Err(error @ KafkaError::Unreachable { .. }) => {
                warn!(
                    error = error_chain(&error),
                    "detections of wide partitions wait for Kafka"
                );
                false
            }
            Err(error) => return Err(error),
        };
        let mut config = client::producer(&settings.connection);
        let timeout = settings.publish_within.as_millis().max(1);
        config
            .set("message.timeout.ms", timeout.to_string())
            // A detection that is in the topic twice is one; without idempotence no error is for good.
            .set("enable.idempotence", "false")
            // A server publishes one after the other, and waits for each.
            .set("linger.ms", "0")
            .set(
                "queue.buffering.max.messages",
                settings.queued_messages_max.max(1).to_string(),
            );
        let producer = Arc::new(Producer::start(&config).map_err(topics::properties_at_fault)?);
        let shared = Arc::new(Shared::new(KafkaMetrics::new(metrics)));
        let (stop, ending, flushed) = (tasks.stopping(), shared.clone(), producer.clone());
        tasks.spawn("kafka bus", async move {
            stop.cancelled().await;
            ending.stop();
            ending.ended().await;
            // Nobody is left to be told.
            let _ = blocking("ending a producer", move || flushed.flush(FLUSH_WITHIN)).await;
        });
        if !answered {
            let (stop, settings, clock) = (tasks.stopping(), settings.clone(), clock.clone());
            tasks.spawn("look at topics", async move {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {}
                    () = look_until_answered(&settings, &*clock) => {}
                }
            });
        }
        Ok(Self {
            settings: settings.clone(),
            producer,
            shared,
            clock,
        })
    }

    /// Joins the group, the first time.
    fn join(&self) -> Result<(), KafkaError> {
        {
            let mut state = self.shared.state();
            if state.started || state.stopping {
                return Ok(());
            }
            state.started = true;
        }
        let dead = DeadLetters {
            producer: self.producer.clone(),
            shared: self.shared.clone(),
            topic: self.settings.topic.clone(),
            to: self.settings.dead_letter_topic.clone(),
            attempts_max: self.settings.dead_letter_attempts_max.max(1),
        };
        let reader = Reader {
            settings: self.settings.clone(),
            shared: self.shared.clone(),
            dead,
            clock: self.clock.clone(),
        };
        reader
            .start()
            .inspect_err(|_| self.shared.state().started = false)
    }
}

/// Demands that the topics are there, and creates what may be created.
async fn look_at_topics(settings: &KafkaSettings) -> Result<(), KafkaError> {
    let (connection, wanted) = (settings.connection.clone(), wanted(settings));
    blocking("looking at topics", move || topics::ensure(&connection, &wanted)).await?
}

async fn look_until_answered(settings: &KafkaSettings, clock: &dyn Clock) {
    let mut again = LOOK_AGAIN;
    loop {
        clock.sleep(again).await;
        again = match look_at_topics(settings).await {
            Ok(()) => return info!("Kafka answers, and the topics are there"),
            Err(error @ KafkaError::Unreachable { .. }) => {
                warn!(error = error_chain(&error), "detections still wait for Kafka");
                LOOK_AGAIN
            }
            // At the start this would have ended the process; by now others depend on it, and it may be mended beside it.
            Err(error) => {
                error!(
                    error = error_chain(&error),
                    "detections can not go through Kafka until this is mended"
                );
                LOOK_AGAIN_AT_WRONG
            }
        };
    }
}

fn wanted(settings: &KafkaSettings) -> [Wanted; 2] {
    let shape = |partitions| {
        settings.create_topics.then_some(Shape {
            partitions,
            replication: settings.replication,
        })
    };
    [
        Wanted {
            field: Field::Topic,
            name: settings.topic.clone(),
            create: shape(settings.partitions),
        },
        Wanted {
            field: Field::DeadLetterTopic,
            name: settings.dead_letter_topic.clone(),
            create: shape(1),
        },
    ]
}

/// Key of a detection's message: everything about one partition is in one partition of the topic.
fn key(detection: &Detection) -> String {
    format!("{}/{}", detection.namespace, detection.partition)
}

/// Runs what blocks where that does no harm.
async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, KafkaError> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|_| KafkaError::Thread { doing, source: None })
}

#[async_trait]
impl DetectionBus for KafkaBus {
    async fn publish(&self, detection: &Detection) -> Result<(), BusError> {
        let (key, value) = (key(detection), detection.encode());
        let message = Outgoing {
            topic: &self.settings.topic,
            key: key.as_bytes(),
            value: Some(&value),
            headers: &[],
        };
        let metrics = &self.shared.metrics;
        let sent = match self.producer.begin(message) {
            Ok(sending) => sending.confirmed().await,
            Err(error) => Err(error),
        };
        match &sent {
            Ok(()) => metrics.produced(),
            Err(KafkaError::Full { .. }) => metrics.dropped(),
            Err(KafkaError::Unconfirmed { code, .. }) => metrics.failed(*code),
            Err(_) => metrics.failed(rdkafka::error::RDKafkaErrorCode::Fail),
        }
        Ok(sent?)
    }

    async fn receive(&self, detections_max: usize) -> Result<Vec<Delivery>, BusError> {
        self.join()?;
        let deliveries = self.shared.deliver(detections_max)?;
        if !deliveries.is_empty() || detections_max == 0 {
            return Ok(deliveries);
        }
        tokio::select! {
            () = self.shared.came() => {}
            () = self.clock.sleep(RECEIVE_WAIT) => {}
        }
        Ok(self.shared.deliver(detections_max)?)
    }

    async fn ack(&self, delivery: &Delivery) -> Result<(), BusError> {
        self.shared.state().window.ack(delivery);
        Ok(())
    }

    async fn arrived(&self) {
        // Nothing arrives outside the group. Why it can not be joined is told by `receive`.
        let _ = self.join();
        self.shared.arrived().await;
    }

    async fn recalled(&self) {
        self.shared.recalled().await;
    }
}

impl fmt::Debug for KafkaBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaBus")
            .field("topic", &self.settings.topic)
            .field("group", &self.settings.group)
            .finish_non_exhaustive()
    }
}

/// Its thread must not outlive it.
impl Drop for KafkaBus {
    fn drop(&mut self) {
        self.shared.stop();
    }
}
