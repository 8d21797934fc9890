//! Opens what settings name.

use std::sync::Arc;
use std::time::Duration;

use anabranch_runtime::telemetry::Metrics;
use anabranch_runtime::{Randomness, SystemClock};
use anabranch_server::settings::ServerSettings;
use anabranch_storage::{Store, open};

#[cfg(feature = "cluster")]
use super::serve::internal;
use crate::exit::Failure;
use crate::settings::{Settings, StoreSettings};

/// A store, and what follows from who else uses it.
pub(super) struct Opened {
    pub(super) store: Store,
    pub(super) settings: ServerSettings,
    /// What is known of other processes that use it, if there can be any.
    pub(super) shared: Option<Shared>,
}

/// What all processes on one store have to agree on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shared {
    /// How long a freeze takes to count: every server knows it by then, and every write that came before it has ended.
    pub(super) settle: Duration,
}

/// Opens the store that settings name.
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
) -> Result<Opened, Failure> {
    match &settings.store {
        StoreSettings::Embedded { data_dir } => {
            let store = open::embedded(data_dir, metrics).map_err(|error| {
                Failure::internal(format_args!(
                    "can not open the store in {}: {}",
                    data_dir.display(),
                    anabranch_runtime::error_chain(&error)
                ))
            })?;
            Ok(Opened {
                store,
                settings: ServerSettings::default(),
                shared: None,
            })
        }
        #[cfg(feature = "cluster")]
        StoreSettings::Cassandra(cluster) => {
            let store = open::cassandra(cluster, clock, randomness.clone(), metrics)
                .await
                .map_err(|error| internal(&error))?;
            // A statement that was sent as a call ended may still be under way.
            let longest_request = settings.default_deadline + cluster.request_timeout;
            let settings = ServerSettings::default().shared(longest_request);
            let settle = settings.slices.settle;
            Ok(Opened {
                store,
                settings,
                shared: Some(Shared { settle }),
            })
        }
    }
}
