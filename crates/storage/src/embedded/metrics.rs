//! What the engine says of itself, as metrics and as facts for an operator.

use anabranch_runtime::telemetry::Metrics;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::engine::Engine;

/// Lets every scrape ask the engine.
pub(super) fn register(metrics: &Metrics, engine: &Engine) {
    let collector = EngineCollector(engine.clone());
    metrics.register(|registry| registry.register_collector(Box::new(collector)));
}

#[derive(Debug)]
struct EngineCollector(Engine);

impl Collector for EngineCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let stats = self.0.stats();
        let mut put = |name: &str, help: &str, unit: Option<&Unit>, metric: &dyn EncodeOne| {
            metric.put(&mut encoder, name, help, unit)
        };
        let (bytes, seconds) = (Some(&Unit::Bytes), Some(&Unit::Seconds));
        put(
            "store_commits",
            "Groups committed",
            None,
            &ConstCounter::new(stats.commits),
        )?;
        put(
            "store_rows",
            "Rows committed",
            None,
            &ConstCounter::new(stats.rows),
        )?;
        put(
            "store_log_synced",
            "Written to the log and synced",
            bytes,
            &ConstCounter::new(stats.synced_bytes),
        )?;
        put(
            "store_sync",
            "Time in syncs of the log",
            seconds,
            &ConstCounter::new(stats.sync_seconds),
        )?;
        put(
            "store_sync_last",
            "The last sync of the log",
            seconds,
            &ConstGauge::new(stats.sync_last.as_secs_f64()),
        )?;
        put(
            "store_held_back",
            "Time that writers were held back",
            seconds,
            &ConstCounter::new(stats.held_back_seconds),
        )?;
        put(
            "store_flushes",
            "Memtables written to tables",
            None,
            &ConstCounter::new(stats.flushes),
        )?;
        put(
            "store_compactions",
            "Compactions that changed a tree",
            None,
            &ConstCounter::new(stats.compactions),
        )?;
        put(
            "store_memtable",
            "Rows in memory",
            bytes,
            &gauge(stats.memtable_bytes),
        )?;
        put("store_table", "Table files", bytes, &gauge(stats.table_bytes))?;
        put(
            "store_block_cache",
            "Blocks in memory",
            bytes,
            &gauge(stats.block_cache_bytes),
        )?;
        put("store_tables", "Tables", None, &gauge(stats.tables as u64))?;
        put(
            "store_log_segments_live",
            "Segments that still hold rows not in tables",
            None,
            &gauge(stats.segments_live as u64),
        )?;
        put(
            "store_level0_runs_max",
            "Level-0 runs of the table with most",
            None,
            &gauge(stats.l0_runs_max as u64),
        )
    }
}

fn gauge(value: u64) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}

/// Lets metrics of different types stand in one list.
trait EncodeOne {
    fn put(
        &self,
        to: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
    ) -> std::fmt::Result;
}

impl<M: EncodeMetric> EncodeOne for M {
    fn put(
        &self,
        to: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
    ) -> std::fmt::Result {
        self.encode(to.encode_descriptor(name, help, unit, self.metric_type())?)
    }
}

/// Facts for `anabranch status`.
pub(super) fn facts(engine: &Engine) -> Vec<(&'static str, String)> {
    let stats = engine.stats();
    vec![
        ("tables", stats.tables.to_string()),
        ("table bytes", stats.table_bytes.to_string()),
        ("memtable bytes", stats.memtable_bytes.to_string()),
        ("log segments live", stats.segments_live.to_string()),
        ("level-0 runs at most", stats.l0_runs_max.to_string()),
        ("commits since start", stats.commits.to_string()),
        (
            "last sync seconds",
            format!("{:.6}", stats.sync_last.as_secs_f64()),
        ),
        (
            "writers held back seconds",
            format!("{:.3}", stats.held_back_seconds),
        ),
    ]
}
