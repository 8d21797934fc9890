//! Settings of a server: built-in defaults, then a file, then the environment, then flags.
//!
//! - [`KEYS`] is every setting there is; what it does not name is an error, with the nearest name.
//! - Every value knows where it came from.
//! - A value is checked once, here; what is inside [`Settings`] is right.

mod bus;
#[cfg(feature = "cluster")]
mod cassandra;
mod check;
mod load;
mod origin;

use std::path::PathBuf;
use std::time::Duration;

#[cfg(feature = "cluster")]
use anabranch_storage::cassandra::settings::CassandraSettings;
pub(crate) use bus::Bus;
#[cfg(feature = "cluster")]
pub(crate) use bus::setting_of;
pub(crate) use load::load;
pub(crate) use origin::Loaded;

/// One setting.
#[derive(Debug)]
pub(crate) struct Key {
    /// Its dotted name: `store.embedded.data_dir`.
    pub(crate) name: &'static str,
    /// What it is when nothing sets it.
    pub(crate) default: &'static str,
    /// What it means.
    pub(crate) help: &'static str,
    /// The flag that sets it.
    pub(crate) flag: Option<&'static str>,
}

/// Every setting, in the order that `config show` prints them.
pub(crate) const KEYS: [Key; 37] = [
    key(
        "server.listen",
        "127.0.0.1:7600",
        "address to listen on; port 0 takes a free one",
        Some("--listen"),
    ),
    key(
        "server.insecure",
        "false",
        "listen beyond loopback although there is no TLS and no authentication",
        Some("--insecure"),
    ),
    key(
        "server.default_deadline",
        "60s",
        "time that a call gets when its caller does not say",
        None,
    ),
    key(
        "server.deadline_max",
        "60s",
        "time that a call gets at most; what nobody may use any more is kept for so long",
        None,
    ),
    key(
        "server.drain_grace",
        "10s",
        "how long calls under way may take once the server is told to stop",
        None,
    ),
    key(
        "server.requests_in_flight_max",
        "1024",
        "calls under way at once; more are turned away",
        None,
    ),
    key(
        "server.request_bytes_in_flight_max",
        "256MiB",
        "bytes of requests under way at once; more are turned away",
        None,
    ),
    key(
        "server.message_bytes_max",
        "16MiB",
        "largest message of a request",
        None,
    ),
    key(
        "server.read_ahead_bytes_max",
        "64MiB",
        "most bytes of targets that are kept ahead of walks, on Cassandra; 0: none are read ahead",
        None,
    ),
    key(
        "server.divert_reads",
        "true",
        "read split partitions from what they were split into, where their namespace says so; false: this server reads \
         originals only",
        None,
    ),
    key(
        "planner.listen",
        "127.0.0.1:7601",
        "address where a planner of its own answers /metrics and /healthz",
        None,
    ),
    key(
        "splitter.listen",
        "127.0.0.1:7602",
        "the same of a splitter",
        None,
    ),
    key(
        "store.kind",
        "embedded",
        "where events are kept: embedded, or cassandra",
        None,
    ),
    key(
        "store.embedded.data_dir",
        "./anabranch-data",
        "folder of the embedded store",
        Some("--data-dir"),
    ),
    key(
        "store.cassandra.contact_points",
        "127.0.0.1:9042",
        "nodes to ask for the others: HOST:PORT, with commas between",
        None,
    ),
    key(
        "store.cassandra.local_datacenter",
        "",
        "data centre whose nodes are used; empty where there is one",
        None,
    ),
    key(
        "store.cassandra.keyspace",
        "anabranch",
        "keyspace of what namespaces share; those of namespaces begin with it",
        None,
    ),
    key(
        "store.cassandra.replication_factor",
        "3",
        "copies in the data centre, of keyspaces that are made here",
        None,
    ),
    key(
        "store.cassandra.consistency",
        "LOCAL_QUORUM",
        "replicas that must answer: LOCAL_QUORUM, QUORUM or EACH_QUORUM",
        None,
    ),
    key(
        "store.cassandra.username",
        "",
        "role; empty where the cluster asks for none",
        None,
    ),
    key(
        "store.cassandra.password_file",
        "",
        "file that holds the role's password",
        None,
    ),
    key(
        "store.cassandra.tls.ca_file",
        "",
        "authorities that sign the nodes' certificates, PEM; empty is no TLS",
        None,
    ),
    key(
        "store.cassandra.tls.certificate_file",
        "",
        "certificate to show to the nodes, PEM",
        None,
    ),
    key("store.cassandra.tls.key_file", "", "its key, PEM", None),
    key(
        "store.cassandra.request_timeout",
        "5s",
        "time of a statement, with all its attempts",
        None,
    ),
    key(
        "store.cassandra.speculative_delay",
        "250ms",
        "time without an answer after which one more node is asked",
        None,
    ),
    key(
        "store.cassandra.address_map",
        "",
        "where nodes answer, if not where they say: IP=IP:PORT, with commas between",
        None,
    ),
    key(
        "bus.kind",
        "embedded",
        "how detections of wide partitions reach the planner: embedded, or kafka (needs a build with --features cluster)",
        None,
    ),
    key(
        "bus.kafka.brokers",
        "127.0.0.1:9092",
        "brokers to begin with: HOST:PORT, several with commas between",
        None,
    ),
    key(
        "bus.kafka.topic",
        "anabranch.detections",
        "topic of detections; one for all servers and planners of a store",
        None,
    ),
    key(
        "bus.kafka.dead_letter_topic",
        "anabranch.detections.dead",
        "topic of messages that are no detections, with the reason",
        None,
    ),
    key(
        "bus.kafka.group",
        "anabranch.planners",
        "consumer group of the planners of a store",
        None,
    ),
    key(
        "bus.kafka.client_id",
        "anabranch",
        "what brokers log this process as",
        None,
    ),
    key(
        "bus.kafka.create_topics",
        "false",
        "create both topics when they are not there",
        None,
    ),
    key(
        "bus.kafka.partitions",
        "12",
        "partitions that the topic is created with; at most so many planners take detections in",
        None,
    ),
    key(
        "bus.kafka.replication",
        "0",
        "replicas that topics are created with; 0 leaves it to the brokers",
        None,
    ),
    key(
        "bus.kafka.properties_file",
        "",
        "what the client needs besides, as librdkafka names it: a NAME=VALUE a line. TLS and SCRAM need a build with \
         --features cluster-tls; without, there is PLAINTEXT, and SASL_PLAINTEXT with PLAIN",
        None,
    ),
];

const fn key(
    name: &'static str,
    default: &'static str,
    help: &'static str,
    flag: Option<&'static str>,
) -> Key {
    Key {
        name,
        default,
        help,
        flag,
    }
}

/// Settings that were checked, by their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) listen: String,
    pub(crate) insecure: bool,
    pub(crate) default_deadline: Duration,
    pub(crate) deadline_max: Duration,
    pub(crate) drain_grace: Duration,
    pub(crate) requests_in_flight_max: usize,
    pub(crate) request_bytes_in_flight_max: usize,
    pub(crate) message_bytes_max: usize,
    pub(crate) read_ahead_bytes_max: usize,
    pub(crate) divert_reads: bool,
    pub(crate) planner_listen: String,
    pub(crate) splitter_listen: String,
    pub(crate) store: StoreSettings,
    pub(crate) bus: Bus,
}

/// Where events are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoreSettings {
    /// In a folder of this process.
    Embedded {
        /// The folder.
        data_dir: PathBuf,
    },
    /// On a cluster.
    #[cfg(feature = "cluster")]
    Cassandra(Box<CassandraSettings>),
}

impl StoreSettings {
    /// What kind of store it is, in words.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Embedded { .. } => "embedded store",
            #[cfg(feature = "cluster")]
            Self::Cassandra(_) => "store on Cassandra",
        }
    }

    /// True when several processes may have it open.
    pub(crate) fn is_shared(&self) -> bool {
        !matches!(self, Self::Embedded { .. })
    }

    /// Where it is.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::Embedded { data_dir } => data_dir.display().to_string(),
            #[cfg(feature = "cluster")]
            Self::Cassandra(cluster) => {
                format!(
                    "keyspace {} at {}",
                    cluster.keyspace,
                    cluster.contact_points.join(", ")
                )
            }
        }
    }
}

#[cfg(test)]
mod tests;
