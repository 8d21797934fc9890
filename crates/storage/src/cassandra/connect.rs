//! Opens a session, looks at the cluster before anything is served from it, and says what is wrong and what to do.
//!
//! ```text
//! contact points ─▶ role ─▶ data centre ─▶ shared keyspace ─▶ tables of records ─▶ copies ─▶ one serial read
//! ```

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anabranch_runtime::telemetry::Metrics;
use anabranch_runtime::{Clock, Randomness, error_chain};
use async_trait::async_trait;
use scylla::client::session::{Session, TlsContext};
use scylla::client::session_builder::SessionBuilder;
use scylla::cluster::metadata::Strategy;
use scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError, MetadataError,
    NewSessionError, TranslationError,
};
use scylla::policies::address_translator::{AddressTranslator, UntranslatedPeer};
use sha2::{Digest, Sha256};
use uuid::Builder;

use super::CassandraStore;
use super::cluster::Cluster;
use super::levels::Levels;
use super::metrics::{StoreMetrics, register_driver};
use super::names::{CqlName, CqlTable, KeyspaceName};
use super::policy::Profiles;
use super::record_place::Place;
use super::records::Records;
use super::records_cql::{RecordTable, WIDE_SLICE, create_wide_slice};
use super::replication::Replication;
use super::settings::{CassandraSettings, TlsSettings};
use super::tls;
use crate::error::{StoreError, as_text};
use crate::records::RecordKey;

/// A node that does not answer a ping for so long is left, with what waits for it.
const KEEPALIVE: Duration = Duration::from_secs(2);
/// How long nodes may take to agree on a schema.
const AGREEMENT: Duration = Duration::from_secs(20);

/// Opens the store on a cluster, and makes what namespaces share if it is not there.
///
/// # Errors
/// When no contact point answers, the role is refused, the data centre is not there, a keyspace or table is missing
/// and may not be made, or too few replicas are up. The error says what to do.
pub async fn open(
    settings: &CassandraSettings,
    clock: Arc<dyn Clock>,
    randomness: Randomness,
    metrics: &Metrics,
) -> Result<CassandraStore, StoreError> {
    let session = connect(settings).await?;
    let (datacenter, nodes) = datacenter(&session, settings)?;
    let scylladb = session
        .get_cluster_state()
        .get_nodes_info()
        .iter()
        .any(|node| node.sharder().is_some());
    let replication = Replication::new(datacenter, settings.replication_factor, scylladb);
    register_driver(metrics, &session);
    let store_metrics = StoreMetrics::new(metrics);
    let profiles = Profiles::new(settings, replication.datacenter());
    let store = CassandraStore {
        cluster: Cluster::new(
            session,
            profiles,
            clock.clone(),
            store_metrics.clone(),
            settings.request_timeout,
        ),
        levels: Levels(settings.consistency),
        keyspace: settings.keyspace.clone(),
        replication,
        records: Records::new(settings.keyspace.clone(), randomness.clone(), store_metrics),
        schema: super::SchemaStatements::default(),
        schema_turn: tokio::sync::Mutex::new(()),
        tables: std::sync::Mutex::default(),
        clock,
        randomness,
        patience: settings.request_timeout * 2,
        append_max: settings.append_max(),
    };
    store.make_shared(nodes).await?;
    store.check_copies()?;
    store.probe().await?;
    tracing::info!(
        datacenter = store.replication.datacenter(),
        keyspace = %store.keyspace,
        nodes,
        scylladb,
        "store opened on a cluster"
    );
    Ok(store)
}

/// Where nodes answer, by the address that they say.
struct AddressMap(HashMap<IpAddr, SocketAddr>);

#[async_trait]
impl AddressTranslator for AddressMap {
    async fn translate_address(&self, peer: &UntranslatedPeer) -> Result<SocketAddr, TranslationError> {
        let said = peer.untranslated_address();
        Ok(self.0.get(&said.ip()).copied().unwrap_or(said))
    }
}

pub(super) async fn connect(settings: &CassandraSettings) -> Result<Session, StoreError> {
    let mut builder = SessionBuilder::new()
        .known_nodes(&settings.contact_points)
        .connection_timeout(settings.request_timeout)
        .keepalive_interval(KEEPALIVE)
        .keepalive_timeout(KEEPALIVE)
        .schema_agreement_timeout(AGREEMENT)
        .schema_agreement_interval(Duration::from_millis(50))
        // Names, partitioners and replication are enough to find the replicas of a partition.
        .fetch_full_schema_metadata(false)
        .metadata_request_serverside_timeout(Duration::from_secs(10));
    if let Some(datacenter) = &settings.datacenter {
        builder = builder.prefer_datacenter(datacenter.clone());
    }
    if let Some(credentials) = &settings.credentials {
        builder = builder.user(&credentials.username, &credentials.password);
    }
    if let Some(tls) = &settings.tls {
        builder = builder.tls_context(Some(TlsContext::Rustls023(tls::client(tls)?)));
    }
    if !settings.address_map.is_empty() {
        builder = builder.address_translator(Arc::new(AddressMap(settings.address_map.clone())));
    }
    builder
        .build()
        .await
        .map_err(|error| cannot_connect(settings, error))
}

fn cannot_connect(settings: &CassandraSettings, error: NewSessionError) -> StoreError {
    let points = settings.contact_points.join(", ");
    let reason = match setup_error(&error) {
        Some(ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError, reason)) => format!(
            "the cluster at {points} refuses the role ({reason}); check store.cassandra.username and the file \
             store.cassandra.password_file"
        ),
        Some(ConnectionSetupRequestErrorKind::MissingAuthentication) => format!(
            "the cluster at {points} asks for a role; set store.cassandra.username and store.cassandra.password_file"
        ),
        _ => match &error {
            NewSessionError::FailedToResolveAnyHostname(names) => format!(
                "no contact point has an address: {}; check store.cassandra.contact_points",
                names.join(", ")
            ),
            _ => format!(
                "no contact point answers at {points}; check store.cassandra.contact_points, that a node is up, that \
                 it takes CQL on that port, and {}",
                check_tls(settings)
            ),
        },
    };
    StoreError::Open {
        reason,
        source: Some(as_text(&error)),
    }
}

/// What of TLS may keep a node from answering: it ends the connection, and mostly does not say why.
fn check_tls(settings: &CassandraSettings) -> &'static str {
    match &settings.tls {
        None => "whether it wants TLS (store.cassandra.tls.ca_file)",
        Some(TlsSettings { client: None, .. }) => {
            "that it wants TLS, that its certificate names this address and is signed by one of \
             store.cassandra.tls.ca_file, and whether it asks for a certificate of ours \
             (store.cassandra.tls.certificate_file and key_file)"
        }
        Some(TlsSettings { client: Some(_), .. }) => {
            "that it wants TLS, that its certificate names this address and is signed by one of \
             store.cassandra.tls.ca_file, and that it trusts store.cassandra.tls.certificate_file"
        }
    }
}

/// Why a node that was reached did not take us.
fn setup_error(error: &NewSessionError) -> Option<&ConnectionSetupRequestErrorKind> {
    let NewSessionError::MetadataError(MetadataError::ConnectionPoolError(ConnectionPoolError::Broken {
        last_connection_error: ConnectionError::ConnectionSetupRequestError(setup),
    })) = error
    else {
        return None;
    };
    Some(setup.get_error())
}

/// The data centre whose nodes are used, and how many it has.
fn datacenter(session: &Session, settings: &CassandraSettings) -> Result<(String, usize), StoreError> {
    let state = session.get_cluster_state();
    let of_nodes = || {
        state
            .get_nodes_info()
            .iter()
            .filter_map(|node| node.datacenter.clone())
    };
    let known: BTreeSet<String> = of_nodes().collect();
    let names = || known.iter().cloned().collect::<Vec<_>>().join(", ");
    let datacenter = match &settings.datacenter {
        Some(datacenter) if known.contains(datacenter) => datacenter.clone(),
        Some(datacenter) => {
            return Err(open_error(format!(
                "the cluster has no data centre `{datacenter}`; set store.cassandra.local_datacenter to one of: {}",
                names()
            )));
        }
        None if known.len() > 1 => {
            return Err(open_error(format!(
                "the cluster has {} data centres; set store.cassandra.local_datacenter to the one that this server is in: {}",
                known.len(),
                names()
            )));
        }
        None => known.first().cloned().ok_or_else(|| {
            open_error("the nodes of the cluster do not say which data centre they are in".to_owned())
        })?,
    };
    let nodes = of_nodes().filter(|of| *of == datacenter).count();
    Ok((datacenter, nodes))
}

impl CassandraStore {
    /// Makes the shared keyspace and its tables, as far as they are missing. Each table has one id, whoever makes it,
    /// so that servers that start together make the same one.
    ///
    /// What was made here has to be there on every node before it is used. Where nothing was, nodes that do not agree are
    /// no reason to stay away: one that was down while a slice was made is behind for a while, and others answer.
    async fn make_shared(&self, nodes: usize) -> Result<(), StoreError> {
        let keyspace = self.keyspace.shared();
        let mut made = false;
        if !self.has_keyspace(&keyspace).await? {
            let factor = self.replication.factor();
            if usize::try_from(factor).unwrap_or(usize::MAX) > nodes {
                return Err(open_error(format!(
                    "keyspace {keyspace} is to be made with {factor} copies, and data centre `{}` has fewer nodes \
                     ({nodes}); add nodes, or set store.cassandra.replication_factor (1 is enough to try it out)",
                    self.replication.datacenter()
                )));
            }
            let text = self.replication.create_shared_keyspace(&keyspace);
            self.change_shared(text).await?;
            made = true;
        }
        let tables = RecordTable::ALL.map(|table| (table.name(), Some(table)));
        for (name, table) in tables.into_iter().chain([(WIDE_SLICE, None)]) {
            let cql_table = CqlTable::shared(&self.keyspace, name);
            if self.table_id(&cql_table).await?.is_none() {
                let id = shared_id(&cql_table);
                let text = match table {
                    Some(table) => table.create(&self.keyspace, &id),
                    None => create_wide_slice(&self.keyspace, &id),
                };
                self.change_shared(text).await?;
                made = true;
            }
        }
        match self.await_agreement().await {
            Err(error) if made => Err(StoreError::Open {
                reason: "the nodes do not agree on the schema; see `nodetool describecluster`".to_owned(),
                source: Some(error.into()),
            }),
            Err(error) => {
                tracing::warn!(
                    error = error_chain(&error),
                    "the nodes do not agree on the schema; see `nodetool describecluster`"
                );
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    async fn change_shared(&self, text: String) -> Result<(), StoreError> {
        let changed = self.cluster.change_schema(text.clone()).await;
        changed.map_err(|error| {
            let what = if super::errors::is_unauthorized(&error) {
                "the role has no right to make what is missing; let one that has it run"
            } else {
                "what is missing could not be made"
            };
            StoreError::Open {
                reason: format!("{what}: {text}"),
                source: Some(as_text(&error)),
            }
        })
    }

    /// Whether the shared keyspace has copies where we are.
    fn check_copies(&self) -> Result<(), StoreError> {
        let name = self.keyspace.shared();
        let state = self.cluster.session().get_cluster_state();
        let Some(keyspace) = state.get_keyspace(name.as_str()) else {
            return Ok(());
        };
        let datacenter = self.replication.datacenter();
        let copies = match &keyspace.strategy {
            Strategy::NetworkTopologyStrategy {
                datacenter_repfactors,
            } => datacenter_repfactors.get(datacenter).copied().unwrap_or(0),
            Strategy::SimpleStrategy { replication_factor } => *replication_factor,
            _ => return Ok(()),
        };
        match copies {
            0 => Err(open_error(format!(
                "keyspace {name} has no copies in data centre `{datacenter}`; ALTER KEYSPACE so that it has, and \
                 repair it there"
            ))),
            1 | 2 => {
                tracing::warn!(keyspace = %name, copies, "with fewer than 3 copies, one node down stops everything");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Reads a record as every change of one does: with a majority.
    async fn probe(&self) -> Result<(), StoreError> {
        let place = Place::of(&RecordKey::PageTokenKey)?;
        let read = self.records.get(&self.cluster, &place).await;
        read.map(drop).map_err(|error| StoreError::Open {
            reason: format!(
                "records can not be read from keyspace {} in data centre `{}`: {}; a majority of the replicas must be \
                 up, and the role must be allowed to SELECT and MODIFY there",
                self.keyspace,
                self.replication.datacenter(),
                error_chain(&error)
            ),
            source: None,
        })
    }
}

/// The id of a shared table: of its name, so that everybody has the same.
fn shared_id(table: &CqlTable) -> String {
    let digest = Sha256::digest(table.to_string().as_bytes());
    let mut bytes = [0; 16];
    for (byte, of_digest) in bytes.iter_mut().zip(digest.iter()) {
        *byte = *of_digest;
    }
    Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

fn open_error(reason: String) -> StoreError {
    StoreError::Open { reason, source: None }
}

/// Every statement that makes what namespaces share, for an operator whose server may not: the keyspace, then its
/// tables.
pub fn shared_schema(keyspace: &KeyspaceName, datacenter: &str, replication_factor: u32) -> Vec<String> {
    let replication = Replication::new(datacenter.to_owned(), replication_factor, false);
    let shared: CqlName = keyspace.shared();
    let tables = RecordTable::ALL.map(|table| {
        let id = shared_id(&CqlTable::shared(keyspace, table.name()));
        table.create(keyspace, &id)
    });
    let wide_slice = create_wide_slice(keyspace, &shared_id(&CqlTable::shared(keyspace, WIDE_SLICE)));
    [replication.create_shared_keyspace(&shared)]
        .into_iter()
        .chain(tables)
        .chain([wide_slice])
        .collect()
}
