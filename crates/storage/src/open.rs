//! The one place beside the binary that chooses a backend.

use std::path::Path;
use std::sync::Arc;

use anabranch_runtime::telemetry::Metrics;
#[cfg(feature = "cassandra")]
use anabranch_runtime::{Clock, Randomness};

#[cfg(feature = "cassandra")]
use crate::cassandra::{self, settings::CassandraSettings};
use crate::embedded::EmbeddedStore;
use crate::embedded::engine::EngineOptions;
use crate::error::StoreError;
use crate::events::EventStore;
use crate::memory::MemoryStore;
use crate::records::RecordStore;

/// An open store: the two halves, and how to end it.
#[derive(Clone, Debug)]
pub struct Store {
    /// The events.
    pub events: Arc<dyn EventStore>,
    /// The records.
    pub records: Arc<dyn RecordStore>,
    status: Arc<dyn StoreStatus>,
}

/// What an operator wants to know of a store, and its end.
pub trait StoreStatus: std::fmt::Debug + Send + Sync + 'static {
    /// `memory`, `embedded`, …
    fn kind(&self) -> &'static str;
    /// Facts for `anabranch status`, name and value.
    fn facts(&self) -> Vec<(&'static str, String)>;
    /// Ends the store: everything acked is durable, nothing more is taken.
    fn close(&self) -> Result<(), StoreError>;
}

impl Store {
    /// A store of its parts.
    pub fn of_parts(
        events: Arc<dyn EventStore>,
        records: Arc<dyn RecordStore>,
        status: Arc<dyn StoreStatus>,
    ) -> Self {
        Self {
            events,
            records,
            status,
        }
    }

    /// What the store says of itself.
    pub fn status(&self) -> &dyn StoreStatus {
        &*self.status
    }
}

impl StoreStatus for MemoryStore {
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        vec![("namespaces with tables", self.namespaces().len().to_string())]
    }

    fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// A store that forgets everything when it is dropped: for tests.
pub fn memory() -> Store {
    let store = Arc::new(MemoryStore::new());
    Store::of_parts(store.clone(), store.clone(), store)
}

/// Opens the embedded store in a folder, or creates it there.
///
/// # Errors
/// When another process holds the folder, or what is in it is damaged or not a store.
pub fn embedded(data_dir: &Path, metrics: &Metrics) -> Result<Store, StoreError> {
    // In a folder of its own, which is made beside its place and moved there: the data folder itself may be
    // a mount point, which can not be moved and is not always empty.
    let folder = data_dir.join("store");
    let store = Arc::new(EmbeddedStore::open(&folder, EngineOptions::default(), metrics)?);
    Ok(Store::of_parts(store.clone(), store.clone(), store))
}

/// Opens the store on a cluster of Cassandra or ScyllaDB, and makes there what namespaces share.
///
/// # Errors
/// When the cluster can not be used as the settings say; the error says what to do.
#[cfg(feature = "cassandra")]
pub async fn cassandra(
    settings: &CassandraSettings,
    clock: Arc<dyn Clock>,
    randomness: Randomness,
    metrics: &Metrics,
) -> Result<Store, StoreError> {
    let store = Arc::new(Box::pin(cassandra::open(settings, clock, randomness, metrics)).await?);
    Ok(Store::of_parts(store.clone(), store.clone(), store))
}
