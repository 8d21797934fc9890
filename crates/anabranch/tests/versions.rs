//! Two versions of the record format side by side: what a newer version has stored of one split is read past, counted,
//! shown and left alone, while splits beside it, in the same shard, are made and served as ever.
//!
//! Once on an embedded store, and once with a planner and a splitter as processes of their own on a real Cassandra and Kafka.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and runs a real process in real time"
)]

mod harness;

use std::process::Command;
use std::time::{Duration, Instant};

use anabranch_model::{NamespaceName, PartitionKey, SliceName, TimeSeriesId};
use anabranch_proto::admin::v1 as admin;
use anabranch_proto::timeseries::v1 as wire;
use anabranch_storage::{CasOutcome, RecordKey, Store, split_shard};
use bytes::Bytes;
use harness::{Lane, Server};
use wire::response_context::ServedFrom;

const NAMESPACE: &str = "versions";
const EVENTS: i64 = 600;
/// When they begin and end: within one partition.
const FIRST_MICROS: i64 = 1_767_571_200_000_000;
const END_MICROS: i64 = FIRST_MICROS + EVENTS * 1_000_000;
const WITHIN: Duration = Duration::from_secs(180);

/// Ids whose split records lie in one shard: the first one's is written by a newer version.
fn ids() -> [String; 2] {
    let shard = |id: &str| split_shard(&TimeSeriesId::new(id).unwrap());
    let first = "newer".to_owned();
    let beside = (0..)
        .map(|n| format!("beside-{n}"))
        .find(|id| shard(id) == shard(&first));
    [first, beside.unwrap()]
}

#[test]
fn a_record_from_the_future_is_left_alone() {
    let place = harness::folder("versions");
    left_alone(&Lane::embedded(place.path()), &|server| vec![server.metrics()]);
}

#[cfg(feature = "cluster")]
#[test]
fn a_fleet_leaves_a_record_from_the_future_alone() {
    let place = harness::folder("versions-fleet");
    let Some(fleet) = harness::fleet::Fleet::new("versions", place.path()) else {
        return;
    };
    let lane = Lane::Fleet(Box::new(fleet));
    // The first server makes what all share.
    drop(lane.serve());
    let Lane::Fleet(fleet) = &lane else { return };
    let workers = fleet.workers();
    left_alone(&lane, &|server| {
        vec![
            server.metrics(),
            workers.planner.metrics(),
            workers.splitter.metrics(),
        ]
    });
    workers.stop();
}

fn left_alone(lane: &Lane, metrics: &dyn Fn(&Server) -> Vec<String>) {
    let runtime = harness::runtime();
    let mut server = lane.serve();
    let [newer, beside] = ids();
    runtime.block_on(load(&server));
    for id in [&newer, &beside] {
        runtime.block_on(until_served(&server, id, ServedFrom::Targets));
    }
    let partition = runtime.block_on(partition(&server, &newer));
    let text = format!("{}/{newer}/{}/0", partition.slice, partition.time_bucket);

    // A newer version takes the split over.
    let before = changed(lane, &mut server, &runtime, &partition, |bytes| {
        let v1: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        let v2 =
            serde_json::json!({"v2": {"tier": "cold", "was": v1["v1"], "state": {"Freezing": {"until": 1}}}});
        serde_json::to_vec(&v2).unwrap().into()
    });
    runtime.block_on(until_served(&server, &newer, ServedFrom::Original));
    let listed = server.run(&["split", "list", NAMESPACE, "-o", "table"]);
    let line = listed.lines().find(|line| line.contains(&text)).unwrap();
    assert!(
        line.contains("UNREADABLE") && line.contains("NEWER_FORMAT"),
        "{line}"
    );
    let shown = server.run(&["split", "show", NAMESPACE, &text, "-o", "table"]);
    assert!(
        shown.contains("format v2") && shown.contains("reads up to v1"),
        "{shown}"
    );
    for command in ["plan", "retry", "invalidate"] {
        let said = refused(&server, &["split", command, NAMESPACE, &text]);
        assert!(
            said.contains("SPLIT_RECORD_UNREADABLE") && said.contains("format v2"),
            "{command}: {said}"
        );
    }

    // Both workers go on with what lies beside it.
    runtime.block_on(made_anew(&server, &beside));
    runtime.block_on(until_served(&server, &beside, ServedFrom::Targets));
    runtime.block_on(until_served(&server, &newer, ServedFrom::Original));
    let told = metrics(&server).concat();
    for worker in ["planner", "splitter"] {
        let gauge = format!(
            "anabranch_{worker}_records_unreadable{{namespace=\"{NAMESPACE}\",reason=\"NEWER_FORMAT\"}} 1"
        );
        assert!(told.contains(&gauge), "{gauge}: {told}");
        assert!(
            told.contains(&format!("anabranch_{worker}_rounds_failed_total 0")),
            "{told}"
        );
    }
    let passed = "anabranch_partitions_read_from_original_total{reason=\"record_newer\"} ";
    assert!(told.contains(passed), "{told}");
    assert!(told.contains("anabranch_split_filter_failures_total 0"), "{told}");

    // The newer version goes, and gives the split back.
    let left = changed(lane, &mut server, &runtime, &partition, |_| before.clone());
    assert!(left.starts_with(b"{\"v2\":{"), "{left:?}");
    runtime.block_on(until_served(&server, &newer, ServedFrom::Targets));
    server.assert_no_panic();
    assert!(server.stop().success());
}

async fn load(server: &Server) {
    let namespace = harness::split_namespace(NAMESPACE, 16 << 10, 32 << 10);
    harness::create(&mut server.admin().await, namespace).await;
    for id in ids() {
        let event = |n: i64| harness::event(&id, harness::timestamp(FIRST_MICROS + n * 1_000_000), n);
        let events = (0..EVENTS).map(event).collect();
        harness::write(server, NAMESPACE, events).await.unwrap();
    }
    server.run(&["namespace", "seal", NAMESPACE]);
}

/// Reads an id, every event once and in order, until it comes from there.
async fn until_served(server: &Server, id: &str, expected: ServedFrom) {
    let since = Instant::now();
    loop {
        let request = wire::ReadEventRecordsRequest {
            namespace: NAMESPACE.to_owned(),
            time_series_id: id.to_owned(),
            // Nothing else is asked: a store may have to look into originals to know that they are empty.
            time_interval: Some(wire::TimeInterval {
                start: Some(harness::timestamp(FIRST_MICROS)),
                end: Some(harness::timestamp(END_MICROS)),
            }),
            page_size: 1_000,
            latency_slo: Some(harness::duration(60)),
            ..wire::ReadEventRecordsRequest::default()
        };
        let page = server.events().await.read_event_records(request).await;
        let page = page.unwrap().into_inner();
        let events = page.records.iter().map(|record| record.event_id.clone());
        assert!(events.eq((0..EVENTS).rev().map(|n| format!("{n:05}"))), "{id}");
        let from = page.response_context[0].served_from();
        if from == expected {
            return;
        }
        assert!(
            since.elapsed() < WITHIN,
            "{id} is read from {from:?}, not {expected:?}"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn splits(server: &Server) -> Vec<admin::Split> {
    let list = admin::ListSplitsRequest {
        namespace: NAMESPACE.to_owned(),
        ..admin::ListSplitsRequest::default()
    };
    let answer = server.admin().await.list_splits(list).await;
    answer.unwrap().into_inner().splits
}

async fn partition(server: &Server, id: &str) -> PartitionKey {
    let all = splits(server).await.into_iter();
    let mut partitions = all.filter_map(|split| split.partition);
    let found = partitions
        .find(|partition| partition.time_series_id == id)
        .unwrap();
    PartitionKey {
        slice: SliceName::new(found.time_slice).unwrap(),
        time_series_id: TimeSeriesId::new(found.time_series_id).unwrap(),
        time_bucket: found.time_bucket,
        event_bucket: u32::try_from(found.event_bucket).unwrap(),
    }
}

/// Takes a split back, and has its next generation made and proved.
async fn made_anew(server: &Server, id: &str) {
    let of = |split: &admin::Split| split.partition.as_ref().is_some_and(|of| of.time_series_id == id);
    let before = splits(server).await.into_iter().find(of).unwrap();
    harness::send_round_again(server, NAMESPACE, before.partition).await;
    let since = Instant::now();
    loop {
        let split = splits(server).await.into_iter().find(of).unwrap();
        if split.serving_generation > before.serving_generation {
            return;
        }
        assert!(since.elapsed() < WITHIN, "{split:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Runs a command that has to be refused, and returns what it says.
fn refused(server: &Server, arguments: &[&str]) -> String {
    let output = Command::new(harness::binary())
        .args(arguments)
        .args(["--server", &server.url()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Changes the bytes of a split's record past every process of ours, and moves its marker, as another version would.
/// What they were.
fn changed(
    lane: &Lane,
    server: &mut Server,
    runtime: &tokio::runtime::Runtime,
    partition: &PartitionKey,
    change: impl Fn(&[u8]) -> Bytes,
) -> Bytes {
    let act = async |store: Store| {
        let namespace = NamespaceName::new(NAMESPACE).unwrap();
        let split = RecordKey::Split {
            namespace: namespace.clone(),
            partition: partition.clone(),
        };
        let marker = RecordKey::SplitMarker {
            namespace,
            slice: partition.slice.clone(),
            shard: split_shard(&partition.time_series_id),
        };
        let before = put(&store, &split, &change).await;
        put(&store, &marker, &|_: &[u8]| Bytes::new()).await;
        store.status().close().unwrap();
        before
    };
    runtime.block_on(lane.past(server, act))
}

/// Changes a record that nobody else changes, and returns what it was.
async fn put(store: &Store, key: &RecordKey, change: &impl Fn(&[u8]) -> Bytes) -> Bytes {
    let stands = store.records.get(key).await.unwrap().unwrap();
    let before = stands.value.unwrap();
    let value = Some(change(&before));
    let put = store.records.compare_and_set(key, stands.version, value).await;
    assert!(matches!(put.unwrap(), CasOutcome::Applied { .. }));
    before
}
