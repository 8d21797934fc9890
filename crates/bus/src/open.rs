//! The one place beside the binary that chooses a bus.

use std::sync::Arc;

use anabranch_runtime::telemetry::Metrics;
use anabranch_storage::RecordStore;

use crate::{DetectionBus, StoreBus};

/// The bus in a store's records.
pub fn store(records: Arc<dyn RecordStore>, metrics: &Metrics) -> Arc<dyn DetectionBus> {
    Arc::new(StoreBus::new(records, metrics))
}

/// The bus in Kafka. It ends with `tasks`: what was acked is committed, and the group is left.
///
/// # Errors
/// When a topic is not there and may not be created, or a setting is wrong.
#[cfg(feature = "kafka")]
pub async fn kafka(
    settings: &crate::kafka::KafkaSettings,
    clock: Arc<dyn anabranch_runtime::Clock>,
    tasks: &anabranch_runtime::Tasks,
    metrics: &Metrics,
) -> Result<Arc<dyn DetectionBus>, crate::kafka::KafkaError> {
    let bus = crate::kafka::KafkaBus::open(settings, clock, tasks, metrics).await?;
    Ok(Arc::new(bus))
}
