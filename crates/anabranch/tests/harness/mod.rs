//! What the acceptance tests share: the real binary as a child process, clients of its surface, and events that can be
//! checked without being remembered.
//!
//! The server is only ever reached from outside: its command line, its port, its folder, signals to its process.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, reports on stdout, and runs a real process in real time"
)]

#[cfg(feature = "cluster")]
pub(crate) mod cluster;
pub(crate) mod fates;
#[cfg(feature = "cluster")]
pub(crate) mod fleet;
pub(crate) mod history;
#[cfg(feature = "cluster")]
pub(crate) mod hostile;
pub(crate) mod json;
#[cfg(feature = "cluster")]
pub(crate) mod ledger;
pub(crate) mod made;
#[cfg(feature = "cluster")]
pub(crate) mod pipeline;
pub(crate) mod raw;

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anabranch_proto::admin::v1 as admin;
use anabranch_proto::admin::v1::admin_service_client::AdminServiceClient;
use anabranch_proto::timeseries::v1 as wire;
use anabranch_proto::timeseries::v1::time_series_service_client::TimeSeriesServiceClient;
use anabranch_runtime::telemetry::Metrics;
use anabranch_storage::Store;
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt;

/// How long a server may take until it listens.
pub(crate) const READY_WITHIN: Duration = Duration::from_secs(120);

/// The binary under test: the one that cargo built beside this test, or the one that `ANABRANCH_BIN` names.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("ANABRANCH_BIN")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_anabranch")), PathBuf::from)
}

/// A number from the environment.
pub(crate) fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{variable}=`{text}` is not a number")),
        Err(_) => default,
    }
}

/// Where a test's clients run.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// A temporary folder beside the build, so that large data does not fill a small `/tmp`.
pub(crate) fn folder(name: &str) -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix(&format!("anabranch-{name}-"))
        .tempdir()
        .unwrap()
}

/// A process that was started and may not listen yet. Killed when dropped.
pub(crate) struct Started {
    child: Child,
    first_line: Receiver<String>,
    stderr: PathBuf,
    /// The child is a program that the server was started under.
    under: bool,
}

impl Started {
    /// Starts `anabranch serve` on a free port.
    pub(crate) fn serve(data_dir: &Path, more: &[&str]) -> Self {
        Self::serve_with(data_dir, more, &[])
    }

    /// The same with settings in its environment.
    pub(crate) fn serve_with(data_dir: &Path, more: &[&str], settings: &[(&str, &str)]) -> Self {
        Self::start(Command::new(binary()), data_dir, more, settings)
    }

    /// The same as the child of another program, which ends with it: its words come before the binary.
    pub(crate) fn serve_under(program: &[&str], data_dir: &Path) -> Self {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).arg(binary());
        let mut started = Self::start(command, data_dir, &[], &[]);
        started.under = true;
        started
    }

    /// The server's own process: signals go to it, not to what it was started under.
    fn pid(&self) -> Option<String> {
        let child = self.child.id();
        if !self.under {
            return Some(child.to_string());
        }
        let children = fs::read_to_string(format!("/proc/{child}/task/{child}/children")).ok()?;
        children.split_whitespace().next().map(str::to_owned)
    }

    fn signal(&self, signal: &str) {
        if let Some(pid) = self.pid() {
            let _ = Command::new("kill").args([signal, &pid]).status();
        }
    }

    fn start(mut command: Command, data_dir: &Path, more: &[&str], settings: &[(&str, &str)]) -> Self {
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data_dir)
            .args(more)
            .envs(settings.iter().copied());
        Self::spawn(command, data_dir.parent().unwrap())
    }

    /// Starts what says where it listens; its log and whatever it leaves are in a folder.
    fn spawn(mut command: Command, beside: &Path) -> Self {
        let stderr = beside.join("stderr.log");
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&stderr)
            .unwrap();
        let mut child = command
            .current_dir(beside)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(log))
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", binary().display()));
        let stdout = child.stdout.take().unwrap();
        let (send, first_line) = sync_channel(1);
        // Reads to the end, so that the server can always print.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = send.try_send(line);
            }
        });
        Self {
            child,
            first_line,
            stderr,
            under: false,
        }
    }

    /// Waits for `listening on http://HOST:PORT`, always the first line on stdout.
    pub(crate) fn ready(mut self) -> Result<Server, String> {
        let line = match self.first_line.recv_timeout(READY_WITHIN) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                return Err(format!("not ready within {READY_WITHIN:?}: {}", self.log_end()));
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.child.wait().unwrap();
                return Err(format!(
                    "ended with {status} before it listened: {}",
                    self.log_end()
                ));
            }
        };
        let address = line
            .strip_prefix("listening on http://")
            .unwrap_or_else(|| panic!("the first line on stdout is `{line}`"));
        Ok(Server {
            address: address.parse().unwrap(),
            started: self,
        })
    }

    /// SIGKILL, whether it listens yet or not.
    pub(crate) fn kill(mut self) {
        self.signal("-KILL");
        self.child.wait().unwrap();
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if self.under {
            self.signal("-KILL");
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a test runs: what has to hold on an embedded store has to hold on a fleet.
pub(crate) enum Lane {
    /// One process on a folder.
    Embedded(PathBuf),
    /// A server, a planner and a splitter on a real Cassandra and a real Kafka.
    #[cfg(feature = "cluster")]
    Fleet(Box<fleet::Fleet>),
}

impl Lane {
    /// The embedded store, in a folder.
    pub(crate) fn embedded(folder: &Path) -> Self {
        Self::Embedded(folder.join("data"))
    }

    /// Starts a server that has to become ready, on what earlier ones of this lane have left.
    pub(crate) fn serve(&self) -> Server {
        match self {
            Self::Embedded(data_dir) => Server::start(data_dir),
            #[cfg(feature = "cluster")]
            Self::Fleet(fleet) => fleet.start("serve"),
        }
    }

    /// Does something to the store past the server of this lane. One process owns an embedded store: there the server is
    /// ended first, and another one started.
    pub(crate) async fn past<T>(&self, server: &mut Server, act: impl AsyncFnOnce(Store) -> T) -> T {
        match self {
            Self::Embedded(data_dir) => {
                server.end();
                let opened = anabranch_storage::open::embedded(data_dir, &Metrics::default());
                let done = act(opened.unwrap()).await;
                *server = self.serve();
                done
            }
            #[cfg(feature = "cluster")]
            Self::Fleet(fleet) => act(fleet.store().await).await,
        }
    }
}

/// A server that listens. Killed when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    started: Started,
}

impl Server {
    /// Starts a server that has to become ready.
    pub(crate) fn start(data_dir: &Path) -> Self {
        Started::serve(data_dir, &[])
            .ready()
            .unwrap_or_else(|why| panic!("{why}"))
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// SIGKILL.
    pub(crate) fn kill(self) {
        self.started.kill();
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.end()
    }

    /// The same, and it is kept as what it was.
    pub(crate) fn end(&mut self) -> ExitStatus {
        self.started.signal("-TERM");
        let since = Instant::now();
        loop {
            if let Some(status) = self.started.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                since.elapsed() < Duration::from_secs(60),
                "the server does not stop: {}",
                self.started.log_end()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// True while the process lives.
    pub(crate) fn runs(&mut self) -> bool {
        self.started.child.try_wait().unwrap().is_none()
    }

    /// Everything that servers on this data folder have said on stderr.
    pub(crate) fn log(&self) -> String {
        self.started.log()
    }

    /// The most memory that the process has had at once, in bytes.
    pub(crate) fn rss_peak(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.started.pid().unwrap())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib * 1024
    }

    pub(crate) async fn channel(&self) -> Channel {
        Endpoint::from_shared(self.url())
            .unwrap()
            .connect_timeout(Duration::from_secs(10))
            .initial_stream_window_size(8 << 20)
            .initial_connection_window_size(32 << 20)
            .connect()
            .await
            .unwrap()
    }

    pub(crate) async fn events(&self) -> Events {
        events(self.channel().await)
    }

    pub(crate) async fn admin(&self) -> Admin {
        AdminServiceClient::new(self.channel().await)
    }

    /// Runs a client command of the binary against this server and returns its stdout; it has to succeed.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let output = Command::new(binary())
            .args(arguments)
            .args(["--server", &self.url()])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "anabranch {arguments:?} ended with {}: {stderr}",
            output.status
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it counts, as Prometheus reads it.
    pub(crate) fn metrics(&self) -> String {
        let mut connection = TcpStream::connect(self.address).unwrap();
        let request = format!(
            "GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.address
        );
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer
    }

    /// No task of the server may ever panic.
    pub(crate) fn assert_no_panic(&self) {
        let log = self.log();
        let panics: Vec<_> = log.lines().filter(|line| line.contains("panicked")).collect();
        assert!(panics.is_empty(), "the server panicked: {panics:#?}");
    }
}

pub(crate) type Events = TimeSeriesServiceClient<Channel>;
pub(crate) type Admin = AdminServiceClient<Channel>;

pub(crate) fn events(channel: Channel) -> Events {
    TimeSeriesServiceClient::new(channel)
        .max_decoding_message_size(64 << 20)
        .max_encoding_message_size(64 << 20)
}

/// A namespace that accepts events of any age.
pub(crate) fn namespace(name: &str) -> admin::Namespace {
    admin::Namespace {
        name: name.to_owned(),
        accept_limit: Some(duration(0)),
        ..admin::Namespace::default()
    }
}

/// The same, whose partitions of more than `detect_bytes` are split into targets of `target_bytes`.
pub(crate) fn split_namespace(name: &str, detect_bytes: i64, target_bytes: i64) -> admin::Namespace {
    admin::Namespace {
        wide_partition: Some(admin::WidePartition {
            detect_bytes: Some(detect_bytes),
            target_bytes: Some(target_bytes),
            ..admin::WidePartition::default()
        }),
        ..namespace(name)
    }
}

pub(crate) async fn create(client: &mut Admin, namespace: admin::Namespace) -> admin::Namespace {
    let request = admin::CreateNamespaceRequest {
        namespace: Some(namespace),
    };
    client.create_namespace(request).await.unwrap().into_inner()
}

/// An event of two hundred bytes and its number.
pub(crate) fn event(time_series_id: &str, event_time: prost_types::Timestamp, n: i64) -> wire::EventRecord {
    wire::EventRecord {
        time_series_id: time_series_id.to_owned(),
        event_time: Some(event_time),
        event_id: format!("{n:05}"),
        event_items: vec![wire::EventItem {
            event_item_key: "value".to_owned(),
            event_item_value: format!("{n:0>200}").into(),
        }],
    }
}

/// Writes events into a namespace.
pub(crate) async fn write(
    server: &Server,
    namespace: &str,
    events: Vec<wire::EventRecord>,
) -> Result<(), tonic::Status> {
    let request = wire::WriteEventRecordsSyncRequest {
        namespace: namespace.to_owned(),
        events,
    };
    let written = server.events().await.write_event_records_sync(request).await;
    written.map(drop)
}

/// The time slices of a namespace, oldest first; a thousand at most.
pub(crate) async fn time_slices(server: &Server, namespace: &str) -> Vec<admin::TimeSlice> {
    let request = admin::ListTimeSlicesRequest {
        namespace: namespace.to_owned(),
        page_size: 1_000,
        page_token: String::new(),
    };
    let page = server.admin().await.list_time_slices(request).await.unwrap();
    page.into_inner().time_slices
}

pub(crate) fn duration(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

pub(crate) fn timestamp(micros: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        nanos: i32::try_from(micros.rem_euclid(1_000_000)).unwrap() * 1_000,
    }
}

pub(crate) fn micros(time: &prost_types::Timestamp) -> i64 {
    time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000
}

/// The reason of a status, when the server gave one.
pub(crate) fn reason(status: &tonic::Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason)
}

/// Every split of a namespace.
pub(crate) async fn splits(server: &Server, namespace: &str) -> Vec<admin::Split> {
    let mut client = server.admin().await;
    let mut splits = Vec::new();
    let mut request = admin::ListSplitsRequest {
        namespace: namespace.to_owned(),
        page_size: 1_000,
        ..admin::ListSplitsRequest::default()
    };
    loop {
        let page = client.list_splits(request.clone()).await.unwrap().into_inner();
        splits.extend(page.splits);
        if page.next_page_token.is_empty() {
            return splits;
        }
        request.page_token = page.next_page_token;
    }
}

/// Takes a split back, and sends its partition round again.
pub(crate) async fn send_round_again(server: &Server, namespace: &str, partition: Option<admin::Partition>) {
    let mut client = server.admin().await;
    let request = admin::InvalidateSplitRequest {
        namespace: namespace.to_owned(),
        partition: partition.clone(),
    };
    client.invalidate_split(request).await.unwrap();
    let request = admin::RetrySplitRequest {
        namespace: namespace.to_owned(),
        partition,
    };
    client.retry_split(request).await.unwrap();
}

/// What sorts an event: its time, then the bytes of its id.
pub(crate) fn event_key(event: &wire::EventRecord) -> (i64, &str) {
    (micros(event.event_time.as_ref().unwrap()), &event.event_id)
}

/// Reads a whole time series in pages, and holds the rules that every walk must keep: each page within its size, no
/// page short without a token, one context a page, and the end where the token is empty.
pub(crate) async fn walk(
    client: &mut Events,
    request: wire::ReadEventRecordsRequest,
) -> Result<Vec<wire::EventRecord>, tonic::Status> {
    walk_pages(client, request, |_| {}).await
}

/// The same, and `look` sees each page.
pub(crate) async fn walk_pages(
    client: &mut Events,
    request: wire::ReadEventRecordsRequest,
    mut look: impl FnMut(&wire::ReadEventRecordsResponse),
) -> Result<Vec<wire::EventRecord>, tonic::Status> {
    let mut request = request;
    let mut records = Vec::new();
    let page_max = if request.page_size == 0 {
        1_000
    } else {
        usize::try_from(request.page_size).unwrap()
    };
    let mut empty_pages = 0;
    loop {
        let page = client.read_event_records(request.clone()).await?.into_inner();
        assert!(
            page.records.len() <= page_max,
            "{} records on a page of {page_max}",
            page.records.len()
        );
        assert_eq!(page.response_context.len(), 1, "one context a namespace");
        look(&page);
        empty_pages = if page.records.is_empty() {
            empty_pages + 1
        } else {
            0
        };
        assert!(empty_pages < 1_000, "a walk that does not move on");
        records.extend(page.records);
        if page.next_page_token.is_empty() {
            return Ok(records);
        }
        request.page_token = page.next_page_token;
    }
}

/// A copy of a folder and all that is in it.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Every file below a folder, by its path in the folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    fn gather(folder: &Path, inside: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let path = inside.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                gather(&entry.path(), &path, files);
            } else {
                files.push(path);
            }
        }
    }
    let mut all = Vec::new();
    gather(folder, Path::new(""), &mut all);
    all.sort();
    all
}

/// Writes lines to a file, through gzip when its name ends so.
pub(crate) fn write_lines(path: &Path, lines: impl Iterator<Item = String>) {
    let file = File::create(path).unwrap();
    let mut out: Box<dyn Write> = if path.extension().is_some_and(|e| e == "gz") {
        Box::new(flate2::write::GzEncoder::new(file, flate2::Compression::fast()))
    } else {
        Box::new(std::io::BufWriter::new(file))
    };
    for line in lines {
        writeln!(out, "{line}").unwrap();
    }
    out.flush().unwrap();
}
