//! What a server has to know of the cluster that it keeps its events in.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anabranch_model::Consistency;

use super::names::KeyspaceName;

/// An append may take as long as so many batches that all need their whole time.
const APPEND_BATCHES_LONG: u32 = 4;

/// Where the cluster is and how it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CassandraSettings {
    /// Nodes to ask for the others: HOST:PORT.
    pub contact_points: Vec<String>,
    /// The data centre whose nodes are used. `None`: the cluster has only one.
    pub datacenter: Option<String>,
    /// The shared keyspace, and the beginning of all others' names.
    pub keyspace: KeyspaceName,
    /// Copies in the data centre, of keyspaces that are made here.
    pub replication_factor: u32,
    /// Replicas that must answer.
    pub consistency: StoreConsistency,
    /// Who we are, where the cluster asks.
    pub credentials: Option<Credentials>,
    /// TLS; `None`: plain.
    pub tls: Option<TlsSettings>,
    /// What one statement may take, with all its attempts.
    pub request_timeout: Duration,
    /// After this without an answer, what is safe to repeat is sent to one more node.
    pub speculative_delay: Duration,
    /// Where nodes answer, if not at the addresses that they say: behind port forwarding, for example.
    pub address_map: HashMap<IpAddr, SocketAddr>,
}

impl CassandraSettings {
    /// Settings that are right for a cluster of one data centre that asks for nothing.
    pub fn new(contact_points: Vec<String>, keyspace: KeyspaceName) -> Self {
        Self {
            contact_points,
            datacenter: None,
            keyspace,
            replication_factor: 3,
            consistency: StoreConsistency::LocalQuorum,
            credentials: None,
            tls: None,
            request_timeout: Duration::from_secs(5),
            speculative_delay: Duration::from_millis(250),
            address_map: HashMap::new(),
        }
    }

    /// The longest that an append may take, of however many batches: what of it was not sent by then never is. Whoever
    /// says that a range can not change any more has waited for that (S4).
    pub fn append_max(&self) -> Duration {
        self.request_timeout * APPEND_BATCHES_LONG
    }
}

/// How many replicas must answer. In each of these what was acked is read (W1): the replicas of a write and those
/// of a read have one in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreConsistency {
    /// A majority in the data centre. Records are changed by one data centre only.
    #[default]
    LocalQuorum,
    /// A majority of all replicas, wherever they are.
    Quorum,
    /// Writes wait for a majority in every data centre, reads for one here.
    EachQuorum,
}

impl TryFrom<Consistency> for StoreConsistency {
    type Error = String;

    fn try_from(consistency: Consistency) -> Result<Self, String> {
        match consistency {
            Consistency::LocalQuorum => Ok(Self::LocalQuorum),
            Consistency::Quorum => Ok(Self::Quorum),
            Consistency::EachQuorum => Ok(Self::EachQuorum),
            Consistency::One | Consistency::LocalOne => Err(
                "one replica may not have what was acked; use LOCAL_QUORUM, QUORUM or EACH_QUORUM".to_owned(),
            ),
            Consistency::All => {
                Err("one node down would stop everything; use LOCAL_QUORUM, QUORUM or EACH_QUORUM".to_owned())
            }
        }
    }
}

/// A role of the cluster and its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The role.
    pub username: String,
    /// Its password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// Whom to believe, and how to prove who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// Certificates of the authorities that sign the nodes' own, PEM.
    pub ca_file: PathBuf,
    /// Our certificate and its key, PEM, where the cluster asks for one.
    pub client: Option<(PathBuf, PathBuf)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_printed() {
        let credentials = Credentials {
            username: "anabranch".to_owned(),
            password: "s3cret".to_owned(),
        };
        let shown = format!("{credentials:?}");
        assert!(
            shown.contains("anabranch") && !shown.contains("s3cret"),
            "{shown}"
        );
    }

    #[test]
    fn consistencies_that_lose_acked_events_are_refused() {
        assert_eq!(
            StoreConsistency::try_from(Consistency::Quorum),
            Ok(StoreConsistency::Quorum)
        );
        assert!(StoreConsistency::try_from(Consistency::One).is_err());
        assert!(StoreConsistency::try_from(Consistency::All).is_err());
    }
}
