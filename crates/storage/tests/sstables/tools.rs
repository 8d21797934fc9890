//! `nodetool` and `sstabledump` in one process for the whole test: a JVM's start each time would take most of it.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// `dev/fixtures/NodeTools.java`, running.
pub(crate) struct Tools {
    process: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Tools {
    /// Starts it for a node, with that node's settings: `sstabledump` refuses formats that they do not allow.
    pub(crate) fn start(jmx_port: &str, config: &str) -> Self {
        let dev = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dev");
        let mut process = Command::new(dev.join("cluster"))
            .args(["run", "cassandra"])
            .arg(dev.join("fixtures/NodeTools.java"))
            .arg(jmx_port)
            .env("JAVA_OPTS", format!("-Dcassandra.config={config}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            commands: process.stdin.take(),
            answers: BufReader::new(process.stdout.take().unwrap()),
            process,
        }
    }

    /// Runs a command to its end; what Cassandra said, when it failed.
    pub(crate) fn run(&mut self, command: &[&str]) -> Result<(), String> {
        let mut commands = self.commands.as_ref().unwrap();
        commands
            .write_all(format!("{}\n", command.join("\t")).as_bytes())
            .unwrap();
        loop {
            let mut line = String::new();
            let read = self.answers.read_line(&mut line).unwrap();
            assert!(read > 0, "NodeTools.java has ended at {command:?}");
            match line.trim_end().strip_prefix("> ") {
                Some("ok") => return Ok(()),
                Some(failure) => return Err(failure.to_owned()),
                // Cassandra's own messages.
                None => {}
            }
        }
    }
}

impl Drop for Tools {
    fn drop(&mut self) {
        drop(self.commands.take());
        let _ = self.process.wait();
    }
}
