//! What is measured of the cluster from here.

use std::sync::Arc;
use std::time::Duration;

use anabranch_runtime::telemetry::Metrics;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;
use scylla::client::session::Session;
use scylla::observability::metrics::Metrics as DriverMetrics;

use super::policy::Purpose;

/// How a statement ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok,
    Failed,
    TimedOut,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    purpose: &'static str,
    outcome: &'static str,
}

const BUCKETS: [f64; 13] = [
    0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

/// Statements, rows and bytes.
#[derive(Clone, Debug)]
pub(super) struct StoreMetrics {
    statements: Family<Labels, Histogram>,
    rows: Counter,
    bytes: Counter,
    unsettled: Counter,
}

impl StoreMetrics {
    /// Nothing measured yet.
    pub(super) fn new(metrics: &Metrics) -> Self {
        let statements =
            Family::<Labels, Histogram>::new_with_constructor(|| Histogram::new(BUCKETS.iter().copied()));
        let [rows, bytes, unsettled] = std::array::from_fn(|_| Counter::default());
        metrics.register(|registry| {
            registry.register_with_unit(
                "store_statement_duration",
                "Time of statements, with all their attempts",
                Unit::Seconds,
                statements.clone(),
            );
            registry.register("store_rows_read", "Rows that answers held", rows.clone());
            registry.register_with_unit(
                "store_read",
                "Bytes of rows that answers held",
                Unit::Bytes,
                bytes.clone(),
            );
            registry.register(
                "store_records_unsettled",
                "Changes of records of which it was not heard in time whether they were made",
                unsettled.clone(),
            );
        });
        Self {
            statements,
            rows,
            bytes,
            unsettled,
        }
    }

    pub(super) fn ran(&self, purpose: Purpose, outcome: Outcome, took: Duration) {
        let labels = Labels {
            purpose: purpose.label(),
            outcome: match outcome {
                Outcome::Ok => "ok",
                Outcome::Failed => "failed",
                Outcome::TimedOut => "timed_out",
            },
        };
        self.statements.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub(super) fn rows_read(&self, rows: usize, bytes: usize) {
        self.rows.inc_by(rows as u64);
        self.bytes.inc_by(bytes as u64);
    }

    pub(super) fn unsettled(&self) {
        self.unsettled.inc();
    }
}

/// Lets every scrape ask the driver.
pub(super) fn register_driver(metrics: &Metrics, session: &Session) {
    let collector = DriverCollector(session.get_metrics());
    metrics.register(|registry| registry.register_collector(Box::new(collector)));
}

struct DriverCollector(Arc<DriverMetrics>);

impl std::fmt::Debug for DriverCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DriverCollector")
    }
}

impl Collector for DriverCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut counter = |name: &str, help: &str, value: u64| {
            let metric = ConstCounter::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        counter(
            "store_attempts_repeated",
            "Attempts at statements after a first one had failed",
            self.0.get_retries_num(),
        )?;
        counter(
            "store_connections_timed_out",
            "Connections that were not made in time",
            self.0.get_connection_timeouts(),
        )?;
        let connections = ConstGauge::new(i64::try_from(self.0.get_total_connections()).unwrap_or(i64::MAX));
        connections.encode(encoder.encode_descriptor(
            "store_connections",
            "Connections to nodes",
            None,
            connections.metric_type(),
        )?)
    }
}
