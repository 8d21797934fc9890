//! No byte of a user's is ever in a statement: random hostile namespaces, ids, keys, values, tokens and queries through
//! every method of both services, on a fleet whose every node of Cassandra is reached through a proxy that keeps the
//! texts. These are the committed list, `crates/storage/src/cassandra/statements.cql`, and nothing else.
//!
//! `ANABRANCH_HOSTILE` says how many requests (2,000); `dev/soak hostile` makes 100,000.
#![cfg(feature = "cluster")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, reports on stdout, and runs a real process in real time"
)]

mod harness;
#[path = "../../storage/tests/cluster/proxy.rs"]
mod proxy;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anabranch_proto::admin::v1 as admin;
use anabranch_proto::timeseries::v1 as wire;
use bytes::Bytes;
use futures::StreamExt;
use harness::fleet::Fleet;
use harness::hostile::{CANARY, Hostile};
use harness::made::Dice;
use harness::{Server, raw};
use prost::Message as _;
use prost_reflect::MethodDescriptor;
use scylla_proxy::{Reaction, RequestOpcode, RequestReaction, RequestRule};
use tonic::Code;
use tonic::transport::Channel;

const LIST: &str = include_str!("../../storage/src/cassandra/statements.cql");
const AT_ONCE: usize = 16;

/// Namespaces that are made, as hostile as names can be. The last one is changed, sealed and blocked at random.
const NAMESPACES: [&str; 5] = [
    "SELECT-FROM-system",
    "drop__table",
    "0-_-0",
    "a-name-that-is-as-long-as-any-name-may-ever-be-4",
    "mangled",
];

/// Methods that change what a namespace is, and so are let loose on one only.
const MANGLING: [&str; 6] = [
    "CreateNamespace",
    "UpdateNamespace",
    "DeleteNamespace",
    "SealTimeSlices",
    "UnsealTimeSlices",
    "BlockTimeSeriesIds",
];

/// Methods that some of what is made at random is good enough for.
const LET_THROUGH: [&str; 10] = [
    "WriteEventRecordsSync",
    "WriteEventRecords",
    "IngestEventRecords",
    "ReadEventRecords",
    "SearchEventRecords",
    "GetNamespace",
    "ListTimeSlices",
    "ListSplits",
    "ListBlockedTimeSeriesIds",
    "GetServerStatus",
];

/// Statements of the list that this fleet has no use for: its bus is Kafka, no list is longer than a page of it, nothing is
/// dropped, and what is retired is removed only when it was left alone for two minutes.
fn is_unused(text: &str) -> bool {
    let detections = text.contains("<keyspace>.detection ") && !text.starts_with("CREATE");
    let next_page = text.starts_with("SELECT ") && text.contains("> (?");
    let others = [
        "UPDATE <keyspace>.store_record ",
        "UPDATE <keyspace>.event_table ",
        "DROP TABLE ",
        "DELETE FROM ",
    ];
    detections || next_page || others.iter().any(|part| text.starts_with(part))
}

#[test]
fn no_byte_of_a_users_is_ever_in_a_statement() {
    let place = harness::folder("hostile");
    let runtime = harness::runtime();
    let Some(points) = Fleet::points("hostile") else {
        return;
    };
    let (mut proxies, map) = runtime.block_on(proxy::before(&points));
    let (heard, mut frames) = tokio::sync::mpsc::unbounded_channel();
    let texts = proxy::of_ours([RequestOpcode::Prepare, RequestOpcode::Query]);
    for node in &mut proxies.running_nodes {
        let reaction = RequestReaction::noop().with_feedback_when_performed(heard.clone());
        node.change_request_rules(Some(vec![RequestRule(texts.clone(), reaction)]));
    }
    drop(heard);
    let seen = runtime.spawn(async move {
        let mut seen = BTreeSet::new();
        while let Some((frame, _)) = frames.recv().await {
            seen.insert(proxy::text_of(&frame));
        }
        seen
    });
    let fleet = Fleet::behind("hostile", place.path(), &map).unwrap();
    let server = fleet.start("serve");
    let workers = fleet.workers();
    runtime.block_on(storm(&server));
    server.assert_no_panic();
    assert!(server.stop().success());
    workers.stop();
    runtime.block_on(proxy::finish(proxies));
    let seen = runtime.block_on(seen).unwrap();
    println!("{} texts", seen.len());
    assert!(seen.iter().all(|text| !text.contains(CANARY)), "{seen:#?}");
    let general: BTreeSet<String> = seen
        .iter()
        // The driver's own, by which it sees whether nodes agree.
        .filter(|text| !text.contains(" FROM system."))
        .map(|text| general(text, &fleet.keyspace()))
        .collect();
    let listed: BTreeSet<String> = LIST
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("--"))
        .map(str::to_owned)
        .collect();
    let unknown: Vec<&String> = general.difference(&listed).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
    let missed: Vec<&String> = listed
        .difference(&general)
        .filter(|text| !is_unused(text))
        .collect();
    assert!(missed.is_empty(), "never seen: {missed:#?}");
}

/// A text as the list has it: names made of checked parts, ids of tables, the data centre and copies taken out.
fn general(text: &str, keyspace: &str) -> String {
    let is_name = |word: &str| {
        word.bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
    };
    let is_table = |word: &str| {
        let slice = word.strip_prefix("wide_").unwrap_or(word).strip_prefix("data_");
        slice.is_some_and(|slice| {
            let digits =
                |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
            slice == "all"
                || digits(slice, 8)
                || slice
                    .split_once('_')
                    .is_some_and(|(day, hour)| digits(day, 8) && digits(hour, 2))
        })
    };
    let of_namespace = format!("{keyspace}_");
    let words = text.split(' ').map(|word| match word.split_once('.') {
        Some((space, table)) if space.starts_with(&of_namespace) && is_name(space) && is_table(table) => {
            "<events>.<table>".to_owned()
        }
        Some((space, table)) if space == keyspace && is_name(table) => format!("<keyspace>.{table}"),
        None if word.starts_with(&of_namespace) && is_name(word) => "<events>".to_owned(),
        None if word == keyspace => "<keyspace>".to_owned(),
        _ => word.to_owned(),
    });
    let text = words.collect::<Vec<_>>().join(" ");
    let text = match text.split_once("'NetworkTopologyStrategy', ") {
        Some((before, _)) => format!("{before}'NetworkTopologyStrategy', '<datacenter>': <copies>}}"),
        None => text,
    };
    match text.split_once(" ID = ") {
        Some((before, after)) => {
            let (id, after) = after.split_at(36);
            assert!(
                id.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit()),
                "{text}"
            );
            format!("{before} ID = <id>{after}")
        }
        None => text,
    }
}

async fn storm(server: &Server) {
    create(server).await;
    let pool = raw::pool();
    let services = [
        "anabranch.timeseries.v1.TimeSeriesService",
        "anabranch.admin.v1.AdminService",
    ];
    let methods: Vec<MethodDescriptor> = services
        .iter()
        .flat_map(|service| {
            pool.get_service_by_name(service)
                .unwrap()
                .methods()
                .collect::<Vec<_>>()
        })
        .collect();
    let channel = server.channel().await;
    let requests = harness::number("ANABRANCH_HOSTILE", 2_000);
    let since = Instant::now();
    let mut codes: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    let calls = (0..requests).map(|n| {
        let method = methods[usize::try_from(n).unwrap() % methods.len()].clone();
        let channel = channel.clone();
        async move {
            let name = method.name().to_owned();
            (name, one(&channel, method, n).await)
        }
    });
    let mut calls = futures::stream::iter(calls).buffer_unordered(AT_ONCE);
    while let Some((method, code)) = calls.next().await {
        *codes.entry(method).or_default().entry(code).or_default() += 1;
    }
    println!("{requests} requests in {:.1?}: {codes:#?}", since.elapsed());
    assert_eq!(codes.len(), methods.len());
    for (method, codes) in &codes {
        for bad in ["Internal", "Unknown", "DataLoss", "Unimplemented"] {
            assert!(!codes.contains_key(bad), "{method}: {codes:?}");
        }
        let let_through = !LET_THROUGH.contains(&method.as_str()) || codes.contains_key("Ok");
        assert!(let_through, "{method}: {codes:?}");
    }
    // Detected, planned and split: hostile ids through every statement of the workers.
    until_split(server).await;
    seldom_sent(server).await;
}

/// What chance may have left out: the rows of one event alone, because a page of rows ends within it, and the change of a
/// record of a blocked id.
async fn seldom_sent(server: &Server) {
    let (namespace, id) = (NAMESPACES[1].to_owned(), format!("large'{CANARY}"));
    let item = |n: i32| wire::EventItem {
        event_item_key: format!("{n}'{CANARY}"),
        event_item_value: vec![b'"'; 100].into(),
    };
    let record = wire::EventRecord {
        event_items: (1_000..2_000).map(item).collect(),
        ..harness::event(&id, harness::timestamp(1_700_000_000_000_000), 0)
    };
    harness::write(server, &namespace, vec![record.clone()])
        .await
        .unwrap();
    let request = wire::ReadEventRecordsRequest {
        namespace: namespace.clone(),
        time_series_id: id.clone(),
        page_size: 1,
        latency_slo: Some(harness::duration(60)),
        ..wire::ReadEventRecordsRequest::default()
    };
    let records = harness::walk_pages(&mut server.events().await, request, |_| {})
        .await
        .unwrap();
    assert_eq!(records, [record]);
    let mut admin = server.admin().await;
    for _ in 0..2 {
        let block = admin::BlockTimeSeriesIdsRequest {
            namespace: namespace.clone(),
            time_series_ids: vec![id.clone()],
            reason: CANARY.to_owned(),
        };
        admin.block_time_series_ids(block).await.unwrap();
        let unblock = admin::UnblockTimeSeriesIdsRequest {
            namespace: namespace.clone(),
            time_series_ids: vec![id.clone()],
        };
        admin.unblock_time_series_ids(unblock).await.unwrap();
    }
}

async fn create(server: &Server) {
    let mut client = server.admin().await;
    for (n, name) in NAMESPACES.iter().enumerate() {
        let namespace = admin::Namespace {
            seconds_per_time_slice: Some(0),
            // Four hundred years: Cassandra has to be asked for each bucket of all times.
            seconds_per_time_bucket: Some(12_614_400_000),
            event_buckets: Some(1 + i32::try_from(n).unwrap() % 2),
            ..harness::split_namespace(name, 2 << 10, 1 << 10)
        };
        harness::create(&mut client, namespace).await;
    }
}

/// One call of a method with what nobody should send. What came of it.
async fn one(channel: &Channel, method: MethodDescriptor, n: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mangles = MANGLING.contains(&method.name());
    let namespaces = if mangles {
        &NAMESPACES[4..]
    } else {
        &NAMESPACES[..]
    };
    let mut hostile = Hostile {
        dice: Dice::new(0x0005_7071 ^ n),
        namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect(),
        now: i64::try_from(now).unwrap(),
    };
    if method.name() == "IngestEventRecords" {
        return ingest(channel, &mut hostile).await;
    }
    // Of all that is made at random hardly anything is right in every field: half of the calls are but for their texts.
    let right = hostile.dice.below(2) == 0;
    let message = match method.name() {
        "WriteEventRecordsSync" if right => return write_and_read_back(channel, &mut hostile).await,
        "WriteEventRecords" if right => queued(&mut hostile),
        "ReadEventRecords" if right => read(&mut hostile),
        "SearchEventRecords" if right => search(&mut hostile),
        "DeleteNamespace" => nobody(&mut hostile),
        _ => hostile.message(&method.input(), 6).encode_to_vec().into(),
    };
    let name = format!("{}/{}", method.parent_service().full_name(), method.name());
    let answer = raw::call(channel, &name, message, &[("grpc-timeout", "2S")]).await;
    code(answer.map(drop))
}

/// The namespaces have to stay.
fn nobody(hostile: &mut Hostile) -> Bytes {
    let name = match hostile.dice.below(2) {
        0 => hostile.text(),
        _ => format!("nobody-{}", hostile.dice.below(100)),
    };
    admin::DeleteNamespaceRequest { name }.encode_to_vec().into()
}

fn queued(hostile: &mut Hostile) -> Bytes {
    let request = wire::WriteEventRecordsRequest {
        namespace: hostile.dice.pick(&hostile.namespaces).clone(),
        events: vec![event(hostile), event(hostile)],
    };
    request.encode_to_vec().into()
}

fn read(hostile: &mut Hostile) -> Bytes {
    let request = wire::ReadEventRecordsRequest {
        namespace: hostile.dice.pick(&hostile.namespaces).clone(),
        time_series_id: cut(hostile.text(), 1_024),
        time_interval: lately(hostile),
        ..wire::ReadEventRecordsRequest::default()
    };
    request.encode_to_vec().into()
}

fn search(hostile: &mut Hostile) -> Bytes {
    let ids = wire::TimeSeriesIdsQuery {
        ids: vec![cut(hostile.text(), 1_024), cut(hostile.text(), 1_024)],
    };
    let query = wire::search_query::Query::TimeSeriesIds(ids);
    let request = wire::SearchEventRecordsRequest {
        namespace: hostile.dice.pick(&hostile.namespaces).clone(),
        time_interval: lately(hostile),
        search_query: Some(wire::SearchQuery { query: Some(query) }),
        ..wire::SearchEventRecordsRequest::default()
    };
    request.encode_to_vec().into()
}

/// The hours in which events are written here.
fn lately(hostile: &Hostile) -> Option<wire::TimeInterval> {
    Some(wire::TimeInterval {
        start: Some(harness::timestamp((hostile.now - 7_200) * 1_000_000)),
        end: Some(harness::timestamp((hostile.now + 1) * 1_000_000)),
    })
}

fn code(answer: Result<(), tonic::Status>) -> String {
    let code = answer.map_or_else(|status| status.code(), |()| Code::Ok);
    format!("{code:?}")
}

fn event(hostile: &mut Hostile) -> wire::EventRecord {
    let mut items: Vec<wire::EventItem> = (0..=hostile.dice.below(3))
        .map(|_| wire::EventItem {
            event_item_key: cut(hostile.text(), 256),
            event_item_value: hostile.bytes(),
        })
        .collect();
    items.sort_by(|a, b| a.event_item_key.cmp(&b.event_item_key));
    items.dedup_by(|a, b| a.event_item_key == b.event_item_key);
    let micros = (hostile.now - i64::try_from(hostile.dice.below(7_200)).unwrap()) * 1_000_000;
    wire::EventRecord {
        time_series_id: cut(hostile.text(), 1_024),
        event_time: Some(harness::timestamp(micros)),
        event_id: cut(hostile.text(), 256),
        event_items: items,
    }
}

fn cut(text: String, bytes_max: usize) -> String {
    let end = (0..=text.len().min(bytes_max))
        .rev()
        .find(|at| text.is_char_boundary(*at));
    text[..end.unwrap_or(0)].to_owned()
}

async fn ingest(channel: &Channel, hostile: &mut Hostile) -> String {
    let namespace = hostile.dice.pick(&hostile.namespaces).clone();
    let messages: Vec<_> = (0..3)
        .map(|_| wire::IngestEventRecordsRequest {
            namespace: namespace.clone(),
            events: vec![event(hostile), event(hostile)],
            ..wire::IngestEventRecordsRequest::default()
        })
        .collect();
    let mut client = harness::events(channel.clone());
    let answers = match client.ingest_event_records(tokio_stream::iter(messages)).await {
        Ok(answers) => answers.into_inner().collect::<Vec<_>>().await,
        Err(status) => return code(Err(status)),
    };
    let failed = answers.into_iter().find_map(Result::err);
    code(failed.map_or(Ok(()), Err))
}

/// What is written is read as it was, byte for byte.
async fn write_and_read_back(channel: &Channel, hostile: &mut Hostile) -> String {
    // Of the last one ids are blocked and times sealed.
    let namespace = NAMESPACES[usize::try_from(hostile.dice.below(4)).unwrap()].to_owned();
    // An id of its own: another request may hold the same texts.
    let mut record = event(hostile);
    record.time_series_id = format!("{}{}", hostile.dice.next(), cut(record.time_series_id, 1_000));
    let mut client = harness::events(channel.clone());
    let request = wire::WriteEventRecordsSyncRequest {
        namespace: namespace.clone(),
        events: vec![record.clone()],
    };
    if let Err(status) = client.write_event_records_sync(request).await {
        return code(Err(status));
    }
    let request = wire::ReadEventRecordsRequest {
        namespace,
        time_series_id: record.time_series_id.clone(),
        latency_slo: Some(harness::duration(60)),
        ..wire::ReadEventRecordsRequest::default()
    };
    // To its end: a page that the deadline cuts may be empty.
    match harness::walk_pages(&mut client, request, |_| {}).await {
        Ok(records) => {
            assert_eq!(records, [record]);
            code(Ok(()))
        }
        Err(status) => code(Err(status)),
    }
}

/// Makes one hostile id wide, and waits until it is split and read through its targets both ways.
async fn until_split(server: &Server) {
    let id = format!("wide'; DROP TABLE x; --{CANARY}\0\u{10ffff}");
    let (mut client, mut admin) = (server.events().await, server.admin().await);
    let event = |n: i64| wire::EventRecord {
        time_series_id: id.clone(),
        event_time: Some(harness::timestamp(1_700_000_000_000_000 + n)),
        event_id: format!("'{n:05}{CANARY}"),
        event_items: vec![wire::EventItem {
            event_item_key: format!("\"{CANARY}"),
            event_item_value: vec![b'\''; 300].into(),
        }],
    };
    let namespace = NAMESPACES[0].to_owned();
    let events: Vec<_> = (0..40).map(event).collect();
    harness::write(server, &namespace, events.clone()).await.unwrap();
    // What is sealed: of the rest of the bucket there is no copy.
    let interval = wire::TimeInterval {
        start: Some(harness::timestamp(1_700_000_000_000_000)),
        end: Some(harness::timestamp(1_700_000_000_000_000 + 86_400_000_000)),
    };
    let seal = admin::SealTimeSlicesRequest {
        namespace: namespace.clone(),
        before: interval.end,
    };
    admin.seal_time_slices(seal).await.unwrap();
    let since = Instant::now();
    loop {
        let mut from = BTreeSet::new();
        for direction in [wire::Direction::Ascending, wire::Direction::Descending] {
            let request = wire::ReadEventRecordsRequest {
                namespace: namespace.clone(),
                time_series_id: id.clone(),
                time_interval: Some(interval),
                direction: direction.into(),
                latency_slo: Some(harness::duration(60)),
                ..wire::ReadEventRecordsRequest::default()
            };
            let page = client.read_event_records(request).await.unwrap().into_inner();
            assert_eq!(page.records.len(), events.len());
            from.insert(page.response_context[0].served_from());
        }
        if from == BTreeSet::from([wire::response_context::ServedFrom::Targets]) {
            return;
        }
        assert!(since.elapsed() < Duration::from_secs(600), "it is never split");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
