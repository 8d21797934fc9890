//! Opens the bus that the settings choose.

use std::sync::Arc;

use anabranch_bus::{DetectionBus, open};
use anabranch_runtime::telemetry::Metrics;
use anabranch_runtime::{Clock, Tasks};
use anabranch_storage::RecordStore;

use crate::exit::Failure;
use crate::settings::Bus;

/// The bus, which ends with `tasks`.
#[cfg_attr(
    not(feature = "cluster"),
    expect(unused_variables, reason = "the store's bus asks nobody")
)]
pub(super) async fn open_bus(
    bus: &Bus,
    records: Arc<dyn RecordStore>,
    clock: Arc<dyn Clock>,
    tasks: &Tasks,
    metrics: &Metrics,
) -> Result<Arc<dyn DetectionBus>, Failure> {
    match bus {
        Bus::Embedded => Ok(open::store(records, metrics)),
        #[cfg(feature = "cluster")]
        Bus::Kafka(settings) => open::kafka(settings, clock, tasks, metrics)
            .await
            .map_err(|error| failure(&error)),
    }
}

/// An error of Kafka, with the setting that it is about.
#[cfg(feature = "cluster")]
fn failure(error: &anabranch_bus::kafka::KafkaError) -> Failure {
    use anabranch_bus::kafka::KafkaError;

    use crate::exit::Exit;

    let setting = error.field().map_or_else(String::new, |field| {
        format!("{}: ", crate::settings::setting_of(field))
    });
    let more = match error {
        KafkaError::TopicAbsent { .. } => ", or set bus.kafka.create_topics=true",
        _ => "",
    };
    Failure {
        exit: match error {
            KafkaError::Setting { .. } => Exit::Usage,
            _ => Exit::Unavailable,
        },
        text: format!("error: {setting}{}{more}", anabranch_runtime::error_chain(error)),
    }
}
