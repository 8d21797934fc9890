//! An id that never stops growing is split while it is written and read: its sealed prefix is served from targets, its
//! tail from the original, and the boundary moves on.
//!
//! `ANABRANCH_MUTABLE_SECONDS` says for how long (25); ten minutes: `ANABRANCH_MUTABLE_SECONDS=600 cargo test --release
//! -p anabranch --test split_mutable -- --nocapture`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, reports on stdout, and runs a real process in real time"
)]

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anabranch_proto::admin::v1 as admin;
use anabranch_proto::timeseries::v1 as wire;
use harness::{Events, Server};
use hdrhistogram::Histogram;
use wire::response_context::ServedFrom;

const NAMESPACE: &str = "growing";
const ID: &str = "busy";
/// Events a second, in batches of this many.
const RATE: i64 = 1_000;
const BATCH: i64 = 20;

#[test]
fn a_growing_partition_is_split_behind_its_writers() {
    let seconds = harness::number("ANABRANCH_MUTABLE_SECONDS", 25);
    let place = harness::folder("split-mutable");
    let runtime = harness::runtime();
    let server = Server::start(&place.path().join("data"));
    runtime.block_on(async {
        let wide = admin::WidePartition {
            detect_bytes: Some(256 << 10),
            target_bytes: Some(128 << 10),
            targets_max: Some(1_000),
            ..admin::WidePartition::default()
        };
        let namespace = admin::Namespace {
            // Longer than a busy machine keeps a batch waiting.
            accept_limit: Some(harness::duration(8)),
            wide_partition: Some(wide),
            ..harness::namespace(NAMESPACE)
        };
        harness::create(&mut server.admin().await, namespace).await;

        let stop = Arc::new(AtomicBool::new(false));
        let acked = Arc::new(AtomicI64::new(0));
        let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
        let start = i64::try_from(start).unwrap();
        let writer = tokio::spawn(write(server.events().await, start, stop.clone(), acked.clone()));
        let reader = tokio::spawn(read(server.events().await, start, stop.clone(), acked.clone()));

        let since = Instant::now();
        let mut boundaries = Vec::new();
        while since.elapsed() < Duration::from_secs(seconds) {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if let Some(split) = harness::splits(&server, NAMESPACE).await.pop()
                && let Some(boundary) = split.boundary
                && split.serving_generation > 0
                && boundaries.last() != Some(&(split.serving_generation, boundary))
            {
                boundaries.push((split.serving_generation, boundary));
            }
        }
        stop.store(true, Ordering::Relaxed);
        let writes = writer.await.unwrap();
        let (walks, pages, through_targets) = reader.await.unwrap();
        println!(
            "{} events written in {seconds} s, batches of {BATCH}: p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms; {walks} walks, {pages} pages, {through_targets} through targets; {} generations served",
            acked.load(Ordering::Relaxed),
            ms(writes.value_at_quantile(0.5)),
            ms(writes.value_at_quantile(0.99)),
            ms(writes.max()),
            boundaries.len()
        );
        // A partition is detected again once a minute, so a short run sees one generation.
        let least = if seconds >= 180 { 2 } else { 1 };
        assert!(boundaries.len() >= least, "the boundary has to move: {boundaries:?}");
        let times: Vec<i64> = boundaries.iter().map(|(_, time)| harness::micros(time)).collect();
        assert!(times.windows(2).all(|pair| pair[0] <= pair[1]), "{boundaries:?}");
        assert!(through_targets > 0);
    });
    server.assert_no_panic();
    assert!(server.stop().success());
}

fn ms(micros: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let ms = micros as f64 / 1e3;
    ms
}

/// Event `n` happens when it is written: that is what the accept limit allows.
fn event(start: i64, n: i64) -> wire::EventRecord {
    wire::EventRecord {
        time_series_id: ID.to_owned(),
        event_time: Some(harness::timestamp(start + n * 1_000_000 / RATE)),
        event_id: format!("{n:09}"),
        event_items: vec![wire::EventItem {
            event_item_key: "value".to_owned(),
            event_item_value: format!("{n:0>200}").into(),
        }],
    }
}

async fn write(
    mut client: Events,
    start: i64,
    stop: Arc<AtomicBool>,
    acked: Arc<AtomicI64>,
) -> Histogram<u64> {
    let mut micros = Histogram::new_with_bounds(1, 60_000_000, 3).unwrap();
    let since = Instant::now();
    for batch in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let first = batch * BATCH;
        let due = Duration::from_micros(u64::try_from((first + BATCH) * 1_000_000 / RATE).unwrap());
        tokio::time::sleep(due.saturating_sub(since.elapsed())).await;
        let request = wire::WriteEventRecordsSyncRequest {
            namespace: NAMESPACE.to_owned(),
            events: (first..first + BATCH).map(|n| event(start, n)).collect(),
        };
        let sent = Instant::now();
        client.write_event_records_sync(request).await.unwrap();
        micros.saturating_record(u64::try_from(sent.elapsed().as_micros()).unwrap());
        acked.store(first + BATCH, Ordering::Release);
    }
    micros
}

/// Walks the id from its newest event to its first, and the other way round: no event acked before a walk began is
/// missing, and none is there twice.
async fn read(
    mut client: Events,
    start: i64,
    stop: Arc<AtomicBool>,
    acked: Arc<AtomicI64>,
) -> (u64, u64, u64) {
    let (mut walks, mut pages, mut through_targets) = (0, 0, 0);
    while !stop.load(Ordering::Relaxed) {
        let newest_first = walks % 2 == 0;
        walks += 1;
        let there = acked.load(Ordering::Acquire);
        let mut request = wire::ReadEventRecordsRequest {
            namespace: NAMESPACE.to_owned(),
            time_series_id: ID.to_owned(),
            page_size: [1_000, 100, 7][walks % 3],
            latency_slo: Some(harness::duration(30)),
            ..wire::ReadEventRecordsRequest::default()
        };
        if !newest_first {
            request.direction = wire::Direction::Ascending.into();
        }
        let mut seen: Vec<i64> = Vec::new();
        for page in 0.. {
            let answer = client
                .read_event_records(request.clone())
                .await
                .unwrap()
                .into_inner();
            pages += 1;
            through_targets += u64::from(answer.response_context[0].served_from() != ServedFrom::Original);
            for record in &answer.records {
                let n: i64 = record.event_id.parse().unwrap();
                assert_eq!(*record, event(start, n));
                seen.push(n);
            }
            // Small pages only so far: the walk would never end.
            if answer.next_page_token.is_empty() || page == 300 {
                break;
            }
            request.page_token = answer.next_page_token;
        }
        let expected: Vec<i64> = match (newest_first, seen.first().copied(), seen.len()) {
            (_, None, _) => Vec::new(),
            (true, Some(first), many) => {
                assert!(first >= there - 1, "{first} is the newest, {there} were acked");
                (0..).map(|back| first - back).take(many).collect()
            }
            (false, Some(first), many) => {
                assert_eq!(first, 0);
                (0..).take(many).collect()
            }
        };
        assert_eq!(seen, expected);
        if seen.is_empty() {
            assert_eq!(there, 0);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    (walks as u64, pages, through_targets)
}
