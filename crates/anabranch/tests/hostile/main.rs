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

mod calls;
#[path = "../harness/mod.rs"]
mod harness;
#[path = "../../../storage/tests/cluster/proxy.rs"]
mod proxy;
mod texts;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anabranch_proto::admin::v1 as admin;
use anabranch_proto::timeseries::v1 as wire;
use futures::StreamExt;
use harness::fleet::Fleet;
use harness::hostile::CANARY;
use harness::{Server, raw};
use prost_reflect::MethodDescriptor;
use scylla_proxy::{Reaction, RequestOpcode, RequestReaction, RequestRule};
use tonic::{Code, Request};

const AT_ONCE: usize = 16;

/// Namespaces that are made, as hostile as names can be.
const NAMESPACES: [&str; 4] = [
    "SELECT-FROM-system",
    "drop__table",
    "0-_-0",
    "a-name-that-is-as-long-as-any-name-may-ever-be-4",
];

/// One more, which is changed, sealed and blocked at random.
const MANGLED: &str = "mangled";

/// Methods that are called by hand as they should be, before all others or after them; any other has to be answered at least
/// once for what is made at random.
const BY_HAND: [&str; 5] = [
    "CreateNamespace",
    "GetSplit",
    "InvalidateSplit",
    "RetrySplit",
    "DeleteNamespace",
];

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
        .map(|text| texts::general(text, &fleet.keyspace()))
        .collect();
    let listed = texts::listed();
    let unknown: Vec<&String> = general.difference(&listed).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
    let missed: Vec<&String> = listed
        .difference(&general)
        .filter(|text| !texts::is_unused(text))
        .collect();
    assert!(missed.is_empty(), "never seen: {missed:#?}");
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
            (name, calls::one(&channel, method, n).await)
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
        let is_answered = BY_HAND.contains(&method.as_str()) || codes.contains_key("Ok");
        assert!(is_answered, "{method}: {codes:?}");
    }
    // Detected, planned and split: hostile ids through every statement of the workers.
    let id = format!("wide'; DROP TABLE x; --{CANARY}\0\u{10ffff}");
    until_split(server, &id).await;
    made_anew(server, &id).await;
    seldom_sent(server).await;
    delete(server, MANGLED).await;
}

/// As an operator would: again when the time was too little. Thousands of ids are blocked in it.
async fn delete(server: &Server, name: &str) {
    let (mut admin, since) = (server.admin().await, Instant::now());
    loop {
        let mut request = Request::new(admin::DeleteNamespaceRequest {
            name: name.to_owned(),
        });
        request.set_timeout(Duration::from_secs(60));
        match admin.delete_namespace(request).await {
            Ok(_) => return,
            // What was begun, the server has finished by itself.
            Err(status) if status.code() == Code::NotFound => return,
            Err(status) => assert!(
                status.code() == Code::DeadlineExceeded && since.elapsed() < Duration::from_secs(600),
                "{status}"
            ),
        }
    }
}

/// Looks at the split of an id, takes it back, and sends it round again.
async fn made_anew(server: &Server, id: &str) {
    let partition = Some(admin::Partition {
        time_slice: "all".to_owned(),
        time_series_id: id.to_owned(),
        ..admin::Partition::default()
    });
    let request = admin::GetSplitRequest {
        namespace: NAMESPACES[0].to_owned(),
        partition: partition.clone(),
    };
    let split = server
        .admin()
        .await
        .get_split(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(split.state(), admin::split::State::Completed);
    harness::send_round_again(server, NAMESPACES[0], partition).await;
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
    for (n, name) in NAMESPACES.iter().chain([&MANGLED]).enumerate() {
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

/// Makes one hostile id wide, and waits until it is split and read through its targets both ways.
async fn until_split(server: &Server, id: &str) {
    let (mut client, mut admin) = (server.events().await, server.admin().await);
    let event = |n: i64| wire::EventRecord {
        time_series_id: id.to_owned(),
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
                time_series_id: id.to_owned(),
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
