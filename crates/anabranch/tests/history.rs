//! A real history goes in through `anabranch write`, and every id comes back exactly as the file has it.
//!
//! Twice on one server: with weekly slices (hundreds of them) and with slices of a year. Loaded, loaded again (nothing
//! changes), every id read in both directions with pages of 1, 7 and 1,000, `kill -9`, start, every read again. The
//! server stays below 512 MiB.
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

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anabranch_proto::admin::v1 as admin;
use anabranch_proto::timeseries::v1 as wire;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures::StreamExt;
use harness::Server;
use harness::made::{Dice, mix};

const RSS_MAX: u64 = 512 << 20;

/// The namespaces to fill: both, or the one that `ANABRANCH_HISTORY_SLICES` names.
fn namespaces() -> Vec<&'static str> {
    let wanted = std::env::var("ANABRANCH_HISTORY_SLICES").ok();
    let all = ["weekly", "yearly"];
    all.into_iter()
        .filter(|name| wanted.as_deref().is_none_or(|wanted| wanted == *name))
        .collect()
}
const CHANNELS: usize = 4;
const READS_AT_ONCE: usize = 24;

/// Every event of the file, by id, in event order.
type Truth = BTreeMap<String, Vec<wire::EventRecord>>;

/// A history like that of a large repository: one id with everything, a few with a lot, very many with little; several
/// events at one instant; 13 years.
fn make_history(path: &Path, events: u64) {
    let mut dice = Dice::new(0x4157_0317);
    let mut micros = 1_312_242_084_000_000_i64;
    let step = 13 * 365 * 86_400_u64 * 1_000_000 / (events / 4 + 1);
    let mut lines = Vec::new();
    while (lines.len() as u64) < events {
        // Most commits in whole seconds, some a microsecond apart, some at the same instant as the one before.
        micros += match dice.below(10) {
            0 => 0,
            1 => 1,
            _ => i64::try_from(dice.below(2 * step)).unwrap() / 1_000_000 * 1_000_000,
        };
        let time = jiff::Timestamp::from_microsecond(micros).unwrap().to_string();
        let commit = format!("{:012x}", dice.next() >> 16);
        // Heavy-tailed: the square of a share.
        let author = |dice: &mut Dice| format!("author:{:08x}", mix(&[heavy(dice, 400)]) >> 32);
        let item = |key: &str, value: String| serde_json::json!({"eventItemKey": key, "eventItemValue": BASE64_STANDARD.encode(value)});
        let line = |id: &str, event: &str, items: Vec<serde_json::Value>| {
            serde_json::json!({"timeSeriesId": id, "eventTime": time, "eventId": event, "eventItems": items})
                .to_string()
        };
        let by = author(&mut dice);
        lines.push(line(
            "repo:made",
            &commit,
            vec![item("author", by[7..].to_owned())],
        ));
        for file in 0..dice.below(4) {
            let path = format!(
                "src/part{}/file{}.rs",
                heavy(&mut dice, 40),
                heavy(&mut dice, 2_000)
            );
            let (added, deleted) = (
                heavy(&mut dice, 900).to_string(),
                heavy(&mut dice, 300).to_string(),
            );
            let mut of_file = vec![item("deleted", deleted.clone()), item("added", added.clone())];
            if dice.below(3) > 0 {
                of_file.push(item("author", by[7..].to_owned()));
            }
            if dice.below(9) == 0 {
                of_file.push(item("ünïcode key", String::new()));
            }
            lines.push(line(
                &format!("file:{path}"),
                &format!("{commit}-{}", dice.below(1 << 30)),
                of_file,
            ));
            let of_author = vec![item("path", path), item("added", added), item("deleted", deleted)];
            lines.push(line(&by, &format!("{commit}-{file}"), of_author));
        }
    }
    lines.truncate(usize::try_from(events).unwrap());
    harness::write_lines(path, lines.into_iter().rev());
}

fn heavy(dice: &mut Dice, end: u64) -> u64 {
    let share = dice.share();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "small"
    )]
    let number = (share * share * share * end as f64) as u64;
    number
}

fn read_truth(path: &Path) -> (Truth, u64) {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let reader: Box<dyn Read> = match path.extension().and_then(|e| e.to_str()) {
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Some("zst") => Box::new(zstd::Decoder::new(file).unwrap()),
        _ => Box::new(file),
    };
    // id → (time, event id) → item key → value: written again, it is there once.
    type Keyed = BTreeMap<(i64, String), BTreeMap<String, Vec<u8>>>;
    let mut events: BTreeMap<String, Keyed> = BTreeMap::new();
    for line in BufReader::new(reader).lines() {
        let line: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let time: jiff::Timestamp = line["eventTime"].as_str().unwrap().parse().unwrap();
        let items = events
            .entry(text(&line["timeSeriesId"]))
            .or_default()
            .entry((time.as_microsecond(), text(&line["eventId"])))
            .or_default();
        for item in line["eventItems"].as_array().unwrap() {
            let value = item["eventItemValue"].as_str().unwrap_or_default();
            items.insert(
                text(&item["eventItemKey"]),
                BASE64_STANDARD.decode(value).unwrap(),
            );
        }
    }
    let mut count = 0;
    let record =
        |id: &str, (time, event_id): (i64, String), items: BTreeMap<String, Vec<u8>>| wire::EventRecord {
            time_series_id: id.to_owned(),
            event_time: Some(harness::timestamp(time)),
            event_id,
            event_items: items
                .into_iter()
                .map(|(event_item_key, value)| wire::EventItem {
                    event_item_key,
                    event_item_value: Bytes::from(value),
                })
                .collect(),
        };
    let truth = events
        .into_iter()
        .map(|(id, events)| {
            count += events.len() as u64;
            let records = events
                .into_iter()
                .map(|(key, items)| record(&id, key, items))
                .collect();
            (id, records)
        })
        .collect();
    (truth, count)
}

/// Reads every id of a namespace in one direction and page size. Returns how many reads that took.
async fn read_back(
    server: &Server,
    namespace: &'static str,
    truth: &Arc<Truth>,
    ascending: bool,
    page_size: i32,
) -> u64 {
    let mut clients = Vec::new();
    for _ in 0..CHANNELS {
        clients.push(server.events().await);
    }
    let reads = futures::stream::iter(truth.keys().cloned().collect::<Vec<_>>().into_iter().enumerate())
        .map(|(number, id)| {
            let (mut client, truth) = (clients[number % CHANNELS].clone(), truth.clone());
            async move {
                let mut request = wire::ReadEventRecordsRequest {
                    namespace: namespace.to_owned(),
                    time_series_id: id.clone(),
                    page_size,
                    latency_slo: Some(harness::duration(60)),
                    ..wire::ReadEventRecordsRequest::default()
                };
                if ascending {
                    request.direction = wire::Direction::Ascending.into();
                }
                let records = &truth[&id];
                let mut at = 0;
                let mut reads = 0;
                loop {
                    let page = client
                        .read_event_records(request.clone())
                        .await
                        .unwrap_or_else(|status| panic!("{namespace} {id}, event {at}: {status:?}"))
                        .into_inner();
                    reads += 1;
                    assert!(page.records.len() <= usize::try_from(page_size).unwrap());
                    for record in &page.records {
                        let expected = if ascending {
                            records.get(at)
                        } else {
                            records.iter().rev().nth(at)
                        };
                        assert_eq!(
                            Some(record),
                            expected,
                            "{namespace} {id}, event {at}, pages of {page_size}"
                        );
                        at += 1;
                    }
                    if page.next_page_token.is_empty() {
                        break;
                    }
                    request.page_token = page.next_page_token;
                }
                assert_eq!(at, records.len(), "{namespace} {id}, pages of {page_size}");
                reads
            }
        })
        .buffer_unordered(READS_AT_ONCE)
        .collect::<Vec<u64>>()
        .await;
    reads.iter().sum()
}

async fn read_all(server: &Server, truth: &Arc<Truth>, when: &str) {
    for namespace in namespaces() {
        for page_size in [1_000, 7, 1] {
            let since = Instant::now();
            let newest_first = read_back(server, namespace, truth, false, page_size).await;
            let oldest_first = read_back(server, namespace, truth, true, page_size).await;
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
    let path = match std::env::var_os("ANABRANCH_HISTORY") {
        Some(path) => PathBuf::from(path),
        None => {
            let path = place.path().join("history.ndjson.gz");
            make_history(&path, harness::number("ANABRANCH_HISTORY_EVENTS", 20_000));
            path
        }
    };
    let (truth, events) = read_truth(&path);
    let widest = truth.values().map(Vec::len).max().unwrap();
    println!("{events} events of {} ids, the widest of {widest}", truth.len());
    let truth = Arc::new(truth);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let data = place.path().join("data");
    let server = Server::start(&data);
    runtime.block_on(async {
        let mut client = server.admin().await;
        harness::create(&mut client, harness::namespace("weekly")).await;
        let yearly = admin::Namespace {
            seconds_per_time_slice: Some(365 * 86_400),
            seconds_per_time_bucket: Some(73 * 86_400),
            event_buckets: Some(3),
            ..harness::namespace("yearly")
        };
        harness::create(&mut client, yearly).await;
    });
    let path = path.to_str().unwrap();
    for namespace in namespaces() {
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
        for namespace in namespaces() {
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

    runtime.block_on(read_all(&server, &truth, "as loaded"));
    let before = server.rss_peak();
    server.assert_no_panic();
    server.kill();
    let since = Instant::now();
    let server = Server::start(&data);
    println!("killed with -9, ready again after {:.1?}", since.elapsed());
    runtime.block_on(async {
        for namespace in namespaces() {
            assert_eq!(
                count(&server, namespace).await,
                events,
                "{namespace} after the kill"
            );
        }
        read_all(&server, &truth, "after kill -9").await;
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
