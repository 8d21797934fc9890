//! The node under test: started by `dev/cluster` for each format, or one that is there; flushed, compacted and looked at
//! by nodetool.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::cloud::CloudDisk;
use super::options::{Format, Source};
use crate::clock::{self, now};
use crate::machine::cpu_of;

/// Addresses of a cluster of one's own, but for the last part: beside those of tests.
const NET: &str = "127.0.77";
const JMX_PORT: u16 = 7_777;
/// Heap of a node with all the memory it wants.
const HEAP: &str = "2g";
/// Heap of one that has little.
const HEAP_CLOUD: &str = "512m";
const STOPS_WITHIN: Duration = Duration::from_secs(60);
const QUIET_WITHIN: Duration = Duration::from_secs(60);

/// A node, and how it is reached.
#[derive(Debug)]
pub(super) struct Node {
    started: Option<Started>,
    /// Nodes to ask for the others: HOST:PORT.
    pub(super) contact_points: String,
    /// Kafka's brokers.
    pub(super) kafka: String,
    pub(super) replication_factor: u32,
    nodetool: Option<(String, Vec<String>)>,
}

/// A node that this process has started. Ended with it.
#[derive(Debug)]
struct Started {
    program: PathBuf,
    folder: PathBuf,
    yaml: PathBuf,
}

impl Node {
    /// The node for a format, with a broker beside it.
    pub(super) async fn start(source: &Source, format: Format, folder: &Path) -> Result<Self> {
        match source {
            Source::Named {
                contact_points,
                kafka,
                nodetool,
                replication_factor,
            } => {
                let words = nodetool.iter().flat_map(|text| text.split_whitespace());
                let mut words = words.map(str::to_owned);
                let nodetool = words.next().map(|program| (program, words.collect()));
                Ok(Self {
                    started: None,
                    contact_points: contact_points.clone(),
                    kafka: kafka.clone(),
                    replication_factor: *replication_factor,
                    nodetool,
                })
            }
            Source::Started { program } => {
                let folder = folder.join(format!("cluster-{format}"));
                std::fs::create_dir_all(&folder)?;
                let yaml = folder.with_extension("yaml");
                std::fs::write(&yaml, settings_of(format))?;
                let program = program.canonicalize().with_context(|| {
                    format!(
                        "{}: name `dev/cluster` by --cluster, or nodes by --contact-points",
                        program.display()
                    )
                })?;
                let started = Started {
                    program,
                    folder,
                    yaml,
                };
                let kinds = ["up", "--cassandra", "1", "--kafka", "1"];
                let said = run(started.command(HEAP), &kinds).await?;
                let of = |name: &str| {
                    let mut pairs = said.lines().filter_map(|line| line.split_once('='));
                    pairs
                        .find(|(of, _)| *of == name)
                        .map(|(_, value)| value.to_owned())
                };
                let contact_points =
                    of("ANABRANCH_TEST_CASSANDRA").context("dev/cluster started no Cassandra")?;
                let mut nodetool: Vec<String> =
                    ["run", "cassandra", "org.apache.cassandra.tools.NodeTool", "-p"]
                        .map(str::to_owned)
                        .to_vec();
                nodetool.push(JMX_PORT.to_string());
                Ok(Self {
                    contact_points,
                    kafka: of("ANABRANCH_TEST_KAFKA").context("dev/cluster started no Kafka")?,
                    replication_factor: 1,
                    nodetool: Some((started.program.display().to_string(), nodetool)),
                    started: Some(started),
                })
            }
        }
    }

    /// Runs nodetool; `Ok(false)` where there is none.
    pub(super) async fn nodetool(&self, args: &[&str]) -> Result<bool> {
        let Some((program, first)) = &self.nodetool else {
            return Ok(false);
        };
        let mut command = match &self.started {
            Some(started) => started.command(HEAP),
            None => Command::new(program),
        };
        command.args(first);
        run(command, args).await?;
        Ok(true)
    }

    pub(super) fn has_nodetool(&self) -> bool {
        self.nodetool.is_some()
    }

    /// Process of the node, where it is one's own.
    pub(super) fn pid(&self) -> Option<u32> {
        self.started.as_ref()?.pid().ok()
    }

    /// The broker's, likewise.
    pub(super) fn kafka_pid(&self) -> Option<u32> {
        let file = self.started.as_ref()?.folder.join("kafka1/pid");
        std::fs::read_to_string(file).ok()?.trim().parse().ok()
    }

    /// Waits until flushes and compactions are done, as far as can be seen.
    pub(super) async fn settle(&self) -> Result<()> {
        let Some(pid) = self.pid() else {
            clock::sleep(Duration::from_secs(5)).await;
            return Ok(());
        };
        let began = now();
        while began.elapsed() < QUIET_WITHIN {
            let before = cpu_of(pid);
            clock::sleep(Duration::from_secs(1)).await;
            if cpu_of(pid).saturating_sub(before) <= Duration::from_millis(60) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Starts the node again inside of groups. An error inside says why it can not be.
    pub(super) async fn restart_in(&self, disk: &CloudDisk) -> Result<()> {
        let Some(started) = &self.started else {
            bail!("a node that is not the bench's own is not restarted");
        };
        self.nodetool(&["drain"]).await?;
        started.stop().await?;
        super::cloud::drop_page_cache().map_err(anyhow::Error::msg)?;
        let entrances = disk.entrances().join(" ");
        let mut command = started.environment(Command::new("sh"), HEAP_CLOUD);
        command
            .args([
                "-c",
                "for group in $GROUPS_OF_NODE; do echo $$ > $group; done; exec \"$0\" up",
            ])
            .arg(&started.program)
            .env("GROUPS_OF_NODE", entrances);
        run(command, &[]).await?;
        Ok(())
    }

    /// Starts it again with all the memory it wants: a cold start, as after a deployment.
    pub(super) async fn restart(&self) -> Result<()> {
        let Some(started) = &self.started else {
            bail!("a node that is not the bench's own is not restarted");
        };
        started.stop().await?;
        run(started.command(HEAP), &["up"]).await?;
        Ok(())
    }

    /// Bytes that the tables of a keyspace take on the disk, where the node is one's own, and how many SSTables.
    pub(super) fn tables(&self, keyspace: &str, table: &str) -> Option<(usize, u64)> {
        let folder = self
            .started
            .as_ref()?
            .folder
            .join("cassandra1/data")
            .join(keyspace);
        let (mut files, mut bytes) = (0, 0);
        for of_table in std::fs::read_dir(folder).ok()?.flatten() {
            if !of_table
                .file_name()
                .to_string_lossy()
                .starts_with(&format!("{table}-"))
            {
                continue;
            }
            for file in std::fs::read_dir(of_table.path()).ok()?.flatten() {
                if file.file_name().to_string_lossy().ends_with("-Data.db") {
                    files += 1;
                    bytes += file.metadata().map_or(0, |metadata| metadata.len());
                }
            }
        }
        Some((files, bytes))
    }

    /// Ends what was started.
    pub(super) async fn end(&self) -> Result<()> {
        if let Some(started) = &self.started {
            run(started.command(HEAP), &["wipe"]).await?;
        }
        Ok(())
    }
}

impl Started {
    fn command(&self, heap: &str) -> Command {
        self.environment(Command::new(&self.program), heap)
    }

    fn environment(&self, mut command: Command, heap: &str) -> Command {
        command
            .env("ANABRANCH_CLUSTER_DIR", &self.folder)
            .env("ANABRANCH_CLUSTER_NET", NET)
            .env("CASSANDRA_JMX_PORT", JMX_PORT.to_string())
            .env("CASSANDRA_YAML", &self.yaml)
            .env("CASSANDRA_HEAP", heap)
            // The flags of a node that serves, not those that start fast.
            .env("CASSANDRA_JVM", "-XX:+UseG1GC -XX:MaxGCPauseMillis=200");
        command
    }

    fn pid(&self) -> Result<u32> {
        let file = self.folder.join("cassandra1/pid");
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        Ok(text.trim().parse()?)
    }

    /// Ends Cassandra alone.
    async fn stop(&self) -> Result<()> {
        let pid = self.pid()?;
        let process =
            rustix::process::Pid::from_raw(i32::try_from(pid)?).context("a node without a number")?;
        rustix::process::kill_process(process, rustix::process::Signal::TERM)?;
        let began = now();
        while Path::new(&format!("/proc/{pid}")).exists() {
            ensure!(began.elapsed() < STOPS_WITHIN, "the node does not end");
            clock::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // A run that failed leaves nothing behind; one that did not has ended it already.
        let mut command = Command::new(&self.program);
        let wiped = command
            .arg("wipe")
            .env("ANABRANCH_CLUSTER_DIR", &self.folder)
            .env("ANABRANCH_CLUSTER_NET", NET)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        drop(wiped);
    }
}

/// The log is synced now and then, as by default: what is measured is reading.
fn settings_of(format: Format) -> String {
    let log = "commitlog_sync: periodic\ncommitlog_sync_period: 10000ms\n";
    match format {
        Format::Big | Format::Theirs => log.to_owned(),
        Format::Bti => format!("{log}storage_compatibility_mode: NONE\nsstable:\n  selected_format: bti\n"),
    }
}

/// Runs a program to its end. What it printed.
async fn run(mut command: Command, args: &[&str]) -> Result<String> {
    command.args(args).stdin(Stdio::null());
    let said = format!("{command:?}");
    let output = tokio::task::spawn_blocking(move || command.output()).await?;
    let output = output.with_context(|| format!("can not run {said}"))?;
    ensure!(
        output.status.success(),
        "{said} failed: {}{}",
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
