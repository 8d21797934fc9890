//! Starts the real binary for a test, and ends it.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The binary under test.
pub const ANABRANCH: &str = env!("CARGO_BIN_EXE_anabranch");

/// A server on a folder, ended when it is dropped.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub url: String,
}

impl Server {
    /// Starts `anabranch serve` on a free port and waits until it listens.
    pub fn start(data_dir: &Path) -> Self {
        let mut child = command(&["serve", "--listen", "127.0.0.1:0", "--data-dir", path(data_dir)])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let Some(url) = line.trim().strip_prefix("listening on ") else {
            let mut talk = String::new();
            child.stderr.as_mut().unwrap().read_to_string(&mut talk).unwrap();
            panic!("the first line is {line:?}; stderr: {talk}");
        };
        // A pipe that nobody empties would block the server's log.
        let mut log = child.stderr.take().unwrap();
        std::thread::Builder::new()
            .spawn(move || std::io::copy(&mut log, &mut std::io::sink()))
            .unwrap();
        Self {
            url: url.to_owned(),
            child,
        }
    }

    /// Runs a client command against it.
    pub fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, b"")
    }

    /// Runs a client command against it, with something on stdin.
    pub fn run_with(&self, args: &[&str], stdin: &[u8]) -> Ran {
        run(&[args, &["--server", &self.url]].concat(), stdin)
    }

    /// Asks it to stop and waits for it.
    pub fn stop(mut self) -> Option<i32> {
        signal(&self.child, "TERM");
        wait(&mut self.child, Duration::from_secs(30))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// The exit code.
    pub code: i32,
    /// Stdout.
    pub out: String,
    /// Stderr.
    pub talk: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            talk: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Demands that it went well.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.ended(0)
    }

    /// Demands an exit code.
    #[track_caller]
    pub fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.talk);
        self
    }

    /// Every line of stdout as JSON.
    pub fn json(&self) -> Vec<serde_json::Value> {
        let read = |line| serde_json::from_str(line).unwrap();
        self.out.lines().map(read).collect()
    }
}

/// A path as an argument.
pub fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A command that nothing of the surroundings changes.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(ANABRANCH);
    command.args(args);
    for name in [
        "ANABRANCH_SERVER",
        "ANABRANCH_OUTPUT",
        "ANABRANCH_CONFIG",
        "ANABRANCH_LOG",
    ] {
        command.env_remove(name);
    }
    command
}

/// Runs a command to its end.
pub fn run(args: &[&str], stdin: &[u8]) -> Ran {
    let mut child = command(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let stdin = stdin.to_vec();
    let feeder = std::thread::Builder::new()
        // A command that does not read to the end is no fault of the test.
        .spawn(move || pipe.write_all(&stdin))
        .unwrap();
    let ran = Ran::of(child.wait_with_output().unwrap());
    let _ = feeder.join();
    ran
}

/// Runs a line of a shell.
pub fn shell(line: &str, folder: &Path) -> Ran {
    let mut command = Command::new("sh");
    command
        .args(["-c", line])
        .current_dir(folder)
        .stdin(Stdio::null());
    Ran::of(command.output().unwrap())
}

/// Sends a signal to a child of this test.
pub fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([format!("-{name}"), child.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}

/// Waits for a child to end; kills it when it takes too long.
#[expect(
    clippy::disallowed_methods,
    reason = "a test of a real process waits in real time"
)]
pub fn wait(child: &mut Child, longest: Duration) -> Option<i32> {
    let started = Instant::now();
    while started.elapsed() < longest {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

/// A line of NDJSON: an event `id` of `series`, some seconds after a fixed time.
pub fn event(series: &str, id: u32) -> String {
    let (minute, second) = (id / 60 % 60, id % 60);
    let hour = id / 3_600 % 24;
    format!(
        r#"{{"timeSeriesId":"{series}","eventTime":"2026-03-01T{hour:02}:{minute:02}:{second:02}.000001Z","eventId":"e{id:06}","eventItems":[{{"eventItemKey":"kind","eventItemValue":"cGxheQ=="}},{{"eventItemKey":"n","eventItemValue":"{}"}}]}}"#,
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, id.to_string())
    )
}

/// Many lines of them.
pub fn events(series: &str, ids: std::ops::Range<u32>) -> String {
    ids.map(|id| event(series, id) + "\n").collect()
}
