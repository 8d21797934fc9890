//! The thread that reads the topic as a member of the group of planners.
//!
//! ```text
//! stored positions ◀─ store ◀┐
//! poll ─▶ message ─▶ decode ─┼─▶ window ─▶ ring
//!   │                        └─▶ dead letters
//!   └─▶ rebalance ─▶ recall ─▶ store what was acked ─▶ revoke ─▶ the other begins
//! ```
//!
//! - The thread never waits for the planner except in a rebalance, and there for a bounded time: it stays in the group
//!   however long a detection takes.
//! - With too many messages that are not dealt with it reads no more, and stays in the group as well.
//! - A position is stored only after every message before it was acked or became a dead letter.

use std::sync::Arc;
use std::time::Duration;

use anabranch_runtime::{Clock, error_chain};
use rdkafka::client::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError as ClientError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::statistics::Statistics;
use rdkafka::{Offset, TopicPartitionList};
use tracing::{debug, info, warn};

use super::client;
use super::complaints::Complaints;
use super::dead::{DeadLetter, DeadLetters};
use super::error::KafkaError;
use super::settings::KafkaSettings;
use super::shared::Shared;
use crate::{BusError, Detection, kafka};

/// How long a poll waits; what else is to be done is done that often.
const POLL: Duration = Duration::from_millis(50);
/// The receiver is told that often of trouble that goes on.
const TROUBLE_AGAIN: Duration = Duration::from_secs(10);
/// Wait before a consumer is made again that can not go on.
const AGAIN: Duration = Duration::from_secs(1);

/// Reads the topic.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) settings: KafkaSettings,
    pub(super) shared: Arc<Shared>,
    pub(super) dead: DeadLetters,
    pub(super) clock: Arc<dyn Clock>,
}

impl Reader {
    /// Starts the thread.
    pub(super) fn start(self) -> Result<(), KafkaError> {
        let thread = std::thread::Builder::new().name("kafka-consumer".to_owned());
        let run = move || {
            self.run();
            self.shared.thread_ended();
        };
        thread.spawn(run).map(drop).map_err(|error| KafkaError::Thread {
            doing: "the kafka consumer",
            source: Some(error),
        })
    }

    fn run(&self) {
        while !self.stopping() {
            if let Err(error) = self.read() {
                warn!(error = error_chain(&error), "kafka consumer starts again");
                self.trouble(error);
                std::thread::sleep(AGAIN);
            }
        }
    }

    /// Reads until it is told to stop, or the consumer can not go on.
    fn read(&self) -> Result<(), KafkaError> {
        let group = Group {
            shared: self.shared.clone(),
            topic: self.settings.topic.clone(),
            let_go_within: self.settings.let_go_within,
            complaints: Complaints::default(),
        };
        let consumer = BaseConsumer::from_config_and_context(&client::consumer(&self.settings), group)?;
        consumer.subscribe(&[&self.settings.topic])?;
        let mut paused = false;
        let mut troubled: Option<Duration> = None;
        let ended = loop {
            if self.stopping() {
                break Ok(());
            }
            consumer.context().store_positions(&consumer);
            self.dead.send_due(self.clock.elapsed());
            self.pause_or_resume(&consumer, &mut paused);
            match consumer.poll(POLL) {
                None => {}
                Some(Ok(message)) => {
                    consumer.context().complaints.settled();
                    troubled = None;
                    self.take_in(&message);
                }
                Some(Err(error @ ClientError::MessageConsumptionFatal(_))) => break Err(self.unread(error)),
                Some(Err(error)) => {
                    // With every attempt to connect it says again that nobody answers.
                    let now = self.clock.elapsed();
                    if troubled.is_none_or(|at| now.saturating_sub(at) >= TROUBLE_AGAIN) {
                        troubled = Some(now);
                        self.trouble(self.unread(error));
                    }
                }
            }
        };
        consumer.context().store_positions(&consumer);
        // Leaves the group, which commits what is stored and takes every partition back.
        drop(consumer);
        ended
    }

    fn take_in(&self, message: &BorrowedMessage<'_>) {
        self.shared.metrics.consumed();
        let decoded = decode(message);
        let mut state = self.shared.state();
        let Some(place) = state.window.read(message.partition(), message.offset()) else {
            return;
        };
        match decoded {
            Ok(detection) => state.window.hold(place, detection),
            Err(reason) => {
                warn!(
                    topic = message.topic(),
                    partition = message.partition(),
                    offset = message.offset(),
                    reason,
                    "message becomes a dead letter"
                );
                state.dead.push_back(DeadLetter {
                    place,
                    key: message.key().unwrap_or_default().to_vec(),
                    value: message.payload().map(<[u8]>::to_vec),
                    reason,
                    attempts: 0,
                    due: Duration::ZERO,
                });
            }
        }
        self.shared.metrics.open(state.window.open());
        drop(state);
        self.shared.ring();
    }

    /// Stops reading when too much is open, and goes on when half of it is dealt with.
    fn pause_or_resume(&self, consumer: &BaseConsumer<Group>, paused: &mut bool) {
        let open = self.shared.state().window.open();
        self.shared.metrics.open(open);
        let full = open >= self.settings.open_messages_max;
        if full == *paused || (*paused && open > self.settings.open_messages_max / 2) {
            return;
        }
        let changed = consumer.assignment().and_then(|assignment| {
            if full {
                consumer.pause(&assignment)
            } else {
                consumer.resume(&assignment)
            }
        });
        match changed {
            Ok(()) => {
                *paused = full;
                info!(open, paused = full, "kafka consumer");
            }
            Err(error) => warn!(
                error = error_chain(&error),
                "kafka consumer can not be paused or resumed"
            ),
        }
    }

    fn unread(&self, source: ClientError) -> KafkaError {
        KafkaError::Unread {
            topic: self.settings.topic.clone(),
            source,
        }
    }

    fn trouble(&self, error: KafkaError) {
        self.shared.state().trouble = Some(error);
        self.shared.ring();
    }

    fn stopping(&self) -> bool {
        self.shared.state().stopping
    }
}

/// The detection of a message, or why it is none.
fn decode(message: &BorrowedMessage<'_>) -> Result<Detection, String> {
    let unreadable = |error: BusError| match error {
        BusError::Unreadable { problem } => problem,
        other => error_chain(&other),
    };
    let detection = Detection::decode(message.payload().unwrap_or_default()).map_err(unreadable)?;
    if message.key() != Some(kafka::key(&detection).as_bytes()) {
        return Err(format!("its key is not that of {}", detection.partition));
    }
    Ok(detection)
}

/// Follows rebalances, commits and figures of the group.
struct Group {
    shared: Arc<Shared>,
    topic: String,
    let_go_within: Duration,
    complaints: Complaints,
}

impl Group {
    /// Gives the client the positions that have moved; it commits them on a timer, and when a partition goes.
    fn store_positions(&self, consumer: &BaseConsumer<Self>) {
        let moved = self.shared.state().window.positions();
        for (topic_partition, position) in moved {
            let mut list = TopicPartitionList::new();
            let stored = list
                .add_partition_offset(&self.topic, topic_partition, Offset::Offset(position))
                .and_then(|()| consumer.store_offsets(&list));
            if let Err(error) = stored {
                // It went away this moment; whoever has it reads it again.
                debug!(
                    topic_partition,
                    position,
                    error = error_chain(&error),
                    "position is not stored"
                );
            }
        }
    }
}

impl ClientContext for Group {
    fn error(&self, error: ClientError, reason: &str) {
        self.complaints.hear("kafka consumer", &error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        if statistics.brokers.values().any(|broker| broker.state == "UP") {
            self.complaints.settled();
        }
        let topic = statistics.topics.get(&self.topic);
        let partitions = topic.into_iter().flat_map(|topic| &topic.partitions);
        let lag = partitions
            .filter(|(partition, _)| **partition >= 0)
            .map(|(_, partition)| partition.consumer_lag.max(0))
            .sum();
        self.shared.metrics.lag(lag);
    }
}

impl ConsumerContext for Group {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(partitions) = rebalance else {
            return;
        };
        let lost = consumer.assignment_lost();
        self.shared
            .metrics
            .rebalance(if lost { "lost" } else { "revoked" });
        let revoked = numbers(partitions);
        info!(?revoked, lost, "partitions of the topic go to others");
        self.shared.recall(&revoked, self.let_go_within);
        // Nothing more is acked from here on. What was lost is not ours to store.
        if !lost {
            self.store_positions(consumer);
        }
        self.shared.revoke(&revoked);
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Assign(partitions) = rebalance else {
            return;
        };
        self.shared.metrics.rebalance("assigned");
        self.complaints.settled();
        let assigned = numbers(partitions);
        info!(?assigned, "partitions of the topic are read here");
        let mut state = self.shared.state();
        for topic_partition in assigned {
            state.window.assign(topic_partition);
        }
        self.shared.metrics.assigned(state.window.assigned());
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        let Err(error) = result else {
            return;
        };
        match error.rdkafka_error_code() {
            // Nothing was to be committed.
            Some(RDKafkaErrorCode::NoOffset) => {}
            code => {
                self.shared
                    .metrics
                    .commit_failed(code.unwrap_or(RDKafkaErrorCode::Fail));
                warn!(error = error_chain(&error), "positions are not committed");
            }
        }
    }
}

fn numbers(partitions: &TopicPartitionList) -> Vec<i32> {
    partitions
        .elements()
        .iter()
        .map(|element| element.partition())
        .collect()
}
