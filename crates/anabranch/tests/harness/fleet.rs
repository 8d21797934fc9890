//! A fleet under test: the binary in each of its roles, in keyspaces and topics of its own. On the Cassandra and the Kafka
//! that `ANABRANCH_TEST_CASSANDRA` and `ANABRANCH_TEST_KAFKA` name (`dev/cluster up`), or on others.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anabranch_runtime::telemetry::Metrics;
use anabranch_runtime::{Randomness, SystemClock};
use anabranch_storage::cassandra::names::KeyspaceName;
use anabranch_storage::cassandra::settings::CassandraSettings;
use anabranch_storage::{Store, open};

use super::{Server, Started, binary};

/// Where roles keep what they have in common.
pub(crate) struct Fleet {
    folder: PathBuf,
    config: PathBuf,
    store: CassandraSettings,
}

/// Processes that work in the background. Killed when dropped.
pub(crate) struct Workers {
    pub(crate) planner: Server,
    pub(crate) splitter: Server,
}

/// Says that a test can not be made, past the capture of its output.
pub(crate) fn not_run(test: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "!!! NOT RUN: {test}: {why}");
}

impl Fleet {
    /// The nodes of Cassandra; without servers named the test has to end, and this says so.
    pub(crate) fn points(test: &str) -> Option<Vec<String>> {
        let (cassandra, _) = servers(test)?;
        Some(cassandra.split(',').map(str::to_owned).collect())
    }

    /// A fleet that nobody has started yet; without servers named the test has to end, and this says so.
    pub(crate) fn new(test: &str, folder: &Path) -> Option<Self> {
        Self::behind(test, folder, &HashMap::new())
    }

    /// The same, which reaches these nodes of Cassandra by other addresses than they say.
    pub(crate) fn behind(test: &str, folder: &Path, map: &HashMap<SocketAddr, SocketAddr>) -> Option<Self> {
        let (cassandra, kafka) = servers(test)?;
        Some(Self::made(folder, &cassandra, &kafka, map))
    }

    /// A fleet on these servers that nobody has started yet.
    pub(crate) fn on(folder: &Path, cassandra: &str, kafka: &str) -> Self {
        Self::made(folder, cassandra, kafka, &HashMap::new())
    }

    /// Settings of the table `store.cassandra` besides, and tables of their own.
    pub(crate) fn set(&self, in_table: &str, tables: &str) {
        let config = self.folder.join("fleet.toml");
        let before = fs::read_to_string(&self.config).unwrap();
        let (head, rest) = before.split_once("[store.cassandra]\n").unwrap();
        let with = format!("{head}[store.cassandra]\n{in_table}{rest}");
        fs::write(config, with + tables).unwrap();
    }

    fn made(folder: &Path, cassandra: &str, kafka: &str, map: &HashMap<SocketAddr, SocketAddr>) -> Self {
        let reached: Vec<String> = cassandra
            .split(',')
            .map(|point| match point.parse().ok().and_then(|node| map.get(&node)) {
                Some(by) => by.to_string(),
                None => point.to_owned(),
            })
            .collect();
        let reached = reached.join(",");
        let pairs: Vec<String> = map
            .iter()
            .map(|(node, by)| format!("{}={by}", node.ip()))
            .collect();
        let pairs = pairs.join(",");
        let run = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_millis();
        let copies = cassandra.split(',').count().min(3);
        let config = folder.join("fleet.toml");
        fs::write(
            &config,
            format!(
                "[server]\ndefault_deadline = \"10s\"\ndeadline_max = \"10s\"\n[store]\nkind = \"cassandra\"\n[store.cassandra]\n\
                 contact_points = \"{reached}\"\naddress_map = \"{pairs}\"\nkeyspace = \"t{run}\"\nreplication_factor = {copies}\n\
                 [bus]\nkind = \"kafka\"\n[bus.kafka]\nbrokers = \"{kafka}\"\n\
                 topic = \"test.{run}\"\ndead_letter_topic = \"test.{run}.dead\"\ngroup = \"test.{run}\"\n\
                 create_topics = true\npartitions = 3\n"
            ),
        )
        .unwrap();
        let points = cassandra.split(',').map(str::to_owned).collect();
        let keyspace = KeyspaceName::new(&format!("t{run}")).unwrap();
        let store = CassandraSettings {
            replication_factor: u32::try_from(copies).unwrap(),
            ..CassandraSettings::new(points, keyspace)
        };
        Self {
            folder: folder.to_path_buf(),
            config,
            store,
        }
    }

    /// The keyspace that namespaces share.
    pub(crate) fn keyspace(&self) -> String {
        self.store.keyspace.to_string()
    }

    /// The store, past every process.
    pub(crate) async fn store(&self) -> Store {
        let randomness = Randomness::from_system().unwrap();
        let metrics = Metrics::default();
        let opened = open::cassandra(&self.store, SystemClock::new(), randomness, &metrics);
        Box::pin(opened).await.unwrap()
    }

    /// Starts the binary in a role, which has to become ready.
    pub(crate) fn start(&self, role: &str) -> Server {
        self.try_start(role).unwrap_or_else(|why| panic!("{why}"))
    }

    /// The same, or why it did not become ready. All of a role share a log.
    pub(crate) fn try_start(&self, role: &str) -> Result<Server, String> {
        let beside = self.folder.join(role);
        fs::create_dir_all(&beside).unwrap();
        let mut command = Command::new(binary());
        command
            .args([role, "--listen", "127.0.0.1:0", "--config"])
            .arg(&self.config);
        let started = Started::spawn(command, &beside).ready();
        started.map_err(|why| format!("{role}: {why}"))
    }

    /// What all processes of a role have said on stderr.
    pub(crate) fn log(&self, role: &str) -> String {
        fs::read_to_string(self.folder.join(role).join("stderr.log")).unwrap_or_default()
    }

    /// Starts a planner and a splitter.
    pub(crate) fn workers(&self) -> Workers {
        Workers {
            planner: self.start("planner"),
            splitter: self.start("splitter"),
        }
    }
}

/// Cassandra and Kafka; without servers named the test has to end, and this says so.
pub(crate) fn servers(test: &str) -> Option<(String, String)> {
    let [cassandra, kafka] = ["ANABRANCH_TEST_CASSANDRA", "ANABRANCH_TEST_KAFKA"]
        .map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    let both = cassandra.zip(kafka);
    if both.is_none() {
        not_run(
            test,
            "ANABRANCH_TEST_CASSANDRA and ANABRANCH_TEST_KAFKA name no servers; try `export $(dev/cluster up)`",
        );
    }
    both
}

impl Workers {
    /// Neither may ever panic, and both stop when they are told.
    pub(crate) fn stop(self) {
        for worker in [self.planner, self.splitter] {
            worker.assert_no_panic();
            assert!(worker.stop().success());
        }
    }
}
