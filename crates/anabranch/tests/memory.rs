//! One id far too wide: it is written and walked to its end in pages of 1,000, and the server stays below 512 MiB.
//!
//! All of it lies in one partition. `ANABRANCH_WIDE_MB` says how wide (60); 500 of them:
//! `ANABRANCH_WIDE_MB=500 cargo test --release -p anabranch --test memory -- --nocapture`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, reports on stdout, and runs a real process in real time"
)]

mod harness;

use std::time::Instant;

use anabranch_proto::admin::v1 as admin;
use anabranch_proto::timeseries::v1 as wire;
use harness::Server;
use harness::made::{Dice, mix};

const NAMESPACE: &str = "wide";
const RSS_MAX: u64 = 512 << 20;
const VALUE_BYTES: usize = 960;
const BATCH: u64 = 100;
const IN_FLIGHT: usize = 16;

fn event(n: u64) -> wire::EventRecord {
    let mut dice = Dice::new(mix(&[0x31de, n]));
    wire::EventRecord {
        time_series_id: "whale".into(),
        // 3 at an instant, 1 ms apart.
        event_time: Some(harness::timestamp(
            1_767_571_200_000_000 + i64::try_from(n / 3).unwrap() * 1_000,
        )),
        event_id: format!("{n:010}"),
        event_items: vec![wire::EventItem {
            event_item_key: "payload".into(),
            event_item_value: dice.bytes(VALUE_BYTES).into(),
        }],
    }
}

#[test]
fn a_wide_id_is_walked_within_the_memory_limit() {
    let megabytes = harness::number("ANABRANCH_WIDE_MB", 60);
    let events = megabytes * 1_000_000 / (VALUE_BYTES as u64 + 40);
    let place = harness::folder("memory");
    let data = place.path().join("data");
    let server = Server::start(&data);
    let runtime = harness::runtime();
    runtime.block_on(async {
        let namespace = admin::Namespace {
            seconds_per_time_slice: Some(7 * 86_400),
            seconds_per_time_bucket: Some(7 * 86_400),
            ..harness::namespace(NAMESPACE)
        };
        harness::create(&mut server.admin().await, namespace).await;
        let since = Instant::now();
        ingest(&server, events).await;
        let took = since.elapsed();
        println!(
            "{megabytes} MB as {events} events written in {took:.1?}, RSS peak {} MiB",
            server.rss_peak() >> 20
        );
    });
    let after_write = server.rss_peak();
    runtime.block_on(walk(&server, events, false));
    runtime.block_on(walk(&server, events, true));
    let peak = server.rss_peak();
    server.assert_no_panic();
    server.kill();
    let server = Server::start(&data);
    runtime.block_on(walk(&server, events, false));
    let restarted = server.rss_peak();
    println!(
        "RSS peak: {} MiB while written, {} MiB with walks, {} MiB with a walk after kill -9",
        after_write >> 20,
        peak >> 20,
        restarted >> 20
    );
    assert!(
        peak < RSS_MAX && restarted < RSS_MAX,
        "the server needs more than 512 MiB"
    );
}

async fn ingest(server: &Server, events: u64) {
    let (send, receive) = tokio::sync::mpsc::channel(IN_FLIGHT);
    let batches = tokio_stream::wrappers::ReceiverStream::new(receive);
    let sender = tokio::spawn(async move {
        for start in (0..events).step_by(usize::try_from(BATCH).unwrap()) {
            let request = wire::IngestEventRecordsRequest {
                namespace: if start == 0 {
                    NAMESPACE.into()
                } else {
                    String::new()
                },
                batch_id: start.to_string(),
                events: (start..(start + BATCH).min(events)).map(event).collect(),
            };
            if send.send(request).await.is_err() {
                return;
            }
        }
    });
    let mut answers = server
        .events()
        .await
        .ingest_event_records(batches)
        .await
        .unwrap()
        .into_inner();
    let mut written = 0;
    while let Some(answer) = answers.message().await.unwrap() {
        assert!(answer.status.is_none(), "{answer:?}");
        written += u64::try_from(answer.written).unwrap();
    }
    sender.await.unwrap();
    assert_eq!(written, events);
}

async fn walk(server: &Server, events: u64, ascending: bool) {
    let mut client = server.events().await;
    let mut request = wire::ReadEventRecordsRequest {
        namespace: NAMESPACE.into(),
        time_series_id: "whale".into(),
        page_size: 1_000,
        latency_slo: Some(harness::duration(30)),
        ..wire::ReadEventRecordsRequest::default()
    };
    if ascending {
        request.direction = wire::Direction::Ascending.into();
    }
    let since = Instant::now();
    let (mut at, mut pages, mut slowest) = (0, 0_u64, std::time::Duration::ZERO);
    loop {
        let page_since = Instant::now();
        let page = client
            .read_event_records(request.clone())
            .await
            .unwrap()
            .into_inner();
        slowest = slowest.max(page_since.elapsed());
        pages += 1;
        for record in &page.records {
            let n = if ascending { at } else { events - 1 - at };
            assert_eq!(*record, event(n));
            at += 1;
        }
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    let took = since.elapsed();
    println!(
        "walked {at} events in {pages} pages in {took:.1?}, slowest page {slowest:.1?}, ascending {ascending}"
    );
    assert_eq!(at, events);
}
