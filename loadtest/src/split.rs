//! How long a wide partition takes to heal: from the answer that crossed the threshold to the first read from targets.
//!
//! ```text
//! load, seal ─▶ read until it is too wide ─▶ …detected, surveyed, copied, proved… ─▶ a page from targets
//!               └ pages of another id, one after the other, before and meanwhile
//! raw engine: scan ─▶ batched write ─▶ scan of the same rows, in this process
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anabranch_proto::admin::v1::admin_service_client::AdminServiceClient;
use anabranch_proto::admin::v1::{
    CreateNamespaceRequest, ListSplitsRequest, Namespace, SealTimeSlicesRequest, WidePartition, split,
};
use anabranch_proto::timeseries::v1::response_context::ServedFrom;
use anabranch_runtime::Tasks;
use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::child::{Scratch, Service, tail};
use crate::client::{self, Client, NAMESPACE};
use crate::clock::{self, now};
use crate::latency::{Latencies, Percentiles, millis};
use crate::machine::{Family, Machine, Neighbours, Watch, peak_rss_of};
use crate::options::Options;
use crate::raw::Raw;
use crate::reads::{self, Wide};

const DETECT_BYTES: u64 = 16 << 20;
const TARGET_BYTES: u64 = 4 << 20;
const HEALED_WITHIN: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(5);

/// What a run found.
#[derive(Clone, Debug, Serialize)]
pub struct SplitReport {
    /// True for a build without optimizations: its figures say nothing.
    pub debug_build: bool,
    /// Where it ran.
    pub machine: Machine,
    /// Size of the partition, in millions of bytes.
    pub wide_mb: u64,
    /// Targets that it was split into.
    pub targets: i64,
    /// From the answer that crossed the threshold until the split was Completed.
    pub completed_seconds: f64,
    /// From the same answer until a read came from targets.
    pub served_seconds: f64,
    /// The raw engine: a scan of the rows.
    pub raw_scan_seconds: f64,
    /// The raw engine: writing them once more, in batches.
    pub raw_write_seconds: f64,
    /// The raw engine: a scan of what was written.
    pub raw_scan_again_seconds: f64,
    /// Newest pages of 1,000 of another id, before.
    pub foreground_before: Percentiles,
    /// The same while the partition was split.
    pub foreground_meanwhile: Percentiles,
    /// Walking the whole id in pages of 1,000 through originals, every byte checked.
    pub walk_originals_seconds: f64,
    /// The same through targets.
    pub walk_targets_seconds: f64,
    /// The most memory the server had at once before the split, in bytes.
    pub server_peak_rss_before: u64,
    /// The same in all.
    pub server_peak_rss_after: u64,
    /// Who else used the machine.
    pub neighbours: Vec<Neighbours>,
}

/// Measures it. `say` is told what is going on.
pub async fn run(options: Options, say: &(dyn Fn(&str) + Send + Sync)) -> Result<SplitReport> {
    options.check()?;
    let scratch = Scratch::make(&options.folder)?;
    let log = scratch.0.join("server.log");
    let report = measure(&options, &scratch, say).await;
    report.with_context(|| format!("the server's log ends with:\n{}", tail(&log)))
}

async fn measure(
    options: &Options,
    scratch: &Scratch,
    say: &(dyn Fn(&str) + Send + Sync),
) -> Result<SplitReport> {
    let wide = Wide::of_megabytes(options.wide_mb);
    let small = Wide::of_megabytes(1);
    say("the raw engine: scan, batched write, scan");
    let raw = raw(options, scratch, &wide).await?;

    say("starting the server, loading both ids");
    let server = Service::server(&options.server, scratch).await?;
    let mut admin = AdminServiceClient::new(client::channel(&server.url).await?);
    create_namespace(&mut admin, options.wide_mb).await?;
    let mut client = client::connect(&server.url).await?;
    reads::load(&client, options.seed, &small).await?;
    reads::load(&client, options.seed, &wide).await?;
    let seal = SealTimeSlicesRequest {
        namespace: NAMESPACE.to_owned(),
        before: None,
    };
    admin.seal_time_slices(seal).await?;
    clock::sleep(Duration::from_secs(3)).await;

    let family = Family(vec![server.pid()]);
    let watch = Watch::start(&family);
    say("pages of another id, at rest");
    let window = Duration::from_secs_f64(options.seconds);
    let before = foreground(
        client::connect(&server.url).await?,
        small.clone(),
        Stop::After(window),
    )
    .await?;
    let server_peak_rss_before = peak_rss_of(server.pid());

    say("reading the wide id until it is too wide, and until it is served from targets");
    let (stop, tasks) = (Arc::new(AtomicBool::new(false)), Tasks::new());
    let other = client::connect(&server.url).await?;
    let meanwhile = tasks.spawn(
        "foreground",
        foreground(other, small.clone(), Stop::When(stop.clone())),
    );
    cross_threshold(&mut client, &wide).await?;
    let crossed = now();
    let (targets, completed) = completed(&mut admin).await?;
    let completed_seconds = completed.duration_since(crossed).as_secs_f64();
    while !from_targets(&mut client, &wide).await? {
        ensure!(crossed.elapsed() < HEALED_WITHIN, "no read comes from targets");
        clock::sleep(POLL).await;
    }
    let served_seconds = crossed.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    let foreground_meanwhile = meanwhile.await??.summary();

    say("walking the wide id through targets");
    let walk_targets = reads::walk(&mut client, options.seed, &wide, 1_000, true).await?;
    set_rollout(
        &mut admin,
        anabranch_proto::admin::v1::wide_partition::Rollout::Detect,
    )
    .await?;
    ensure!(
        !from_targets(&mut client, &wide).await?,
        "the rollout DETECT serves from targets"
    );
    say("walking the wide id through originals");
    let walk_originals = reads::walk(&mut client, options.seed, &wide, 1_000, true).await?;
    Ok(SplitReport {
        debug_build: cfg!(debug_assertions),
        machine: Machine::look(&scratch.0),
        wide_mb: options.wide_mb,
        targets,
        completed_seconds,
        served_seconds,
        raw_scan_seconds: raw[0].as_secs_f64(),
        raw_write_seconds: raw[1].as_secs_f64(),
        raw_scan_again_seconds: raw[2].as_secs_f64(),
        foreground_before: before.summary(),
        foreground_meanwhile,
        walk_originals_seconds: walk_originals.as_secs_f64(),
        walk_targets_seconds: walk_targets.as_secs_f64(),
        server_peak_rss_before,
        server_peak_rss_after: peak_rss_of(server.pid()),
        neighbours: vec![watch.end("split", &family)],
    })
}

type Admin = AdminServiceClient<tonic::transport::Channel>;

async fn create_namespace(admin: &mut Admin, wide_mb: u64) -> Result<()> {
    let targets = (wide_mb << 20).div_ceil(TARGET_BYTES) + 16;
    let namespace = Namespace {
        name: NAMESPACE.to_owned(),
        accept_limit: Some(prost_types::Duration::default()),
        seconds_per_time_slice: Some(0),
        seconds_per_time_bucket: Some(100 * 366 * 86_400),
        wide_partition: Some(WidePartition {
            detect_bytes: Some(i64::try_from(DETECT_BYTES)?),
            target_bytes: Some(i64::try_from(TARGET_BYTES)?),
            targets_max: Some(i32::try_from(targets.clamp(2, 1_024))?),
            // What the machine can do is measured, not the throttle.
            split_bytes_per_second: Some(8 << 30),
            ..WidePartition::default()
        }),
        ..Namespace::default()
    };
    let request = CreateNamespaceRequest {
        namespace: Some(namespace),
    };
    admin
        .create_namespace(request)
        .await
        .context("can not make a namespace")?;
    Ok(())
}

async fn set_rollout(
    admin: &mut Admin,
    rollout: anabranch_proto::admin::v1::wide_partition::Rollout,
) -> Result<()> {
    let request = anabranch_proto::admin::v1::UpdateNamespaceRequest {
        namespace: Some(Namespace {
            name: NAMESPACE.to_owned(),
            wide_partition: Some(WidePartition {
                rollout: rollout.into(),
                ..WidePartition::default()
            }),
            ..Namespace::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["wide_partition.rollout".to_owned()],
        }),
    };
    admin.update_namespace(request).await?;
    Ok(())
}

enum Stop {
    After(Duration),
    When(Arc<AtomicBool>),
}

/// Newest pages of an id, one after the other.
async fn foreground(mut client: Client, id: Wide, stop: Stop) -> Result<Latencies> {
    let mut latencies = Latencies::new()?;
    let began = now();
    loop {
        match &stop {
            Stop::After(window) if began.elapsed() >= *window => return Ok(latencies),
            Stop::When(stopped) if stopped.load(Ordering::Relaxed) => return Ok(latencies),
            _ => {}
        }
        let sent = now();
        client::read(&mut client, &id.id, 1_000, String::new()).await?;
        latencies.record(sent.elapsed());
        // A user who does nothing else would be a load of its own.
        clock::sleep(Duration::from_millis(2)).await;
    }
}

async fn cross_threshold(client: &mut Client, wide: &Wide) -> Result<()> {
    let (mut bytes, mut token) = (0, String::new());
    while bytes <= DETECT_BYTES {
        let page = client::read(client, &wide.id, 1_000, token).await?;
        let read: i64 = page
            .response_context
            .iter()
            .map(|context| context.bytes_read)
            .sum();
        bytes += u64::try_from(read)?;
        token = page.next_page_token;
        ensure!(!token.is_empty(), "the id is not wide enough: only {bytes} bytes");
    }
    Ok(())
}

async fn from_targets(client: &mut Client, wide: &Wide) -> Result<bool> {
    let page = client::read(client, &wide.id, 1, String::new()).await?;
    let context = page
        .response_context
        .first()
        .context("an answer without a context")?;
    Ok(context.served_from() != ServedFrom::Original)
}

/// The targets of the one split, and when it was seen to be Completed.
async fn completed(admin: &mut Admin) -> Result<(i64, std::time::Instant)> {
    let began = now();
    loop {
        let request = ListSplitsRequest {
            namespace: NAMESPACE.to_owned(),
            ..ListSplitsRequest::default()
        };
        let splits = admin.list_splits(request).await?.into_inner().splits;
        if let Some(split) = splits
            .iter()
            .find(|split| split.state() == split::State::Completed)
        {
            return Ok((i64::from(split.target_count), now()));
        }
        ensure!(
            began.elapsed() < HEALED_WITHIN,
            "the partition is not split: {splits:?}"
        );
        clock::sleep(POLL).await;
    }
}

async fn raw(options: &Options, scratch: &Scratch, wide: &Wide) -> Result<[Duration; 3]> {
    let raw = Raw::open(&scratch.0.join("raw"))?;
    let (seed, id) = (options.seed, wide.clone());
    let work = move || {
        raw.load(seed, &id.id, id.events)?;
        std::thread::sleep(Duration::from_secs(3));
        raw.copy(&id.id, id.events)
    };
    tokio::task::spawn_blocking(work).await?
}

impl SplitReport {
    /// For people.
    pub fn table(&self) -> String {
        let raw = self.raw_scan_seconds + self.raw_write_seconds + self.raw_scan_again_seconds;
        let warning = if self.debug_build {
            "A DEBUG BUILD: these figures say nothing.\n"
        } else {
            ""
        };
        let others: f64 = self.neighbours.iter().map(|n| n.others_cores).fold(0.0, f64::max);
        format!(
            "{warning}a partition of {} MB, split into {} targets on {}; others used {others:.2} cores.\n\
             detect to Completed   {:>8.2} s\n\
             detect to served      {:>8.2} s   {:.2} times raw scan {:.2} s + batched write {:.2} s + scan {:.2} s   (goal <= 1.50)\n\
             foreground page of 1,000, p99: {} before, {} meanwhile: {:.2} times   (goal <= 1.50)\n\
             whole id in pages of 1,000, every byte checked: {:.2} s through originals, {:.2} s through targets\n\
             server peak memory: {} MiB before, {} MiB after",
            self.wide_mb,
            self.targets,
            self.machine.processor,
            self.completed_seconds,
            self.served_seconds,
            self.served_seconds / raw,
            self.raw_scan_seconds,
            self.raw_write_seconds,
            self.raw_scan_again_seconds,
            millis(self.foreground_before.p99_micros),
            millis(self.foreground_meanwhile.p99_micros),
            self.foreground_meanwhile.p99_micros as f64 / self.foreground_before.p99_micros as f64,
            self.walk_originals_seconds,
            self.walk_targets_seconds,
            self.server_peak_rss_before >> 20,
            self.server_peak_rss_after >> 20,
        )
    }
}
