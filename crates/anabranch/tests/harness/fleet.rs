//! A fleet under test: the binary in each of its roles, on the Cassandra and the Kafka that `ANABRANCH_TEST_CASSANDRA` and
//! `ANABRANCH_TEST_KAFKA` name (`dev/cluster up`), in keyspaces and topics of its own.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Server, Started, binary};

/// Where roles keep what they have in common.
pub(crate) struct Fleet {
    folder: PathBuf,
    config: PathBuf,
}

/// Processes that work in the background. Killed when dropped.
pub(crate) struct Workers {
    pub(crate) planner: Server,
    pub(crate) splitter: Server,
}

impl Fleet {
    /// A fleet that nobody has started yet; without servers named the test has to end, and this says so.
    pub(crate) fn new(test: &str, folder: &Path) -> Option<Self> {
        let [cassandra, kafka] = ["ANABRANCH_TEST_CASSANDRA", "ANABRANCH_TEST_KAFKA"]
            .map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
        let (Some(cassandra), Some(kafka)) = (cassandra, kafka) else {
            // Past the capture of its output.
            let _ = writeln!(
                std::io::stderr(),
                "!!! NOT RUN: {test}: ANABRANCH_TEST_CASSANDRA and ANABRANCH_TEST_KAFKA name no servers; try `export $(dev/cluster up)`"
            );
            return None;
        };
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
                 contact_points = \"{cassandra}\"\nkeyspace = \"t{run}\"\nreplication_factor = {copies}\n\
                 [bus]\nkind = \"kafka\"\n[bus.kafka]\nbrokers = \"{kafka}\"\n\
                 topic = \"test.{run}\"\ndead_letter_topic = \"test.{run}.dead\"\ngroup = \"test.{run}\"\n\
                 create_topics = true\npartitions = 3\n"
            ),
        )
        .unwrap();
        Some(Self {
            folder: folder.to_path_buf(),
            config,
        })
    }

    /// Starts the binary in a role, which has to become ready.
    pub(crate) fn start(&self, role: &str) -> Server {
        let beside = self.folder.join(role);
        fs::create_dir_all(&beside).unwrap();
        let mut command = Command::new(binary());
        command
            .args([role, "--listen", "127.0.0.1:0", "--config"])
            .arg(&self.config);
        Started::spawn(command, &beside)
            .ready()
            .unwrap_or_else(|why| panic!("{role}: {why}"))
    }

    /// Starts a planner and a splitter.
    pub(crate) fn workers(&self) -> Workers {
        Workers {
            planner: self.start("planner"),
            splitter: self.start("splitter"),
        }
    }
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
