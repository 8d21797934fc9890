//! Opens the store that the settings choose.

use std::sync::Arc;

use anabranch_runtime::telemetry::Metrics;
use anabranch_runtime::{Randomness, SystemClock};
#[cfg(feature = "cluster")]
use anabranch_server::read::AheadLimits;
use anabranch_server::settings::ServerSettings;
use anabranch_storage::{Store, open};

use crate::exit::Failure;
use crate::settings::{Settings, StoreSettings};

/// The store, and the settings of servers that follow from who else uses it.
pub(super) async fn store(
    settings: &Settings,
    #[cfg_attr(
        not(feature = "cluster"),
        expect(unused_variables, reason = "a folder needs neither")
    )]
    clock: Arc<SystemClock>,
    #[cfg_attr(
        not(feature = "cluster"),
        expect(unused_variables, reason = "a folder needs neither")
    )]
    randomness: &Randomness,
    metrics: &Metrics,
) -> Result<(Store, ServerSettings), Failure> {
    let mut server_settings = ServerSettings {
        deadline_max: settings.deadline_max,
        ..ServerSettings::default()
    };
    server_settings.splits.divert = settings.divert_reads;
    match &settings.store {
        StoreSettings::Embedded { data_dir } => {
            let store = open::embedded(data_dir, metrics).map_err(|error| {
                Failure::internal(format_args!(
                    "can not open the store in {}: {}",
                    data_dir.display(),
                    anabranch_runtime::error_chain(&error)
                ))
            })?;
            Ok((store, server_settings))
        }
        #[cfg(feature = "cluster")]
        StoreSettings::Cassandra(cluster) => {
            let store = open::cassandra(cluster, clock, randomness.clone(), metrics)
                .await
                .map_err(|error| Failure::unavailable(anabranch_runtime::error_chain(&error)))?;
            // The way to this store is long: walks are read ahead of.
            let bytes_max = u64::try_from(settings.read_ahead_bytes_max).unwrap_or(u64::MAX);
            server_settings.read.ahead = (bytes_max > 0).then(|| AheadLimits {
                bytes_max,
                ..AheadLimits::default()
            });
            Ok((store, server_settings.shared(cluster.append_max())))
        }
    }
}
