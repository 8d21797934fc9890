//! Servers of a test's own, to be killed: Cassandra and Kafka that `dev/cluster` starts in a folder and a network of
//! their own. Or one node of Cassandra with settings that no other test has.
//!
//! They are wiped when the test ends, whichever way: a shell waits for the end of a pipe that this process holds open.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Nodes of Cassandra.
pub(crate) const NODES: usize = 3;
/// What `dev/cluster` gives a node to end by itself, and some.
const ENDS_WITHIN: Duration = Duration::from_secs(90);

/// A server that can be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// One of the nodes of Cassandra, from 0 on.
    Cassandra(usize),
    /// The only broker.
    Kafka,
}

/// Nodes of Cassandra, and a broker of Kafka.
pub(crate) struct Cluster {
    folder: PathBuf,
    variables: Vec<(&'static str, String)>,
    net: String,
    nodes: usize,
    wiper: Child,
}

impl Cluster {
    /// Starts three and one in a folder, and waits until they serve.
    pub(crate) fn start(folder: &Path) -> Result<Self, String> {
        let (cluster, _) = Self::prepared(folder, NODES)?;
        cluster.run(&["up", "--cassandra", &NODES.to_string(), "--kafka", "1"])?;
        Ok(cluster)
    }

    /// Starts one node of Cassandra alone, whose settings are made for the address that it gets.
    pub(crate) fn start_one(folder: &Path, settings: impl FnOnce(&str) -> String) -> Result<Self, String> {
        let (mut cluster, net) = Self::prepared(folder, 1)?;
        let file = folder.join("more.yaml");
        std::fs::write(&file, settings(&format!("{net}.1"))).map_err(|error| error.to_string())?;
        cluster
            .variables
            .push(("CASSANDRA_YAML", file.display().to_string()));
        cluster.run(&["up", "--cassandra", "1"])?;
        Ok(cluster)
    }

    fn prepared(folder: &Path, nodes: usize) -> Result<(Self, String), String> {
        let (net, jmx_port) = free();
        let folder = folder.join("cluster");
        let variables = vec![
            ("ANABRANCH_CLUSTER_DIR", folder.display().to_string()),
            ("ANABRANCH_CLUSTER_NET", net.clone()),
            ("CASSANDRA_JMX_PORT", jmx_port.to_string()),
        ];
        let wiper = Command::new("sh")
            .args(["-c", "trap '' INT TERM HUP; cat >/dev/null; exec \"$0\" wipe"])
            .arg(script())
            .envs(variables.clone())
            .stdin(Stdio::piped())
            .spawn()
            .map_err(|error| format!("sh: {error}"))?;
        let cluster = Self {
            folder,
            variables,
            net: net.clone(),
            nodes,
            wiper,
        };
        Ok((cluster, net))
    }

    /// Where the nodes of Cassandra answer.
    pub(crate) fn cassandra(&self) -> String {
        let points: Vec<String> = (1..=self.nodes)
            .map(|node| format!("{}.{node}:9042", self.net))
            .collect();
        points.join(",")
    }

    /// Where the broker answers.
    pub(crate) fn kafka(&self) -> String {
        format!("{}.1:9092", self.net)
    }

    /// Starts again what has ended, and waits until all of it serves and every node sees every other.
    pub(crate) fn up(&self) -> Result<(), String> {
        self.run(&["up"])
    }

    /// SIGKILL.
    pub(crate) fn kill(&self, node: Node) -> Result<(), String> {
        self.end(node, "-KILL")
    }

    /// SIGTERM, and waits for its end.
    pub(crate) fn stop(&self, node: Node) -> Result<(), String> {
        self.end(node, "-TERM")
    }

    /// SIGSTOP: it holds its connections, and answers nobody.
    pub(crate) fn pause(&self, node: Node) -> Result<(), String> {
        signal(&self.pid(node)?, "-STOP")
    }

    /// SIGCONT.
    pub(crate) fn go_on(&self, node: Node) -> Result<(), String> {
        signal(&self.pid(node)?, "-CONT")
    }

    fn end(&self, node: Node, with: &str) -> Result<(), String> {
        let pid = self.pid(node)?;
        signal(&pid, with)?;
        let since = Instant::now();
        // One that nobody has waited for yet has no command line any more.
        while std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty()) {
            if since.elapsed() > ENDS_WITHIN {
                return Err(format!("{node:?} does not end by {with}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn pid(&self, node: Node) -> Result<String, String> {
        let folder = match node {
            Node::Cassandra(node) => format!("cassandra{}", node + 1),
            Node::Kafka => "kafka1".to_owned(),
        };
        let file = self.folder.join(folder).join("pid");
        let pid = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(pid.trim().to_owned())
    }

    fn run(&self, arguments: &[&str]) -> Result<(), String> {
        let output = Command::new(script())
            .args(arguments)
            .envs(self.variables.clone())
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("dev/cluster: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!(
            "dev/cluster {arguments:?} ended with {}: {said}",
            output.status
        ))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.wiper.stdin.take());
        let _ = self.wiper.wait();
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dev/cluster")
}

fn signal(pid: &str, signal: &str) -> Result<(), String> {
    let sent = Command::new("kill").args([signal, pid]).status();
    match sent {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("kill {signal} {pid} ended with {status}")),
        Err(error) => Err(format!("kill: {error}")),
    }
}

/// A network and a first port for JMX that nobody uses: other tests run servers of their own beside these.
fn free() -> (String, u16) {
    let taken = |address: &str, port: u16| TcpListener::bind((address, port)).is_err();
    let pid = u16::try_from(std::process::id() % 10_000).unwrap();
    for try_of in 0..200 {
        let number = (pid + try_of * 7) % 10_000;
        let net = format!("127.{}.{}", 20 + number / 200, number % 200);
        // Below the ports that are given to those who ask for none.
        let jmx_port = 10_000 + (number % 70) * 300;
        let nodes = (0_u16..)
            .take(NODES)
            .map(|node| (format!("{net}.{}", node + 1), jmx_port + 100 * node));
        let free = nodes.clone().all(|(address, jmx)| {
            [7_000, 9_042, 9_092, 9_093]
                .iter()
                .all(|port| !taken(&address, *port))
                && !taken("127.0.0.1", jmx)
        });
        if free {
            return (net, jmx_port);
        }
    }
    panic!("no network of loopback is free");
}
