//! The cluster that the tests run against: `ANABRANCH_TEST_CASSANDRA` names its contact points (`dev/cluster up`).

use std::sync::Arc;

use anabranch_runtime::telemetry::Metrics;
use anabranch_runtime::{Randomness, SystemClock};
use anabranch_storage::StoreError;
use anabranch_storage::cassandra::names::KeyspaceName;
use anabranch_storage::cassandra::settings::CassandraSettings;
use anabranch_storage::cassandra::{self, CassandraStore};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;

/// Contact points; `None`, and said loudly, when there is nothing to test against.
pub(crate) fn contact_points(test: &str) -> Option<Vec<String>> {
    match std::env::var("ANABRANCH_TEST_CASSANDRA") {
        Ok(points) if !points.is_empty() => Some(points.split(',').map(str::to_owned).collect()),
        _ => {
            eprintln!(
                "!!! NOT RUN: {test}: ANABRANCH_TEST_CASSANDRA is not set; try `export $(dev/cluster up)`"
            );
            None
        }
    }
}

/// A keyspace of its own, gone when the test is over.
pub(crate) struct Keyspace {
    pub(crate) points: Vec<String>,
    pub(crate) name: KeyspaceName,
}

impl Keyspace {
    pub(crate) fn new(points: &[String]) -> Self {
        let number = Randomness::from_system().unwrap().next_u64();
        Self {
            points: points.to_vec(),
            name: KeyspaceName::new(&format!("t{:015x}", number >> 4)).unwrap(),
        }
    }

    pub(crate) fn settings(&self) -> CassandraSettings {
        CassandraSettings {
            replication_factor: u32::try_from(self.points.len().min(3)).unwrap(),
            ..CassandraSettings::new(self.points.clone(), self.name.clone())
        }
    }

    pub(crate) async fn open(&self) -> Arc<CassandraStore> {
        Arc::new(open(&self.settings()).await.unwrap())
    }

    pub(crate) async fn session(&self) -> Session {
        SessionBuilder::new()
            .known_nodes(&self.points)
            .build()
            .await
            .unwrap()
    }

    /// Drops every keyspace whose name begins with this one's.
    pub(crate) async fn remove(&self) {
        let session = self.session().await;
        let all = session
            .query_unpaged("SELECT keyspace_name FROM system_schema.keyspaces", ())
            .await
            .unwrap()
            .into_rows_result()
            .unwrap();
        for row in all.rows::<(String,)>().unwrap() {
            let (name,) = row.unwrap();
            if name.starts_with(&self.name.to_string()) {
                let drop = format!("DROP KEYSPACE IF EXISTS {name}");
                session.query_unpaged(drop, ()).await.unwrap();
            }
        }
    }
}

pub(crate) async fn open(settings: &CassandraSettings) -> Result<CassandraStore, StoreError> {
    let randomness = Randomness::from_system().unwrap();
    let metrics = Metrics::default();
    Box::pin(cassandra::open(
        settings,
        SystemClock::new(),
        randomness,
        &metrics,
    ))
    .await
}
