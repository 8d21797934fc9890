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
#[path = "cluster/proxy.rs"]
mod proxy;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anabranch_model::{
    Consistency, Direction, Event, EventId, EventItem, EventKey, EventTime, ItemKey, NamespaceName,
    PartitionKey, SliceName, TimeInterval, TimeSeriesId,
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
use proxy::faults::{Fault, faults};
use scylla::errors::DbError;
use scylla_proxy::{
    Condition, Reaction, RequestOpcode, RequestReaction, RequestRule, RunningProxy,
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
        consistency: Consistency::default(),
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
        consistency: Consistency::default(),
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

/// A proxy before each node, and settings that lead through them.
async fn behind_proxies(keyspace: &Keyspace) -> (RunningProxy, CassandraSettings) {
    let (proxies, map) = proxy::before(&keyspace.points).await;
    let settings = CassandraSettings {
        contact_points: map.values().map(ToString::to_string).collect(),
        address_map: map.iter().map(|(node, proxy)| (node.ip(), *proxy)).collect(),
        request_timeout: Duration::from_secs(2),
        ..keyspace.settings()
    };
    (proxies, settings)
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
    let (mut proxies, settings) = behind_proxies(&keyspace).await;
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
            fault.inject(&mut proxies, 1);
            let outcome = call.make(&store, n).await.map_err(|error| error.kind()).err();
            proxies.turn_off_rules();
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
    proxy::finish(proxies).await;
    keyspace.remove().await;
}

/// A change of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// The first table of a namespace, and its keyspace.
    MakeKeyspace,
    /// A table of targets, beside others.
    MakeTable,
    DropTable,
}

impl Change {
    fn table(self, n: u32) -> TableName {
        let namespace = match self {
            Self::MakeKeyspace => format!("made{n}"),
            Self::MakeTable | Self::DropTable => "ns".to_owned(),
        };
        TableName {
            namespace: NamespaceName::new(namespace).unwrap(),
            kind: TableKind::Wide,
            slice: SliceName::new(format!("{:08}", 10_000_000 + n)).unwrap(),
        }
    }

    async fn prepare(self, store: &CassandraStore, n: u32) {
        if self == Self::DropTable {
            store.create_table(&self.table(n)).await.unwrap();
        }
    }

    async fn make(self, store: &CassandraStore, n: u32) -> Result<(), StoreError> {
        match self {
            Self::MakeKeyspace | Self::MakeTable => store.create_table(&self.table(n)).await,
            Self::DropTable => store.drop_table(&self.table(n)).await,
        }
    }

    /// Why nothing can be appended to the table, for who asks past the proxies; `None`: it is there.
    async fn missing(self, store: &CassandraStore, n: u32) -> Option<ErrorKind> {
        let part = PartitionAppend {
            table: self.table(n),
            partition: PartitionKey {
                slice: self.table(n).slice,
                ..partition("a")
            },
            events: vec![event(1)],
            consistency: Consistency::default(),
        };
        let failure = store.append(vec![part]).await.err()?;
        Some(failure.failed[0].1.kind())
    }

    /// What is said of the table once it is done.
    fn done(self) -> Option<ErrorKind> {
        (self == Self::DropTable).then_some(ErrorKind::NotFound)
    }
}

/// Statements of a change of the schema, each by itself.
fn of_changes() -> [(&'static str, Condition); 3] {
    let query = || proxy::of_ours([RequestOpcode::Query, RequestOpcode::Prepare]);
    let has = |text: &str| Condition::BodyContainsCaseSensitive(text.as_bytes().into());
    [
        ("the change", query().and(has("CREATE ").or(has("DROP ")))),
        ("whether nodes agree", query().and(has("schema_version"))),
        ("what is known, and the id", proxy::executed()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_of_a_change_of_the_schema_leaves_what_can_be_done_again() {
    let Some(points) = one_node("faults of changes of the schema") else {
        return;
    };
    let all = std::env::var("ANABRANCH_MATRIX").is_ok_and(|which| which == "all");
    let _turn = TURN.lock().await;
    let keyspace = Keyspace::new(&points);
    let (mut proxies, settings) = behind_proxies(&keyspace).await;
    let directly = keyspace.open().await;
    directly.create_table(&table()).await.unwrap();
    let store = cluster::open(&settings).await.unwrap();
    let (mut n, mut cells, mut ran, mut wrong) = (0, 0, 0, Vec::new());
    for change in [Change::MakeKeyspace, Change::MakeTable, Change::DropTable] {
        n += 1;
        change.prepare(&directly, n).await;
        change.make(&store, n).await.unwrap();
        for (what, statements) in of_changes() {
            n += 1;
            change.prepare(&directly, n).await;
            let sent = heard(&mut proxies, &statements, change.make(&store, n)).await;
            for before in 0..sent.min(if what == "the change" { 2 } else { 4 }) {
                for fault in faults() {
                    // A change that nobody answers for is waited for as long as every node may take.
                    let slow = matches!(fault, Fault::Hang | Fault::LostReply);
                    cells += 1;
                    if !all
                        && (if slow {
                            what != "the change" || before > 0
                        } else {
                            cells % 3 > 0
                        })
                    {
                        continue;
                    }
                    (n, ran) = (n + 1, ran + 1);
                    change.prepare(&directly, n).await;
                    fault.of_statements(&mut proxies, &statements, before, 1);
                    let made = change.make(&store, n).await;
                    proxies.turn_off_rules();
                    until_it_works(&store).await;
                    if made.is_ok() && change.missing(&directly, n).await != change.done() {
                        wrong.push(format!(
                            "{change:?}, {what} {before}, {fault:?}: it is not, and was said to be"
                        ));
                    }
                    if let (Fault::Delay, Err(error)) = (&fault, &made) {
                        wrong.push(format!("{change:?}, {what} {before}, late: {error:?}"));
                    }
                    // Whatever became of it: again, and it is done.
                    if let Err(error) = change.make(&store, n).await {
                        wrong.push(format!("{change:?}, {what} {before}, {fault:?}: again {error:?}"));
                    }
                    let stands = change.missing(&directly, n).await;
                    assert_eq!(
                        stands,
                        change.done(),
                        "{change:?}, {what} {before}, {fault:?}: {made:?}"
                    );
                    // A node keeps memory for every table.
                    directly.drop_table(&change.table(n)).await.unwrap();
                }
            }
        }
    }
    println!("{ran} of {cells} cells");
    assert!(wrong.is_empty(), "{wrong:#?}");
    drop(store);
    proxy::finish(proxies).await;
    keyspace.remove().await;
}

/// How many of these statements a call sends.
async fn heard(
    proxies: &mut RunningProxy,
    statements: &Condition,
    call: impl Future<Output = Result<(), StoreError>>,
) -> usize {
    #[expect(clippy::disallowed_methods, reason = "the proxy takes no other channel")]
    let (heard, mut frames) = tokio::sync::mpsc::unbounded_channel();
    let reaction = RequestReaction::noop().with_feedback_when_performed(heard);
    proxies.running_nodes[0].change_request_rules(Some(vec![RequestRule(statements.clone(), reaction)]));
    call.await.unwrap();
    proxies.turn_off_rules();
    let mut sent = 0;
    while frames.try_recv().is_ok() {
        sent += 1;
    }
    sent
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_a_record_that_nobody_answers_for_is_unknown() {
    let Some(points) = one_node("unsettled changes of records") else {
        return;
    };
    let _turn = TURN.lock().await;
    let keyspace = Keyspace::new(&points);
    let (mut proxies, settings) = behind_proxies(&keyspace).await;
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
        fault.inject(&mut proxies, usize::MAX);
        let value = Some(Bytes::from_static(b"x"));
        let unknown = store
            .compare_and_set(&record(1), before, value)
            .await
            .unwrap_err();
        assert_eq!(unknown.kind(), ErrorKind::Unknown, "{fault:?}");
        proxies.turn_off_rules();
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
    proxy::finish(proxies).await;
    keyspace.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_on_the_wire_are_those_of_the_list() {
    let Some(points) = one_node("texts on the wire") else {
        return;
    };
    let _turn = TURN.lock().await;
    let keyspace = Keyspace::new(&points);
    let (mut proxies, settings) = behind_proxies(&keyspace).await;
    #[expect(clippy::disallowed_methods, reason = "the proxy takes no other channel")]
    let (heard, mut frames) = tokio::sync::mpsc::unbounded_channel();
    let texts = proxy::of_ours([RequestOpcode::Prepare, RequestOpcode::Query]);
    proxies.running_nodes[0].change_request_rules(Some(vec![RequestRule(
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
                consistency: Consistency::default(),
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
                    consistency: Consistency::default(),
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
    proxy::finish(proxies).await;
    let listed: BTreeSet<&str> = include_str!("../src/cassandra/statements.cql").lines().collect();
    let mut seen = BTreeSet::new();
    while let Some((frame, _)) = frames.recv().await {
        let text = proxy::text_of(&frame);
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
    let (mut proxies, settings) = behind_proxies(&keyspace).await;
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
        let rule = RequestRule(proxy::executed(), RequestReaction::drop_frame());
        proxies.running_nodes[hung].change_request_rules(Some(vec![rule]));
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
        proxies.turn_off_rules();
    }
    drop(store);
    proxy::finish(proxies).await;
    keyspace.remove().await;
}
