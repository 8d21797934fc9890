//! What splitters count. Labels are namespaces and reasons, never ids.

use anabranch_model::NamespaceName;
use anabranch_runtime::telemetry::Metrics;
use anabranch_split::{SplitReason, UnreadableRecord};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByNamespace {
    namespace: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    namespace: String,
    reason: &'static str,
}

/// What splitters count. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct SplitterMetrics {
    claims: Family<ByNamespace, Counter>,
    completed: Family<ByNamespace, Counter>,
    targets_copied: Family<ByNamespace, Counter>,
    bytes_read: Family<ByNamespace, Counter>,
    bytes_written: Family<ByNamespace, Counter>,
    bytes_validated: Family<ByNamespace, Counter>,
    checkpoints: Family<ByNamespace, Counter>,
    claims_lost: Family<ByNamespace, Counter>,
    validations_failed: Family<ByNamespace, Counter>,
    targets_removed: Family<ByNamespace, Counter>,
    invalidated: Family<ByReason, Counter>,
    failures: Family<ByReason, Counter>,
    unreadable: Family<ByReason, Gauge>,
    waiting: Gauge,
    stalled_seconds: Gauge,
    rounds_failed: Counter,
}

impl SplitterMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        let counts = Self::default();
        metrics.register(|registry| {
            let registry = registry.sub_registry_with_prefix("splitter");
            let families = [
                ("claims", "Splits begun or taken over", &counts.claims),
                ("completed", "Splits whose targets were proved", &counts.completed),
                ("targets_copied", "Targets written whole", &counts.targets_copied),
                ("bytes_read", "Bytes of originals read", &counts.bytes_read),
                (
                    "bytes_written",
                    "Bytes of rows written to targets",
                    &counts.bytes_written,
                ),
                (
                    "bytes_validated",
                    "Bytes of targets read back",
                    &counts.bytes_validated,
                ),
                ("checkpoints", "Checkpoints of copies stored", &counts.checkpoints),
                (
                    "claims_lost",
                    "Records that another worker moved first",
                    &counts.claims_lost,
                ),
                (
                    "validations_failed",
                    "Splits whose targets did not hold what was surveyed",
                    &counts.validations_failed,
                ),
                ("targets_removed", "Targets removed", &counts.targets_removed),
            ];
            for (name, help, counter) in families {
                registry.register(name, help, counter.clone());
            }
            for (name, help, counter) in [
                (
                    "invalidated",
                    "Splits invalidated, by reason",
                    &counts.invalidated,
                ),
                ("failures", "Splits that failed, by reason", &counts.failures),
            ] {
                registry.register(name, help, counter.clone());
            }
            registry.register(
                "records_unreadable",
                "Split records that this version can not read and leaves alone, by reason",
                counts.unreadable.clone(),
            );
            registry.register(
                "waiting",
                "Plans that wait for their table of targets",
                counts.waiting.clone(),
            );
            registry.register(
                "stalled_seconds",
                "Time since the record under way that has stood still the longest moved",
                counts.stalled_seconds.clone(),
            );
            registry.register(
                "rounds_failed",
                "Rounds that an error ended",
                counts.rounds_failed.clone(),
            );
        });
        counts
    }

    pub(crate) fn claim(&self, namespace: &NamespaceName) {
        self.claims.get_or_create(&of(namespace)).inc();
    }

    pub(crate) fn completed(&self, namespace: &NamespaceName) {
        self.completed.get_or_create(&of(namespace)).inc();
    }

    pub(crate) fn target_copied(&self, namespace: &NamespaceName) {
        self.targets_copied.get_or_create(&of(namespace)).inc();
    }

    pub(crate) fn read(&self, namespace: &NamespaceName, bytes: u64) {
        self.bytes_read.get_or_create(&of(namespace)).inc_by(bytes);
    }

    pub(crate) fn written(&self, namespace: &NamespaceName, bytes: u64) {
        self.bytes_written.get_or_create(&of(namespace)).inc_by(bytes);
    }

    pub(crate) fn validated(&self, namespace: &NamespaceName, bytes: u64) {
        self.bytes_validated.get_or_create(&of(namespace)).inc_by(bytes);
    }

    pub(crate) fn checkpoint(&self, namespace: &NamespaceName) {
        self.checkpoints.get_or_create(&of(namespace)).inc();
    }

    pub(crate) fn claim_lost(&self, namespace: &NamespaceName) {
        self.claims_lost.get_or_create(&of(namespace)).inc();
    }

    pub(crate) fn validation_failed(&self, namespace: &NamespaceName) {
        self.validations_failed.get_or_create(&of(namespace)).inc();
        self.failed(namespace, SplitReason::ChecksumMismatch);
    }

    pub(crate) fn removed(&self, namespace: &NamespaceName, targets: u64) {
        self.targets_removed.get_or_create(&of(namespace)).inc_by(targets);
    }

    pub(crate) fn invalidated(&self, namespace: &NamespaceName, reason: SplitReason) {
        let because = because(namespace, reason.as_str());
        self.invalidated.get_or_create(&because).inc();
    }

    pub(crate) fn failed(&self, namespace: &NamespaceName, reason: SplitReason) {
        let because = because(namespace, reason.as_str());
        self.failures.get_or_create(&because).inc();
    }

    pub(crate) fn unreadable(&self, namespace: &NamespaceName, reason: &'static str, count: u64) {
        let gauge = self.unreadable.get_or_create(&because(namespace, reason));
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A namespace is gone: nothing of it is counted as being there.
    pub(crate) fn forget(&self, namespace: &NamespaceName) {
        for reason in UnreadableRecord::REASONS {
            self.unreadable.remove(&because(namespace, reason));
        }
    }

    pub(crate) fn waiting(&self, plans: usize) {
        self.waiting.set(i64::try_from(plans).unwrap_or(i64::MAX));
    }

    pub(crate) fn stalled(&self, seconds: i64) {
        self.stalled_seconds.set(seconds.max(0));
    }

    pub(crate) fn round_failed(&self) {
        self.rounds_failed.inc();
    }
}

fn of(namespace: &NamespaceName) -> ByNamespace {
    ByNamespace {
        namespace: namespace.to_string(),
    }
}

fn because(namespace: &NamespaceName, reason: &'static str) -> ByReason {
    ByReason {
        namespace: namespace.to_string(),
        reason,
    }
}
