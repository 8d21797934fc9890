//! What writes count. Labels are namespaces and reasons, never ids.

use anabranch_model::NamespaceName;
use anabranch_runtime::telemetry::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// Every reason that is used as a label.
const REASONS: &[&str] = &[
    "id_blocked",
    "time_slice_closed",
    "time_slice_sealed",
    "event_too_old",
    "event_too_far_ahead",
    "queue_full",
    "namespace_not_found",
    "store",
    "invalid",
    "no_table",
    "overloaded",
    "unavailable",
    "unknown",
    "corrupt",
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByNamespace {
    namespace: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    namespace: String,
    reason: &'static str,
}

/// What writes count. Clones count together.
#[derive(Clone, Debug)]
pub struct WriteMetrics {
    events: Family<ByNamespace, Counter>,
    bytes: Family<ByNamespace, Counter>,
    refused: Family<ByReason, Counter>,
    dropped: Family<ByReason, Counter>,
    failed: Family<ByReason, Counter>,
    queue_bytes: Family<ByNamespace, Gauge>,
    append_seconds: Histogram,
}

impl WriteMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        let counts = Self {
            events: Family::default(),
            bytes: Family::default(),
            refused: Family::default(),
            dropped: Family::default(),
            failed: Family::default(),
            queue_bytes: Family::default(),
            append_seconds: Histogram::new(exponential_buckets(0.000_1, 2.0, 16)),
        };
        metrics.register(|registry| {
            let registry = registry.sub_registry_with_prefix("write");
            registry.register("events", "Events made durable", counts.events.clone());
            registry.register("bytes", "Bytes of events made durable", counts.bytes.clone());
            registry.register(
                "refused",
                "Events refused at the door, by reason",
                counts.refused.clone(),
            );
            registry.register(
                "dropped",
                "Events of queued writes that were not written, by reason",
                counts.dropped.clone(),
            );
            registry.register(
                "failed",
                "Events that the store failed to take, by reason",
                counts.failed.clone(),
            );
            registry.register(
                "queue_bytes",
                "Bytes of queued events that are not durable yet",
                counts.queue_bytes.clone(),
            );
            registry.register(
                "append_seconds",
                "Time that the store took to make events durable",
                counts.append_seconds.clone(),
            );
        });
        counts
    }

    pub(super) fn written(&self, namespace: &NamespaceName, events: usize, bytes: u64) {
        self.events.get_or_create(&of(namespace)).inc_by(events as u64);
        self.bytes.get_or_create(&of(namespace)).inc_by(bytes);
    }

    pub(super) fn appended(&self, took: std::time::Duration) {
        self.append_seconds.observe(took.as_secs_f64());
    }

    pub(super) fn refused(&self, namespace: &NamespaceName, reason: &'static str, events: usize) {
        self.refused
            .get_or_create(&by(namespace, reason))
            .inc_by(events as u64);
    }

    pub(super) fn dropped(&self, namespace: &NamespaceName, reason: &'static str, events: usize) {
        self.dropped
            .get_or_create(&by(namespace, reason))
            .inc_by(events as u64);
    }

    pub(super) fn failed(&self, namespace: &NamespaceName, reason: &'static str, events: usize) {
        self.failed
            .get_or_create(&by(namespace, reason))
            .inc_by(events as u64);
    }

    pub(super) fn queue_bytes(&self, namespace: &NamespaceName, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.queue_bytes.get_or_create(&of(namespace)).set(bytes);
    }

    /// Events of queued writes that were not written, for a reason: for tests and status.
    pub fn dropped_so_far(&self, namespace: &NamespaceName, reason: &'static str) -> u64 {
        self.dropped.get_or_create(&by(namespace, reason)).get()
    }

    /// Forgets a namespace that is gone.
    pub fn forget(&self, namespace: &NamespaceName) {
        self.events.remove(&of(namespace));
        self.bytes.remove(&of(namespace));
        self.queue_bytes.remove(&of(namespace));
        for family in [&self.refused, &self.dropped, &self.failed] {
            for reason in REASONS {
                family.remove(&by(namespace, reason));
            }
        }
    }
}

fn of(namespace: &NamespaceName) -> ByNamespace {
    ByNamespace {
        namespace: namespace.to_string(),
    }
}

fn by(namespace: &NamespaceName, reason: &'static str) -> ByReason {
    ByReason {
        namespace: namespace.to_string(),
        reason,
    }
}
