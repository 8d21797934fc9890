//! A history as a file: made or given, read as the truth, and held against what a server answers.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anabranch_proto::timeseries::v1 as wire;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures::StreamExt;

use super::Server;
use super::made::{Dice, mix};

const CHANNELS: usize = 4;
const READS_AT_ONCE: usize = 24;

/// The file that `ANABRANCH_HISTORY` names, or one that is made in a folder with as many events as
/// `ANABRANCH_HISTORY_EVENTS` says.
pub(crate) fn file(folder: &Path) -> PathBuf {
    match std::env::var_os("ANABRANCH_HISTORY") {
        Some(path) => PathBuf::from(path),
        None => {
            let path = folder.join("history.ndjson.gz");
            make_history(&path, super::number("ANABRANCH_HISTORY_EVENTS", 20_000));
            path
        }
    }
}

/// Every event of the file, by id, in event order.
pub(crate) type Truth = BTreeMap<String, Vec<wire::EventRecord>>;

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
    super::write_lines(path, lines.into_iter().rev());
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

/// What the file says.
pub(crate) fn read_truth(path: &Path) -> (Truth, u64) {
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
            event_time: Some(super::timestamp(time)),
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

/// Reads every id of a namespace in one direction and page size, and lets `look` see every page. Returns how many reads
/// that took.
pub(crate) async fn read_back(
    server: &Server,
    namespace: &str,
    truth: &Arc<Truth>,
    ascending: bool,
    page_size: i32,
    look: &(dyn Fn(&str, &wire::ReadEventRecordsResponse) + Sync),
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
                    latency_slo: Some(super::duration(60)),
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
                    look(&id, &page);
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
