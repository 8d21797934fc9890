//! What the read path counts. Labels are of a fixed set, never ids or names.

use anabranch_runtime::telemetry::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::context::PartialReason;

type ReasonLabel = [(&'static str, &'static str); 1];

#[derive(Clone, Debug)]
pub(super) struct ReadMetrics {
    /// Bytes one request read from one partition, before any filter.
    pub(super) partition_bytes: Histogram,
    /// Rows that were answered.
    pub(super) rows: Counter,
    /// The widest fan-out a walk came to.
    pub(super) fan_out: Histogram,
    /// Bytes of targets that were read ahead of walks.
    pub(super) ahead_read_bytes: Counter,
    /// Bytes of pages that were answered from there.
    pub(super) ahead_served_bytes: Counter,
    partial_returns: Family<ReasonLabel, Counter>,
}

impl ReadMetrics {
    pub(super) fn register(metrics: &Metrics) -> Self {
        let counted = Self {
            partition_bytes: Histogram::new(exponential_buckets(1_024.0, 4.0, 12)),
            rows: Counter::default(),
            fan_out: Histogram::new(exponential_buckets(1.0, 2.0, 6)),
            ahead_read_bytes: Counter::default(),
            ahead_served_bytes: Counter::default(),
            partial_returns: Family::default(),
        };
        metrics.register(|registry| {
            registry.register(
                "partition_read_bytes",
                "Bytes one request read from one partition",
                counted.partition_bytes.clone(),
            );
            registry.register(
                "partial_returns",
                "Answers that were cut, by reason",
                counted.partial_returns.clone(),
            );
            registry.register("read_rows", "Events that reads answered", counted.rows.clone());
            registry.register(
                "read_ahead_read_bytes",
                "Bytes of targets that were read ahead of walks",
                counted.ahead_read_bytes.clone(),
            );
            registry.register(
                "read_ahead_served_bytes",
                "Bytes of pages that were answered from what was read ahead",
                counted.ahead_served_bytes.clone(),
            );
            registry.register(
                "read_fan_out",
                "Partitions a walk opened in parallel, at most",
                counted.fan_out.clone(),
            );
        });
        counted
    }

    pub(super) fn partial(&self, reason: PartialReason) {
        let reason = match reason {
            PartialReason::Deadline => "deadline",
            PartialReason::Groups => "groups",
        };
        self.partial_returns.get_or_create(&[("reason", reason)]).inc();
    }
}
