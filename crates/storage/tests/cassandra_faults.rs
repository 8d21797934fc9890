//! What becomes of each call when a statement of it goes wrong on its way, on a real Cassandra behind a proxy that
//! speaks CQL: every error that a node answers, a hung request, a reply that is lost after the statement was
//! applied, a broken connection, a delay. After each the truth is looked at past the proxy.
//!
//! Besides: what texts go over the wire, and a node that hangs among others.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test panics when it fails, and says when it does not run"
)]

mod cluster;

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use anabranch_model::{
    Direction, Event, EventId, EventItem, EventKey, EventTime, ItemKey, NamespaceName, PartitionKey,
    SliceName, TimeInterval, TimeSeriesId,
};
use anabranch_runtime::{Clock, SystemClock};
use anabranch_storage::cassandra::CassandraStore;
use anabranch_storage::cassandra::settings::CassandraSettings;
use anabranch_storage::{
    CasOutcome, ErrorKind, EventBounds, EventStore, PartitionAppend, RecordKey, RecordPrefix, RecordStore,
    ScanRequest, StoreError, TableKind, TableName,
};
use bytes::Bytes;
use cluster::{Keyspace, contact_points};
use futures::FutureExt;
use scylla::errors::DbError;
use scylla_proxy::{
    Condition, Node, Proxy, ProxyError, Reaction, RequestOpcode, RequestReaction, RequestRule,
    ResponseOpcode, ResponseReaction, ResponseRule, RunningProxy, ShardAwareness,
    example_db_errors as errors,
};

fn table() -> TableName {
    TableName {
        namespace: NamespaceName::new("ns").unwrap(),
        kind: TableKind::Data,
        slice: SliceName::new("all").unwrap(),
    }
}

fn partition(id: &str) -> PartitionKey {
    PartitionKey {
        slice: table().slice,
        time_series_id: TimeSeriesId::new(id).unwrap(),
        time_bucket: 0,
        event_bucket: 0,
    }
}

fn event(n: i64) -> Event {
    let item = |key: &str| EventItem {
        key: ItemKey::new(key).unwrap(),
        value: Bytes::from_static(b"value"),
    };
    Event {
        key: EventKey {
            time: EventTime::from_micros(n),
            id: EventId::new("e").unwrap(),
        },
        items: vec![item("a"), item("b")],
    }
}

async fn append(store: &CassandraStore, id: &str, events: Vec<Event>) -> Result<(), StoreError> {
    let part = PartitionAppend {
        table: table(),
        partition: partition(id),
        events,
    };
    let appended = store.append(vec![part]).await;
    appended.map_err(|mut failure| failure.failed.remove(0).1)
}

async fn scan(store: &CassandraStore, id: &str, direction: Direction) -> Result<Vec<Event>, StoreError> {
    let request = ScanRequest {
        table: table(),
        partition: partition(id),
        bounds: EventBounds::of_interval(TimeInterval::ALL),
        direction,
        events_max: 100,
        bytes_max: 1 << 20,
    };
    store.scan(&request).await.map(|page| page.events)
}

fn record(n: u32) -> RecordKey {
    RecordKey::BlockedId {
        namespace: table().namespace,
        time_series_id: TimeSeriesId::new(format!("{n}")).unwrap(),
    }
}

async fn change(store: &CassandraStore, key: &RecordKey, from: u64) -> Result<(), StoreError> {
    let value = Bytes::from(format!("{from}"));
    let outcome = store.compare_and_set(key, from, Some(value)).await?;
    assert_eq!(
        outcome,
        CasOutcome::Applied { version: from + 1 },
        "nobody else changes it"
    );
    Ok(())
}

/// A call of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Append,
    Delete,
    Newest,
    Oldest,
    Partitions,
    Get,
    List,
    Insert,
    Update,
}

const CALLS: [Call; 9] = [
    Call::Append,
    Call::Delete,
    Call::Newest,
    Call::Oldest,
    Call::Partitions,
    Call::Get,
    Call::List,
    Call::Insert,
    Call::Update,
];

impl Call {
    /// What has to be there before.
    async fn prepare(self, store: &CassandraStore, n: u32) {
        let id = n.to_string();
        match self {
            Self::Delete | Self::Newest | Self::Oldest => {
                append(store, &id, vec![event(1), event(2)]).await.unwrap()
            }
            Self::Get | Self::Update => change(store, &record(n), 0).await.unwrap(),
            Self::Append | Self::Partitions | Self::List | Self::Insert => {}
        }
    }

    async fn make(self, store: &CassandraStore, n: u32) -> Result<(), StoreError> {
        let id = n.to_string();
        let both = [event(2), event(1)];
        match self {
            Self::Append => append(store, &id, vec![event(1)]).await,
            Self::Delete => store.delete_partition(&table(), &partition(&id)).await,
            Self::Newest => scan(store, &id, Direction::Descending)
                .await
                .map(|events| assert_eq!(events, both)),
            Self::Oldest => scan(store, &id, Direction::Ascending)
                .await
                .map(|events| assert!(events.iter().eq(both.iter().rev()))),
            Self::Partitions => store.partitions(&table(), None, 10).await.map(drop),
            Self::Get => {
                let found = store.get(&record(n)).await?;
                assert_eq!(found.unwrap().version, 1);
                Ok(())
            }
            Self::List => {
                let prefix = RecordPrefix::BlockedIds(table().namespace);
                store.list(&prefix, None, 10).await.map(drop)
            }
            Self::Insert => change(store, &record(n), 0).await,
            Self::Update => change(store, &record(n), 1).await,
        }
    }

    /// Whether it was done; `None`: it changes nothing.
    async fn done(self, store: &CassandraStore, n: u32) -> Option<bool> {
        let id = n.to_string();
        let version = async || {
            store
                .get(&record(n))
                .await
                .unwrap()
                .map_or(0, |record| record.version)
        };
        match self {
            Self::Append => Some(scan(store, &id, Direction::Ascending).await.unwrap() == [event(1)]),
            Self::Delete => Some(scan(store, &id, Direction::Ascending).await.unwrap().is_empty()),
            Self::Insert => Some(version().await == 1),
            Self::Update => Some(version().await == 2),
            Self::Newest | Self::Oldest | Self::Partitions | Self::Get | Self::List => None,
        }
    }

    fn is_change_of_record(self) -> bool {
        matches!(self, Self::Insert | Self::Update)
    }

    fn is_write(self) -> bool {
        matches!(self, Self::Append | Self::Delete)
    }
}

/// What goes wrong with one statement.
#[derive(Clone, Debug)]
enum Fault {
    /// The node answers so, and does nothing.
    Answer(DbError),
    /// It never reaches the node.
    Hang,
    /// It is applied, and the reply never comes.
    LostReply,
    /// The connection breaks instead.
    Disconnect,
    /// The reply comes late, and in time.
    Delay,
}

fn faults() -> Vec<Fault> {
    let answers = [
        errors::syntax_error(),
        errors::invalid(),
        errors::already_exists(),
        errors::function_failure(),
        errors::authentication_error(),
        errors::unauthorized(),
        errors::config_error(),
        errors::unavailable(),
        errors::overloaded(),
        errors::is_bootstrapping(),
        errors::truncate_error(),
        errors::read_timeout(),
        errors::write_timeout(),
        errors::read_failure(),
        errors::write_failure(),
        errors::unprepared(),
        errors::server_error(),
        errors::protocol_error(),
        // CAS_WRITE_UNKNOWN, CDC_WRITE_FAILURE.
        errors::other(0x1700),
        errors::other(0x1600),
    ];
    let others = [Fault::Hang, Fault::LostReply, Fault::Disconnect, Fault::Delay];
    answers.into_iter().map(Fault::Answer).chain(others).collect()
}

/// `None`: it works all the same.
fn expected(call: Call, fault: &Fault) -> Vec<Option<ErrorKind>> {
    use DbError::{
        AlreadyExists, AuthenticationError, ConfigError, Invalid, IsBootstrapping, Overloaded, ProtocolError,
        SyntaxError, Unauthorized, Unavailable, Unprepared,
    };
    let refused = matches!(
        fault,
        Fault::Answer(SyntaxError | Invalid | AuthenticationError | Unauthorized | ConfigError)
    );
    match fault {
        Fault::Delay => vec![None],
        _ if refused => vec![Some(ErrorKind::Invalid)],
        Fault::Answer(AlreadyExists { .. }) if !call.is_write() => vec![Some(ErrorKind::Invalid)],
        // It is prepared anew and sent again; one of a batch is not.
        Fault::Answer(Unprepared { .. }) if call != Call::Append => vec![None],
        // Settled by reading; what a broken connection leaves may not be in time.
        Fault::Disconnect if call.is_change_of_record() => vec![None, Some(ErrorKind::Unknown)],
        _ if call.is_change_of_record() => vec![None],
        Fault::Answer(Unavailable { .. } | IsBootstrapping | ProtocolError) => {
            vec![Some(ErrorKind::Unavailable)]
        }
        _ if call.is_write() => vec![Some(ErrorKind::Unknown)],
        Fault::Answer(Overloaded) => vec![Some(ErrorKind::Overloaded)],
        _ => vec![Some(ErrorKind::Unavailable)],
    }
}

/// Statements of the store, not those by which the driver watches the cluster.
fn of_ours(opcodes: [RequestOpcode; 2]) -> Condition {
    let [one, other] = opcodes.map(Condition::RequestOpcode);
    one.or(other)
        .and(Condition::not(Condition::ConnectionRegisteredAnyEvent))
}

fn executed() -> Condition {
    of_ours([RequestOpcode::Execute, RequestOpcode::Batch])
}

impl Fault {
    fn inject(&self, proxy: &mut RunningProxy, times: usize) {
        let node = &mut proxy.running_nodes[0];
        let limited = Condition::TrueForLimitedTimes(times);
        let request = |reaction| vec![RequestRule(executed().and(limited.clone()), reaction)];
        match self {
            Self::Answer(error) => {
                node.change_request_rules(Some(request(RequestReaction::forge_with_error(error.clone()))));
            }
            Self::Hang => node.change_request_rules(Some(request(RequestReaction::drop_frame()))),
            Self::Disconnect => node.change_request_rules(Some(request(RequestReaction::drop_connection()))),
            Self::Delay => {
                let late = RequestReaction::delay(Duration::from_millis(50));
                node.change_request_rules(Some(request(late)));
            }
            Self::LostReply => {
                let reply = Condition::ResponseOpcode(ResponseOpcode::Result)
                    .and(Condition::not(Condition::ConnectionRegisteredAnyEvent))
                    .and(limited);
                node.change_response_rules(Some(vec![ResponseRule(reply, ResponseReaction::drop_frame())]));
            }
        }
    }
}

/// A free port beside a node.
fn beside(node: SocketAddr) -> SocketAddr {
    let listener = std::net::TcpListener::bind((node.ip(), 0)).unwrap();
    listener.local_addr().unwrap()
}

/// A proxy before each node, and settings that lead through them.
async fn behind_proxies(keyspace: &Keyspace) -> (RunningProxy, CassandraSettings) {
    let nodes: Vec<SocketAddr> = keyspace
        .points
        .iter()
        .map(|point| point.parse().unwrap())
        .collect();
    let proxied: HashMap<SocketAddr, SocketAddr> = nodes.iter().map(|node| (*node, beside(*node))).collect();
    let proxies = nodes
        .iter()
        .map(|node| Node::new(*node, proxied[node], ShardAwareness::Unaware, None, None));
    let proxy = Proxy::new(proxies).run().await.unwrap();
    let settings = CassandraSettings {
        contact_points: nodes.iter().map(|node| proxied[node].to_string()).collect(),
        address_map: proxied
            .into_iter()
            .map(|(node, proxy)| (node.ip(), proxy))
            .collect(),
        request_timeout: Duration::from_secs(2),
        ..keyspace.settings()
    };
    (proxy, settings)
}

/// One test at a time: changes of the schema beside them make statements wait, and what waits here times out.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The contact point of a cluster of one node: of several, another would help out.
fn one_node(test: &str) -> Option<Vec<String>> {
    let points = contact_points(test)?;
    if points.len() > 1 {
        eprintln!("!!! NOT RUN: {test}: it takes a cluster of 1 node");
        return None;
    }
    Some(points)
}

/// Ends a proxy. That connections of it ended before, and how, is what the tests were for.
async fn finish(proxy: RunningProxy) {
    match AssertUnwindSafe(proxy.finish()).catch_unwind().await {
        Ok(Ok(()) | Err(ProxyError::Worker(_))) => {}
        Ok(Err(error)) => panic!("the proxy broke: {error}"),
        Err(panic) => {
            // All have ended, and the last of them has not let go of its channel yet.
            let text = panic.downcast_ref::<&str>().copied();
            let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            if !text.is_some_and(|text| text.contains("Worker await logic bug")) {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

async fn until_it_works(store: &CassandraStore) {
    let clock = SystemClock::new();
    for _ in 0..200 {
        if store.get(&record(0)).await.is_ok() && append(store, "0", vec![event(1)]).await.is_ok() {
            return;
        }
        clock.sleep(Duration::from_millis(50)).await;
    }
    panic!("the connection does not come back");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_of_each_call_has_its_outcome() {
    let Some(points) = one_node("faults of a node") else {
        return;
    };
    let _turn = TURN.lock().await;
    let keyspace = Keyspace::new(&points);
    let (mut proxy, settings) = behind_proxies(&keyspace).await;
    let directly = keyspace.open().await;
    directly.create_table(&table()).await.unwrap();
    let store = cluster::open(&settings).await.unwrap();
    // Every statement is prepared before something goes wrong.
    let mut n = 1;
    for call in CALLS {
        call.prepare(&directly, n).await;
        call.make(&store, n).await.unwrap();
        n += 1;
    }
    let mut wrong = Vec::new();
    let mut cells = 0;
    for call in CALLS {
        for fault in faults() {
            n += 1;
            cells += 1;
            call.prepare(&directly, n).await;
            fault.inject(&mut proxy, 1);
            let outcome = call.make(&store, n).await.map_err(|error| error.kind()).err();
            proxy.turn_off_rules();
            until_it_works(&store).await;
            let done = call.done(&directly, n).await;
            if !expected(call, &fault).contains(&outcome) {
                wrong.push(format!("{call:?} {fault:?}: {outcome:?}"));
            }
            // What is said to be done is, and what is said not to be is not.
            let truth = match outcome {
                None => done != Some(false),
                Some(ErrorKind::Unknown) => true,
                Some(_) => done != Some(true),
            };
            if !truth {
                wrong.push(format!("{call:?} {fault:?}: {outcome:?}, and in truth: {done:?}"));
            }
            if let (Fault::LostReply, Call::Append | Call::Delete) = (&fault, call) {
                assert_eq!(
                    done,
                    Some(true),
                    "a reply is lost after the statement was applied"
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    println!("{cells} cells");
    drop(store);
    finish(proxy).await;
    keyspace.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_a_record_that_nobody_answers_for_is_unknown() {
    let Some(points) = one_node("unsettled changes of records") else {
        return;
    };
    let _turn = TURN.lock().await;
    let keyspace = Keyspace::new(&points);
    let (mut proxy, settings) = behind_proxies(&keyspace).await;
    let store = cluster::open(&settings).await.unwrap();
    change(&store, &record(1), 0).await.unwrap();
    change(&store, &record(1), 1).await.unwrap();
    for fault in [
        Fault::Answer(errors::write_timeout()),
        Fault::Answer(errors::unavailable()),
        Fault::Hang,
        Fault::LostReply,
    ] {
        let before = store.get(&record(1)).await.unwrap().unwrap().version;
        fault.inject(&mut proxy, usize::MAX);
        let value = Some(Bytes::from_static(b"x"));
        let unknown = store
            .compare_and_set(&record(1), before, value)
            .await
            .unwrap_err();
        assert_eq!(unknown.kind(), ErrorKind::Unknown, "{fault:?}");
        proxy.turn_off_rules();
        let after = store.get(&record(1)).await.unwrap().unwrap().version;
        // A reply that was lost is one of a change that was made, once.
        assert!(
            after == before || after == before + 1,
            "{fault:?}: {before} {after}"
        );
        assert_eq!(
            after == before + 1,
            matches!(fault, Fault::LostReply),
            "{fault:?}"
        );
    }
    drop(store);
    finish(proxy).await;
    keyspace.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_on_the_wire_are_those_of_the_list() {
    let Some(points) = one_node("texts on the wire") else {
        return;
    };
    let _turn = TURN.lock().await;
    let keyspace = Keyspace::new(&points);
    let (mut proxy, settings) = behind_proxies(&keyspace).await;
    #[expect(clippy::disallowed_methods, reason = "the proxy takes no other channel")]
    let (heard, mut frames) = tokio::sync::mpsc::unbounded_channel();
    let texts = of_ours([RequestOpcode::Prepare, RequestOpcode::Query]);
    proxy.running_nodes[0].change_request_rules(Some(vec![RequestRule(
        texts,
        RequestReaction::noop().with_feedback_when_performed(heard),
    )]));
    let store = cluster::open(&settings).await.unwrap();
    let hostile = ["'; DROP TABLE x; --", "\"\\\n\0", "a' OR '1'='1", "日本語 SELECT"];
    for namespace in ["ns", "Kafka-History"] {
        let name = TableName {
            namespace: NamespaceName::new(namespace).unwrap(),
            ..table()
        };
        store.create_table(&name).await.unwrap();
        for text in hostile {
            let mut one = event(1);
            one.key.id = EventId::new(text).unwrap();
            one.items[0].key = ItemKey::new("\u{1}".to_owned() + text).unwrap();
            one.items.sort_by(|a, b| a.key.cmp(&b.key));
            let part = PartitionAppend {
                table: name.clone(),
                partition: partition(text),
                events: vec![one.clone()],
            };
            store.append(vec![part]).await.unwrap();
            for direction in [Direction::Ascending, Direction::Descending] {
                let request = ScanRequest {
                    table: name.clone(),
                    partition: partition(text),
                    bounds: EventBounds::of_interval(TimeInterval::ALL),
                    direction,
                    events_max: 10,
                    bytes_max: 1,
                };
                assert_eq!(store.scan(&request).await.unwrap().events, [one.clone()]);
            }
            let all = store.partitions(&name, None, 1).await.unwrap();
            store.partitions(&name, all.first(), 1).await.unwrap();
            let namespace = name.namespace.clone();
            let key = RecordKey::Split {
                namespace: namespace.clone(),
                partition: partition(text),
            };
            change(&store, &key, 0).await.unwrap();
            change(&store, &key, 1).await.unwrap();
            let prefix = RecordPrefix::Splits(namespace);
            let listed = store.list(&prefix, None, 1).await.unwrap();
            store
                .list(&prefix, listed.first().map(|(key, _)| key), 9)
                .await
                .unwrap();
            store.delete_partition(&name, &partition(text)).await.unwrap();
        }
        store.drop_table(&name).await.unwrap();
    }
    drop(store);
    finish(proxy).await;
    let listed: BTreeSet<&str> = include_str!("../src/cassandra/statements.cql").lines().collect();
    let mut seen = BTreeSet::new();
    while let Some((frame, _)) = frames.recv().await {
        let text = text_of(&frame.body);
        // The driver's own, by which it sees whether nodes agree.
        if !text.contains(" FROM system.") {
            seen.insert(general(&text, &keyspace.name.to_string()));
        }
    }
    let unknown: Vec<&String> = seen
        .iter()
        .filter(|text| !listed.contains(text.as_str()))
        .collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
    assert!(seen.len() > 20, "{seen:#?}");
    keyspace.remove().await;
}

/// The text at the start of a PREPARE or QUERY.
fn text_of(body: &[u8]) -> String {
    let (length, rest) = body.split_first_chunk::<4>().unwrap();
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap();
    String::from_utf8(rest[..length].to_vec()).unwrap()
}

/// A text with names, ids and copies taken out, as the list has it.
fn general(text: &str, keyspace: &str) -> String {
    let mut text = text.to_owned();
    for namespace in ["ns", "kafka_his__punf3vce2dg2ysrkmhpf"] {
        let events = format!("{keyspace}_{namespace}");
        text = text
            .replace(&format!("{events}.data_all"), "<events>.<table>")
            .replace(&events, "<events>");
    }
    text = text
        .replace(&format!(" {keyspace}."), " <keyspace>.")
        .replace(&format!(" {keyspace} "), " <keyspace> ")
        .replace("'datacenter1': 1", "'<datacenter>': <copies>");
    match text.split_once(" ID = ") {
        Some((before, after)) => format!("{before} ID = <id>{}", &after[36..]),
        None => text,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_hangs_stops_nothing() {
    let Some(points) = contact_points("a node that hangs") else {
        return;
    };
    let _turn = TURN.lock().await;
    if points.len() < 3 {
        eprintln!("!!! NOT RUN: a node that hangs: it takes 3 nodes (`dev/cluster up --cassandra 3`)");
        return;
    }
    let keyspace = Keyspace::new(&points);
    let (mut proxy, settings) = behind_proxies(&keyspace).await;
    let settings = CassandraSettings {
        replication_factor: 3,
        request_timeout: Duration::from_secs(5),
        ..settings
    };
    let store = Arc::new(cluster::open(&settings).await.unwrap());
    store.create_table(&table()).await.unwrap();
    // Every statement is prepared before something goes wrong.
    append(&store, "0", vec![event(1)]).await.unwrap();
    scan(&store, "0", Direction::Ascending).await.unwrap();
    change(&store, &record(1), 0).await.unwrap();
    change(&store, &record(1), 1).await.unwrap();
    for hung in 0..points.len() {
        let rule = RequestRule(executed(), RequestReaction::drop_frame());
        proxy.running_nodes[hung].change_request_rules(Some(vec![rule]));
        for n in 0..30u32 {
            let id = format!("{hung}-{n}");
            append(&store, &id, vec![event(1)]).await.unwrap();
            assert_eq!(scan(&store, &id, Direction::Ascending).await.unwrap(), [event(1)]);
            if n % 10 == 0 {
                let n = 10_000 + u32::try_from(hung).unwrap() * 1_000 + n;
                change(&store, &record(n), 0).await.unwrap();
                change(&store, &record(n), 1).await.unwrap();
            }
        }
        proxy.turn_off_rules();
    }
    drop(store);
    finish(proxy).await;
    keyspace.remove().await;
}
