//! SIGKILL at the writes, syncs and renames of a server that walks every state of the split pipeline.
//!
//! ```text
//! loaded folder ─copy─▶ serve under strace: read ─▶ … ─▶ Completed ─▶ invalidate ─▶ split again      KILL at call N
//!                       serve: every acked event once, in order; the split converges; the plan is the undisturbed one
//! ```
//!
//! The calls of an undisturbed run are counted by thread; points are spread over them. `ANABRANCH_KILL_POINTS` says how
//! many (6); 1,000 of them: `ANABRANCH_KILL_POINTS=1000 cargo test -p anabranch --test split_kill -- --nocapture`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, reports on stdout, and runs a real process in real time"
)]

mod harness;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anabranch_proto::admin::v1 as admin;
use anabranch_proto::admin::v1::admin_service_client::AdminServiceClient;
use anabranch_proto::timeseries::v1 as wire;
use harness::{Server, Started};
use tonic::transport::{Channel, Endpoint};

const NAMESPACE: &str = "points";
const ID: &str = "wide";
const EVENTS: i64 = 1_200;
const CALLS: [&str; 6] = ["write", "pwrite64", "fdatasync", "fsync", "rename", "renameat2"];
const CONVERGES_WITHIN: Duration = Duration::from_secs(60);

/// What a target has to hold, whatever generation wrote it.
type Plan = Vec<(Option<prost_types::Timestamp>, String, i64, i64, String)>;

#[test]
fn a_split_that_was_killed_anywhere_ends_as_one_that_was_not() {
    if Command::new("strace").arg("-V").output().is_err() {
        panic!("strace is missing: install it, or run dev/test, which does");
    }
    let points = usize::try_from(harness::number("ANABRANCH_KILL_POINTS", 6)).unwrap();
    let runtime = harness::runtime();
    let place = harness::folder("split-kill");
    let loaded = place.path().join("loaded");
    runtime.block_on(load(&loaded));

    let whole = place.path().join("whole");
    harness::copy_folder(&loaded, &whole);
    let trace = place.path().join("trace");
    let (plan, log) = {
        let server = traced(&whole, &["-o", trace.to_str().unwrap()]).ready().unwrap();
        runtime.block_on(script(&server)).unwrap();
        let plan = runtime.block_on(converged(&server));
        server.assert_no_panic();
        assert!(server.stop().success());
        (plan, std::fs::read_to_string(&trace).unwrap())
    };
    assert!(plan.len() > 1, "{plan:?}");
    let calls = counts(&log);
    let total: usize = calls.values().sum();
    println!("{total} calls in an undisturbed run: {calls:?}; {points} points");

    let since = Instant::now();
    let mut killed = 0;
    for point in 0..points {
        let (call, number) = nth(&calls, point * total / points);
        let data = place.path().join(format!("point{point}")).join("data");
        harness::copy_folder(&loaded, &data);
        let inject = format!("inject={call}:signal=KILL:when={number}");
        let died = match traced(&data, &["-o", "/dev/null", "-e", &inject]).ready() {
            Err(_) => true,
            Ok(server) => {
                let ended = runtime.block_on(script(&server));
                if ended.is_ok() {
                    server.kill();
                }
                ended.is_err()
            }
        };
        killed += usize::from(died);
        let server = Server::start(&data);
        let context = format!("point {point}: {call} number {number}");
        runtime.block_on(async {
            assert_eq!(read(&server).await.unwrap(), EVENTS, "{context}");
            assert_eq!(converged(&server).await, plan, "{context}");
            assert_eq!(read(&server).await.unwrap(), EVENTS, "{context}");
        });
        server.assert_no_panic();
        assert!(server.stop().success());
        std::fs::remove_dir_all(data.parent().unwrap()).unwrap();
    }
    println!(
        "{killed} of {points} points died of it; all converged to the same plan, in {:.1?}",
        since.elapsed()
    );
    assert!(killed * 2 > points, "most points have to be met");
}

/// Starts `serve` under strace, which watches only the calls that may be killed.
fn traced(data: &Path, more: &[&str]) -> Started {
    let calls = format!("trace={}", CALLS.join(","));
    let mut before = vec!["strace", "-f", "-qq", "-e", &calls, "-e", "signal=none"];
    before.extend(more);
    Started::serve_under(&before, data)
}

/// How often each call was made, by the thread that made it most.
fn counts(log: &str) -> BTreeMap<String, usize> {
    let mut by_thread: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in log.lines() {
        let mut words = line.split_whitespace();
        let (Some(thread), Some(rest)) = (words.next(), words.next()) else {
            continue;
        };
        let call = rest.split('(').next().unwrap_or_default();
        if CALLS.contains(&call) {
            *by_thread.entry((call.to_owned(), thread.to_owned())).or_default() += 1;
        }
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for ((call, _), count) in by_thread {
        let most = counts.entry(call).or_default();
        *most = (*most).max(count);
    }
    counts
}

/// The call at a place in the row of all of them, and its number from 1.
fn nth(calls: &BTreeMap<String, usize>, mut place: usize) -> (String, usize) {
    for (call, count) in calls {
        if place < *count {
            return (call.clone(), place + 1);
        }
        place -= count;
    }
    panic!("no call at this place");
}

fn time(n: i64) -> prost_types::Timestamp {
    harness::timestamp(1_767_571_200_000_000 + n / 3 * 1_000_000)
}

async fn load(data: &Path) {
    let server = Server::start(data);
    let namespace = harness::split_namespace(NAMESPACE, 16 << 10, 32 << 10);
    harness::create(&mut server.admin().await, namespace).await;
    let event = |n: i64| harness::event(ID, time(n), n);
    let events = (0..EVENTS).map(event).collect();
    harness::write(&server, NAMESPACE, events).await.unwrap();
    server.run(&["namespace", "seal", NAMESPACE]);
    assert!(server.stop().success());
}

/// Reads everything in pages of 100 and returns how much it was; every event once and in order.
async fn read(server: &Server) -> Result<i64, tonic::Status> {
    let request = wire::ReadEventRecordsRequest {
        namespace: NAMESPACE.to_owned(),
        time_series_id: ID.to_owned(),
        page_size: 100,
        latency_slo: Some(harness::duration(60)),
        ..wire::ReadEventRecordsRequest::default()
    };
    let records = harness::walk(&mut harness::events(connect(server).await?), request).await?;
    for (at, record) in (0..EVENTS).rev().zip(&records) {
        assert_eq!(record.event_id, format!("{at:05}"));
        assert_eq!(record.event_time, Some(time(at)));
    }
    Ok(i64::try_from(records.len()).unwrap())
}

/// A server that is killed may be gone before anybody talks to it.
async fn connect(server: &Server) -> Result<Channel, tonic::Status> {
    let endpoint = Endpoint::from_shared(server.url()).unwrap();
    let channel = endpoint.connect().await;
    channel.map_err(|error| tonic::Status::unavailable(error.to_string()))
}

async fn split(server: &Server) -> Result<Option<admin::Split>, tonic::Status> {
    let mut client = AdminServiceClient::new(connect(server).await?);
    let list = admin::ListSplitsRequest {
        namespace: NAMESPACE.to_owned(),
        ..admin::ListSplitsRequest::default()
    };
    let splits = client.list_splits(list).await?.into_inner().splits;
    let Some(partition) = splits.into_iter().next().and_then(|split| split.partition) else {
        return Ok(None);
    };
    let get = admin::GetSplitRequest {
        namespace: NAMESPACE.to_owned(),
        partition: Some(partition),
    };
    Ok(Some(client.get_split(get).await?.into_inner()))
}

async fn completed(server: &Server) -> Result<admin::Split, tonic::Status> {
    let since = Instant::now();
    loop {
        let found = split(server).await?;
        if let Some(split) = &found
            && split.state() == admin::split::State::Completed
        {
            return Ok(split.clone());
        }
        assert!(
            since.elapsed() < CONVERGES_WITHIN,
            "it does not converge: {found:?}"
        );
        // What was killed before it was stored is found by the next wide read.
        read(server).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Walks every state: detected, planned, split, proved, invalidated, and round again.
async fn script(server: &Server) -> Result<(), tonic::Status> {
    read(server).await?;
    let split = completed(server).await?;
    let mut client = AdminServiceClient::new(connect(server).await?);
    let request = admin::InvalidateSplitRequest {
        namespace: NAMESPACE.to_owned(),
        partition: split.partition.clone(),
    };
    client.invalidate_split(request).await?;
    let request = admin::PlanSplitRequest {
        namespace: NAMESPACE.to_owned(),
        partition: split.partition,
        dry_run: false,
    };
    client.plan_split(request).await?;
    completed(server).await.map(drop)
}

async fn converged(server: &Server) -> Plan {
    let split = completed(server).await.unwrap();
    let targets = split.targets.into_iter().filter(|target| target.serving);
    targets
        .map(|target| {
            let admin::SplitTarget {
                oldest_event_time,
                oldest_event_id,
                bytes,
                events,
                checksum,
                ..
            } = target;
            (oldest_event_time, oldest_event_id, bytes, events, checksum)
        })
        .collect()
}
