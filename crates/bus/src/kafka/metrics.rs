//! What is counted of Kafka. Labels are error codes of the client and kinds, never keys.

use anabranch_runtime::telemetry::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use rdkafka::error::RDKafkaErrorCode;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKind {
    kind: &'static str,
}

/// What is counted. Clones count together.
#[derive(Clone, Debug, Default)]
pub(super) struct KafkaMetrics {
    produced: Counter,
    failed: Family<ByReason, Counter>,
    dropped: Counter,
    consumed: Counter,
    dead_letters: Counter,
    dead_letters_lost: Counter,
    rebalances: Family<ByKind, Counter>,
    commit_failures: Family<ByReason, Counter>,
    lag: Gauge,
    assigned: Gauge,
    open: Gauge,
}

impl KafkaMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let counts = Self::default();
        metrics.register(|registry| {
            let registry = registry.sub_registry_with_prefix("kafka");
            let mut counter = |name, help, counter: &Counter| registry.register(name, help, counter.clone());
            counter(
                "detections_produced",
                "Detections that the brokers confirmed",
                &counts.produced,
            );
            counter(
                "detections_dropped",
                "Detections for which the client's queue had no room",
                &counts.dropped,
            );
            counter(
                "messages_consumed",
                "Messages read from the topic",
                &counts.consumed,
            );
            counter(
                "dead_letters",
                "Messages that were no detections, and went to the dead-letter topic",
                &counts.dead_letters,
            );
            counter(
                "dead_letters_lost",
                "Such messages that the dead-letter topic did not take; the log has their offsets",
                &counts.dead_letters_lost,
            );
            registry.register(
                "produce_failures",
                "Detections that were not confirmed, by reason",
                counts.failed.clone(),
            );
            registry.register(
                "rebalances",
                "Times that partitions of the topic came or went, by kind",
                counts.rebalances.clone(),
            );
            registry.register(
                "commit_failures",
                "Times that positions could not be committed, by reason",
                counts.commit_failures.clone(),
            );
            registry.register(
                "consumer_lag",
                "Messages of the partitions assigned here that are not committed",
                counts.lag.clone(),
            );
            registry.register(
                "partitions_assigned",
                "Partitions of the topic that are read here",
                counts.assigned.clone(),
            );
            registry.register(
                "messages_open",
                "Messages that are read here and not dealt with",
                counts.open.clone(),
            );
        });
        counts
    }

    pub(super) fn produced(&self) {
        self.produced.inc();
    }

    pub(super) fn failed(&self, code: RDKafkaErrorCode) {
        self.failed.get_or_create(&by(code)).inc();
    }

    pub(super) fn dropped(&self) {
        self.dropped.inc();
    }

    pub(super) fn consumed(&self) {
        self.consumed.inc();
    }

    pub(super) fn dead_letter(&self) {
        self.dead_letters.inc();
    }

    pub(super) fn dead_letter_lost(&self) {
        self.dead_letters_lost.inc();
    }

    /// `assigned`, `revoked`, or `lost`: taken away because this member was thought dead.
    pub(super) fn rebalance(&self, kind: &'static str) {
        self.rebalances.get_or_create(&ByKind { kind }).inc();
    }

    pub(super) fn commit_failed(&self, code: RDKafkaErrorCode) {
        self.commit_failures.get_or_create(&by(code)).inc();
    }

    pub(super) fn lag(&self, messages: i64) {
        self.lag.set(messages);
    }

    pub(super) fn assigned(&self, partitions: usize) {
        self.assigned.set(i64::try_from(partitions).unwrap_or(i64::MAX));
    }

    pub(super) fn open(&self, messages: usize) {
        self.open.set(i64::try_from(messages).unwrap_or(i64::MAX));
    }
}

/// Codes are as many as the client knows.
fn by(code: RDKafkaErrorCode) -> ByReason {
    ByReason {
        reason: format!("{code:?}"),
    }
}
