//! A real history goes in through `anabranch write`, and every id comes back exactly as the file has it.
//!
//! Twice on one server: with weekly slices (hundreds of them) and with slices of a year. Loaded, loaded again (nothing
//! changes), every id read in both directions with pages of 1, 7 and 1,000, `kill -9`, start, every read again. The
//! server stays below 512 MiB. Once more on a real Cassandra, with slices of a year.
//!
//! The input is made here unless `ANABRANCH_HISTORY` names a file: NDJSON of `EventRecord`, plain, `.gz` or `.zst`.
//! `ANABRANCH_HISTORY_EVENTS` says how many events are made (20,000); `ANABRANCH_HISTORY_SLICES` fills one namespace
//! only, `weekly` or `yearly`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, reports on stdout, and runs a real process in real time"
)]

mod harness;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anabranch_proto::admin::v1 as admin;
use anabranch_proto::timeseries::v1 as wire;
use harness::history::{Truth, read_back, read_truth};
use harness::{Lane, Server};

const RSS_MAX: u64 = 512 << 20;

/// The namespaces to fill: both, or the one that `ANABRANCH_HISTORY_SLICES` names.
fn namespaces() -> Vec<&'static str> {
    let wanted = std::env::var("ANABRANCH_HISTORY_SLICES").ok();
    let all = ["weekly", "yearly"];
    all.into_iter()
        .filter(|name| wanted.as_deref().is_none_or(|wanted| wanted == *name))
        .collect()
}

async fn read_all(server: &Server, truth: &Arc<Truth>, namespaces: &[&str], when: &str) {
    for namespace in namespaces.iter().copied() {
        for page_size in [1_000, 7, 1] {
            let since = Instant::now();
            let newest_first = read_back(server, namespace, truth, false, page_size, &|_, _| {}).await;
            let oldest_first = read_back(server, namespace, truth, true, page_size, &|_, _| {}).await;
            println!(
                "{when}: {namespace}: {} ids read back both ways in pages of {page_size}: {} pages in {:.1?}",
                truth.len(),
                newest_first + oldest_first,
                since.elapsed()
            );
        }
    }
}

/// Events of a namespace by its own count.
async fn count(server: &Server, namespace: &str) -> u64 {
    let mut client = server.events().await;
    let aggregation = wire::aggregation_query::Aggregation::Count(wire::CountAggregation::default());
    let mut request = wire::AggregateEventRecordsRequest {
        namespace: namespace.to_owned(),
        aggregation_query: Some(wire::AggregationQuery {
            aggregation: Some(aggregation),
            group_by: None,
        }),
        latency_slo: Some(harness::duration(60)),
        ..wire::AggregateEventRecordsRequest::default()
    };
    let mut count = 0;
    loop {
        let page = client
            .aggregate_event_records(request.clone())
            .await
            .unwrap()
            .into_inner();
        count += page
            .rows
            .iter()
            .map(|row| u64::try_from(row.count).unwrap())
            .sum::<u64>();
        if page.next_page_token.is_empty() {
            return count;
        }
        request.page_token = page.next_page_token;
    }
}

#[test]
fn a_history_reads_back_as_it_was_written() {
    let place = harness::folder("history");
    reads_back(place.path(), &Lane::embedded(place.path()), &namespaces());
}

/// In slices and buckets of a year: Cassandra has a table for each slice.
#[cfg(feature = "cluster")]
#[test]
fn a_history_on_cassandra_reads_back_as_it_was_written() {
    let place = harness::folder("history-fleet");
    let Some(fleet) = harness::fleet::Fleet::new("history", place.path()) else {
        return;
    };
    reads_back(place.path(), &Lane::Fleet(Box::new(fleet)), &["yearly"]);
}

fn reads_back(place: &Path, lane: &Lane, namespaces: &[&'static str]) {
    let path = harness::history::file(place);
    let (truth, events) = read_truth(&path);
    let widest = truth.values().map(Vec::len).max().unwrap();
    println!("{events} events of {} ids, the widest of {widest}", truth.len());
    let truth = Arc::new(truth);
    let runtime = harness::runtime();
    let server = lane.serve();
    runtime.block_on(async {
        let mut client = server.admin().await;
        harness::create(&mut client, harness::namespace("weekly")).await;
        // A read looks into every partition that an id may have: 15 a slice, or 1 where each is a statement.
        let (days, event_buckets) = if matches!(lane, Lane::Embedded(_)) {
            (73, 3)
        } else {
            (365, 1)
        };
        let yearly = admin::Namespace {
            seconds_per_time_slice: Some(365 * 86_400),
            seconds_per_time_bucket: Some(days * 86_400),
            event_buckets: Some(event_buckets),
            ..harness::namespace("yearly")
        };
        harness::create(&mut client, yearly).await;
    });
    let path = path.to_str().unwrap();
    for namespace in namespaces.iter().copied() {
        for time in ["first", "second"] {
            let since = Instant::now();
            server.run(&["write", namespace, "--file", path]);
            let took = since.elapsed();
            let counted = runtime.block_on(count(&server, namespace));
            println!(
                "{namespace}: written the {time} time in {took:.1?}, {counted} events there, RSS peak {} MiB",
                server.rss_peak() >> 20
            );
            assert_eq!(counted, events, "{namespace}");
        }
    }
    let slices = runtime.block_on(async {
        let mut client = server.admin().await;
        let mut slices = Vec::new();
        for namespace in namespaces.iter().copied() {
            let mut request = admin::ListTimeSlicesRequest {
                namespace: namespace.into(),
                page_size: 1_000,
                page_token: String::new(),
            };
            let mut count = 0;
            loop {
                let page = client
                    .list_time_slices(request.clone())
                    .await
                    .unwrap()
                    .into_inner();
                count += page.time_slices.len();
                if page.next_page_token.is_empty() {
                    break;
                }
                request.page_token = page.next_page_token;
            }
            slices.push((namespace, count));
        }
        slices
    });
    println!("time slices: {slices:?}");
    for (namespace, count) in slices {
        assert!(
            if namespace == "weekly" {
                count > 100
            } else {
                count < 20
            },
            "{namespace}: {count}"
        );
    }

    runtime.block_on(read_all(&server, &truth, namespaces, "as loaded"));
    let before = server.rss_peak();
    server.assert_no_panic();
    server.kill();
    let since = Instant::now();
    let server = lane.serve();
    println!("killed with -9, ready again after {:.1?}", since.elapsed());
    runtime.block_on(async {
        for namespace in namespaces.iter().copied() {
            assert_eq!(
                count(&server, namespace).await,
                events,
                "{namespace} after the kill"
            );
        }
        read_all(&server, &truth, namespaces, "after kill -9").await;
    });
    server.assert_no_panic();
    let after = server.rss_peak();
    println!(
        "RSS peak: {} MiB before the kill, {} MiB after",
        before >> 20,
        after >> 20
    );
    assert!(
        before < RSS_MAX && after < RSS_MAX,
        "the server needs more than 512 MiB"
    );
    assert!(server.stop().success());
}
