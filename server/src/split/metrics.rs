//! What serving splits counts. Labels are of fixed sets, never ids or names.

use std::time::Duration;

use anabranch_runtime::telemetry::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::filter::FilterStatistics;

/// Why a partition was read from its original.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OriginalReason {
    /// The namespace does not serve splits.
    Rollout,
    /// The settings are too old to know what is valid.
    StaleSettings,
    /// The filter is not loaded.
    FilterOff,
    /// It is not split.
    FilterMiss,
    /// The filter said that it may be split, and it is not.
    FalseHit,
    /// The store did not give the record.
    RecordError,
    /// A newer version wrote the record.
    RecordNewer,
    /// The record is damaged.
    RecordDamaged,
    /// The split rests on another epoch than the slice is in.
    Epoch,
    /// A target could not be read.
    TargetError,
    /// A target held something else than was proved.
    TargetShort,
}

impl OriginalReason {
    fn as_str(self) -> &'static str {
        match self {
            Self::Rollout => "rollout",
            Self::StaleSettings => "stale_settings",
            Self::FilterOff => "filter_off",
            Self::FilterMiss => "filter_miss",
            Self::FalseHit => "false_hit",
            Self::RecordError => "record_error",
            Self::RecordNewer => "record_newer",
            Self::RecordDamaged => "record_damaged",
            Self::Epoch => "epoch",
            Self::TargetError => "target_error",
            Self::TargetShort => "target_short",
        }
    }
}

type ReasonLabel = [(&'static str, &'static str); 1];

#[derive(Clone, Debug, Default)]
pub(crate) struct SplitMetrics {
    from_targets: Counter,
    from_original: Family<ReasonLabel, Counter>,
    filter_partitions: Gauge,
    filter_bytes: Gauge,
    pub(super) filter_failures: Counter,
    pub(super) shards_listed: Counter,
    pub(super) invalidated: Counter,
    pub(super) repair_failures: Counter,
    pub(super) compared: Counter,
    pub(super) compare_skipped: Counter,
    pub(super) compare_mismatches: Counter,
    compare_original_seconds: Counter<f64, std::sync::atomic::AtomicU64>,
    compare_targets_seconds: Counter<f64, std::sync::atomic::AtomicU64>,
}

impl SplitMetrics {
    pub(super) fn register(metrics: &Metrics) -> Self {
        let counted = Self::default();
        metrics.register(|registry| {
            registry.register(
                "partitions_read_from_targets",
                "Partitions that were read from what they were split into",
                counted.from_targets.clone(),
            );
            registry.register(
                "partitions_read_from_original",
                "Partitions that were read as they were written, by reason",
                counted.from_original.clone(),
            );
            registry.register(
                "split_filter_partitions",
                "Split partitions in the filters",
                counted.filter_partitions.clone(),
            );
            registry.register(
                "split_filter_bytes",
                "Bytes of the filters",
                counted.filter_bytes.clone(),
            );
            registry.register(
                "split_filter_failures",
                "Times that a filter could not be brought up to date",
                counted.filter_failures.clone(),
            );
            registry.register(
                "split_filter_shards_listed",
                "Shards of split records that were read because they changed",
                counted.shards_listed.clone(),
            );
            registry.register(
                "splits_invalidated_by_reads",
                "Splits that a read found damaged or different",
                counted.invalidated.clone(),
            );
            registry.register(
                "split_repair_failures",
                "Damaged splits whose record could not be changed",
                counted.repair_failures.clone(),
            );
            registry.register(
                "compare_reads",
                "Reads that were made both ways",
                counted.compared.clone(),
            );
            registry.register(
                "compare_skipped",
                "Reads that were to be made both ways and were not, or not to the end",
                counted.compare_skipped.clone(),
            );
            registry.register(
                "compare_mismatches",
                "Reads that differed between original and targets",
                counted.compare_mismatches.clone(),
            );
            registry.register(
                "compare_original_seconds",
                "Time that reads made both ways took from the originals",
                counted.compare_original_seconds.clone(),
            );
            registry.register(
                "compare_targets_seconds",
                "Time that reads made both ways took through the targets",
                counted.compare_targets_seconds.clone(),
            );
        });
        counted
    }

    pub(crate) fn read_targets(&self) {
        self.from_targets.inc();
    }

    pub(crate) fn read_original(&self, reason: OriginalReason) {
        let reason = [("reason", reason.as_str())];
        self.from_original.get_or_create(&reason).inc();
    }

    pub(super) fn filter(&self, statistics: FilterStatistics) {
        let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.filter_partitions.set(gauge(statistics.partitions as u64));
        self.filter_bytes.set(gauge(statistics.bytes));
    }

    pub(super) fn compare_took(&self, original: Duration, targets: Duration) {
        self.compare_original_seconds.inc_by(original.as_secs_f64());
        self.compare_targets_seconds.inc_by(targets.as_secs_f64());
    }

    #[cfg(test)]
    pub(crate) fn originals(&self, reason: OriginalReason) -> u64 {
        let reason = [("reason", reason.as_str())];
        self.from_original.get_or_create(&reason).get()
    }

    #[cfg(test)]
    pub(crate) fn targets(&self) -> u64 {
        self.from_targets.get()
    }
}
