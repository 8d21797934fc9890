//! The processes of a run: the real server, and the null service.
//!
//! A child is started as a user would start it, is found by the line that it prints, and is ended with the run.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::sync::oneshot;

use crate::clock;

/// A server starts within this, or not at all.
const START_WITHIN: Duration = Duration::from_secs(30);

/// A process with a service, ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Service {
    child: Child,
    /// The null service ends when this closes, even if nobody lives to end it.
    _stdin: Option<ChildStdin>,
    /// Where it listens.
    pub(crate) url: String,
    /// The null service's TCP echo.
    pub(crate) echo: Option<String>,
}

impl Service {
    /// Starts a program and waits for `lines` lines; the first one says where it listens.
    pub(crate) async fn start(program: &Path, args: &[String], log: &Path, lines: usize) -> Result<Self> {
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(log)?)
            .spawn()
            .with_context(|| format!("can not start {}", program.display()))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("a child without an output")?;
        // Ends the child if it does not start.
        let mut service = Self {
            child,
            _stdin: stdin,
            url: String::new(),
            echo: None,
        };
        let (send, said) = oneshot::channel();
        std::thread::Builder::new()
            .name("child-output".to_owned())
            .spawn(move || {
                let mut output = BufReader::new(stdout).lines();
                let first: Vec<String> = output.by_ref().take(lines).map_while(Result::ok).collect();
                let _ = send.send(first);
                // A child must not stop at a full pipe.
                output.for_each(drop);
            })?;
        let said = tokio::select! {
            said = said => said.unwrap_or_default(),
            () = clock::sleep(START_WITHIN) => Vec::new(),
        };
        let Some(url) = said.first().and_then(|line| line.strip_prefix("listening on ")) else {
            drop(service);
            bail!(
                "{} {} did not say where it listens; it said:\n{}",
                program.display(),
                args.join(" "),
                tail(log)
            );
        };
        service.url = url.trim().to_owned();
        service.echo = said
            .get(1)
            .and_then(|line| line.strip_prefix("echo on "))
            .map(|address| address.trim().to_owned());
        Ok(service)
    }

    /// Starts the server of a run on a data folder of its own.
    pub(crate) async fn server(program: &Path, scratch: &Scratch) -> Result<Self> {
        let serve = ["serve", "--listen", "127.0.0.1:0", "--data-dir"];
        let mut args: Vec<String> = serve.map(str::to_owned).to_vec();
        args.push(scratch.0.join("data").display().to_string());
        Self::start(program, &args, &scratch.0.join("server.log"), 1).await
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The end of a log, for an error.
pub(crate) fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}

/// A folder that goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn make(within: &Path) -> Result<Self> {
        let folder = within.join(format!("anabranch-bench-{}", std::process::id()));
        std::fs::create_dir(&folder).with_context(|| format!("can not make {}", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left is in a folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
