//! A real history heals itself: loaded into slices and buckets of a year, sealed, every id walked once, and with nobody
//! doing anything every partition over the threshold is split or found not worth it; then every id reads back byte for
//! byte, through the targets where there are some.
//!
//! Once on an embedded store, and once with a planner and a splitter as processes of their own on a real Cassandra and Kafka.
//!
//! The input is that of `history.rs`: made, or the file that `ANABRANCH_HISTORY` names.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, reports on stdout, and runs a real process in real time"
)]

mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anabranch_proto::admin::v1 as admin;
use anabranch_proto::timeseries::v1 as wire;
use harness::history::{Truth, read_back, read_truth};
use harness::{Lane, Server};
use wire::response_context::ServedFrom;

const NAMESPACE: &str = "healed";
const YEAR: i64 = 365 * 86_400;
const HEALED_WITHIN: Duration = Duration::from_secs(600);

/// What is wide, and how large a target is to be: a made history is a small one.
fn sizes() -> (u64, u64) {
    if std::env::var_os("ANABRANCH_HISTORY").is_some() {
        (64 << 10, 16 << 10)
    } else {
        (8 << 10, 2 << 10)
    }
}

/// Slice and id: with one bucket a slice and one event bucket that is a partition.
type Place = (String, String);

#[test]
fn every_wide_partition_of_a_history_heals_by_being_read() {
    let place = harness::folder("split-history");
    heals(place.path(), &Lane::embedded(place.path()));
}

#[cfg(feature = "cluster")]
#[test]
fn a_planner_and_a_splitter_heal_a_history_that_a_server_reads() {
    let place = harness::folder("split-history-fleet");
    let Some(fleet) = harness::fleet::Fleet::new("split_history", place.path()) else {
        return;
    };
    let lane = Lane::Fleet(Box::new(fleet));
    // The first server makes what all share.
    drop(lane.serve());
    let Lane::Fleet(fleet) = &lane else { return };
    let workers = fleet.workers();
    heals(place.path(), &lane);
    workers.stop();
}

fn heals(place: &Path, lane: &Lane) {
    let path = harness::history::file(place);
    let (truth, events) = read_truth(&path);
    let truth = Arc::new(truth);
    println!("{events} events of {} ids", truth.len());
    let runtime = harness::runtime();
    let server = lane.serve();
    runtime.block_on(create(&server));
    server.run(&["write", NAMESPACE, "--file", path.to_str().unwrap()]);
    server.run(&["namespace", "seal", NAMESPACE]);

    let (slices, wide) = runtime.block_on(async {
        let slices = slices(&server).await;
        let wide = wide(&truth, &slices);
        let since = Instant::now();
        let pages = read_back(&server, NAMESPACE, &truth, false, 100, &|_, _| {}).await;
        println!(
            "walked once in pages of 100: {pages} pages in {:.1?}; {} partitions hold more than {} bytes",
            since.elapsed(),
            wide.len(),
            sizes().0
        );
        (slices, wide)
    });
    assert!(!wide.is_empty(), "the history has nothing wide");
    let split = runtime.block_on(healed(&server, &wide));
    server.assert_no_panic();
    runtime.block_on(read_all(
        &server,
        &truth,
        &slices,
        &split,
        &[1_000, 7, 1],
        "healed",
    ));
    println!("RSS peak {} MiB", server.rss_peak() >> 20);
    server.assert_no_panic();

    server.kill();
    let server = lane.serve();
    runtime.block_on(read_all(
        &server,
        &truth,
        &slices,
        &split,
        &[1_000],
        "after kill -9",
    ));
    server.assert_no_panic();
    assert!(server.stop().success());
}

async fn create(server: &Server) {
    let [detect_bytes, target_bytes] = [sizes().0, sizes().1].map(|bytes| i64::try_from(bytes).unwrap());
    let namespace = admin::Namespace {
        seconds_per_time_slice: Some(YEAR),
        seconds_per_time_bucket: Some(YEAR),
        ..harness::split_namespace(NAMESPACE, detect_bytes, target_bytes)
    };
    harness::create(&mut server.admin().await, namespace).await;
}

/// Start of each slice, and its name.
async fn slices(server: &Server) -> BTreeMap<i64, String> {
    let slices = harness::time_slices(server, NAMESPACE).await.into_iter();
    slices
        .map(|slice| {
            (
                harness::micros(&slice.interval.unwrap().start.unwrap()),
                slice.name,
            )
        })
        .collect()
}

fn place_of(id: &str, event: &wire::EventRecord, slices: &BTreeMap<i64, String>) -> Place {
    let time = harness::micros(event.event_time.as_ref().unwrap());
    (
        slices.range(..=time).next_back().unwrap().1.clone(),
        id.to_owned(),
    )
}

/// The partitions that hold more than the threshold, with their bytes: ids, keys and values, and 27 bytes around each
/// item (see docs/formats.md).
fn wide(truth: &Truth, slices: &BTreeMap<i64, String>) -> BTreeMap<Place, u64> {
    let mut bytes: BTreeMap<Place, u64> = BTreeMap::new();
    for (id, events) in truth {
        for event in events {
            let row = |item: &wire::EventItem| {
                id.len() + event.event_id.len() + item.event_item_key.len() + item.event_item_value.len() + 27
            };
            let rows: usize = event.event_items.iter().map(row).sum();
            *bytes.entry(place_of(id, event, slices)).or_default() += rows as u64;
        }
    }
    bytes.retain(|_, bytes| *bytes > sizes().0);
    bytes
}

fn partition(split: &admin::Split) -> Place {
    let partition = split.partition.clone().unwrap();
    (partition.time_slice, partition.time_series_id)
}

/// Waits until every wide partition is split or found not worth it; returns those that are split.
async fn healed(server: &Server, wide: &BTreeMap<Place, u64>) -> BTreeSet<Place> {
    use admin::split::State;
    let since = Instant::now();
    loop {
        let states: BTreeMap<Place, admin::Split> = harness::splits(server, NAMESPACE)
            .await
            .into_iter()
            .map(|split| (partition(&split), split))
            .collect();
        let done = |place: &Place| {
            states
                .get(place)
                .is_some_and(|split| matches!(split.state(), State::Completed | State::NotWorthIt))
        };
        let open: Vec<&Place> = wide.keys().filter(|place| !done(place)).collect();
        if open.is_empty() {
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            for split in states.values() {
                *counts.entry(split.state().as_str_name()).or_default() += 1;
            }
            println!("healed after {:.1?}: {counts:?}", since.elapsed());
            let completed = states
                .into_iter()
                .filter(|(_, split)| split.state() == State::Completed);
            return completed.map(|(place, _)| place).collect();
        }
        assert!(
            since.elapsed() < HEALED_WITHIN,
            "{} of {} partitions are not healed, such as {:?}: {:?}",
            open.len(),
            wide.len(),
            open[0],
            states.get(open[0])
        );
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Reads everything back, and demands that pages of split partitions come from targets and no others do.
async fn read_all(
    server: &Server,
    truth: &Arc<Truth>,
    slices: &BTreeMap<i64, String>,
    split: &BTreeSet<Place>,
    page_sizes: &[i32],
    when: &str,
) {
    // The filter of a server learns of a split a moment after it completed.
    tokio::time::sleep(Duration::from_secs(3)).await;
    for page_size in page_sizes {
        let (through_targets, through_originals) = (AtomicU64::new(0), AtomicU64::new(0));
        let look = |id: &str, page: &wire::ReadEventRecordsResponse| {
            let places: BTreeSet<Place> = page
                .records
                .iter()
                .map(|event| place_of(id, event, slices))
                .collect();
            let from = page.response_context[0].served_from();
            let targets = places.iter().filter(|place| split.contains(*place)).count();
            // Others may have been split since.
            if targets > 0 {
                assert_ne!(from, ServedFrom::Original, "{when}: {places:?}");
            }
            match from {
                ServedFrom::Targets => through_targets.fetch_add(1, Ordering::Relaxed),
                _ => through_originals.fetch_add(1, Ordering::Relaxed),
            };
        };
        let since = Instant::now();
        let mut pages = read_back(server, NAMESPACE, truth, false, *page_size, &look).await;
        pages += read_back(server, NAMESPACE, truth, true, *page_size, &look).await;
        println!(
            "{when}: every id both ways in pages of {page_size}: {pages} pages in {:.1?}, {} of them from targets alone",
            since.elapsed(),
            through_targets.load(Ordering::Relaxed)
        );
        assert!(through_targets.load(Ordering::Relaxed) > 0);
    }
}
