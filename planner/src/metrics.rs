//! What planners count. Labels are namespaces, states and reasons, never ids.

use anabranch_model::NamespaceName;
use anabranch_runtime::telemetry::Metrics;
use anabranch_split::SplitState;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByNamespace {
    namespace: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    namespace: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    namespace: String,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: &'static str,
}

/// What planners count. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct PlannerMetrics {
    detections: Family<ByOutcome, Counter>,
    recalls: Counter,
    records: Family<ByState, Gauge>,
    stalled_seconds: Gauge,
    surveys: Family<ByNamespace, Counter>,
    plans: Family<ByNamespace, Counter>,
    left: Family<ByReason, Counter>,
    invalidated: Family<ByReason, Counter>,
    failures: Family<ByReason, Counter>,
    bytes_read: Family<ByNamespace, Counter>,
    checkpoints: Family<ByNamespace, Counter>,
    claims_lost: Family<ByNamespace, Counter>,
    rounds_failed: Counter,
}

impl PlannerMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        let counts = Self::default();
        metrics.register(|registry| {
            let registry = registry.sub_registry_with_prefix("planner");
            let mut family = |name, help, counter: &Family<ByNamespace, Counter>| {
                registry.register(name, help, counter.clone());
            };
            family("surveys", "Surveys begun or taken over", &counts.surveys);
            family("plans", "Plans stored", &counts.plans);
            family("bytes_read", "Bytes of originals read", &counts.bytes_read);
            family(
                "checkpoints",
                "Checkpoints of surveys stored",
                &counts.checkpoints,
            );
            family(
                "claims_lost",
                "Records that another planner moved first",
                &counts.claims_lost,
            );
            let mut family = |name, help, counter: &Family<ByReason, Counter>| {
                registry.register(name, help, counter.clone());
            };
            family(
                "left",
                "Partitions not split, or not yet, by reason",
                &counts.left,
            );
            family(
                "invalidated",
                "Splits invalidated, by reason",
                &counts.invalidated,
            );
            family("failures", "Surveys that failed, by reason", &counts.failures);
            registry.register(
                "detections",
                "Detections taken in, by outcome",
                counts.detections.clone(),
            );
            registry.register(
                "recalls",
                "Times that detections in hand went to another planner",
                counts.recalls.clone(),
            );
            registry.register("records", "Split records by state", counts.records.clone());
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

    pub(crate) fn detection(&self, outcome: &'static str) {
        self.detections.get_or_create(&ByOutcome { outcome }).inc();
    }

    pub(crate) fn recalled(&self) {
        self.recalls.inc();
    }

    pub(crate) fn records(&self, namespace: &NamespaceName, state: &'static str, count: u64) {
        let namespace = namespace.to_string();
        let gauge = self.records.get_or_create(&ByState { namespace, state });
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A namespace is gone: nothing of it is counted as being there.
    pub(crate) fn forget(&self, namespace: &NamespaceName) {
        for state in SplitState::NAMES {
            let namespace = namespace.to_string();
            self.records.remove(&ByState { namespace, state });
        }
    }

    pub(crate) fn stalled(&self, seconds: i64) {
        self.stalled_seconds.set(seconds.max(0));
    }

    pub(crate) fn survey(&self, namespace: &NamespaceName) {
        self.surveys.get_or_create(&of(namespace)).inc();
    }

    pub(crate) fn plan(&self, namespace: &NamespaceName) {
        self.plans.get_or_create(&of(namespace)).inc();
    }

    pub(crate) fn left(&self, namespace: &NamespaceName, reason: &'static str) {
        self.left.get_or_create(&because(namespace, reason)).inc();
    }

    pub(crate) fn invalidated(&self, namespace: &NamespaceName, reason: &'static str) {
        self.invalidated.get_or_create(&because(namespace, reason)).inc();
    }

    pub(crate) fn failure(&self, namespace: &NamespaceName, reason: &'static str) {
        self.failures.get_or_create(&because(namespace, reason)).inc();
    }

    pub(crate) fn read(&self, namespace: &NamespaceName, bytes: u64) {
        self.bytes_read.get_or_create(&of(namespace)).inc_by(bytes);
    }

    pub(crate) fn checkpoint(&self, namespace: &NamespaceName) {
        self.checkpoints.get_or_create(&of(namespace)).inc();
    }

    pub(crate) fn claim_lost(&self, namespace: &NamespaceName) {
        self.claims_lost.get_or_create(&of(namespace)).inc();
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
