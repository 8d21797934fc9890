//! At which consistency statements go over the wire, read off the frames by a proxy before a real Cassandra: what a
//! namespace asks for, what the store is set to, and what no namespace decides.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test panics when it fails, and says when it does not run"
)]

#[expect(dead_code, reason = "here a store is opened through a proxy")]
mod cluster;
#[path = "cluster/proxy.rs"]
mod proxy;

use std::collections::BTreeSet;

use anabranch_model::Consistency as Asked;
use anabranch_model::{
    Direction, Event, EventId, EventItem, EventKey, EventTime, ItemKey, NamespaceName, PartitionKey,
    SliceName, TimeInterval, TimeSeriesId,
};
use anabranch_storage::cassandra::CassandraStore;
use anabranch_storage::cassandra::settings::{CassandraSettings, StoreConsistency};
use anabranch_storage::{
    EventBounds, EventStore, PartitionAppend, RecordKey, RecordPrefix, RecordStore, ScanRequest, StoreError,
    TableKind, TableName,
};
use bytes::Bytes;
use cluster::{Keyspace, contact_points};
use scylla_proxy::{Reaction, RequestFrame, RequestOpcode, RequestReaction, RequestRule, RunningProxy};

fn table() -> TableName {
    TableName {
        namespace: NamespaceName::new("ns").unwrap(),
        kind: TableKind::Data,
        slice: SliceName::new("all").unwrap(),
    }
}

fn partition() -> PartitionKey {
    PartitionKey {
        slice: table().slice,
        time_series_id: TimeSeriesId::new("id").unwrap(),
        time_bucket: 0,
        event_bucket: 0,
    }
}

async fn append(store: &CassandraStore, consistency: Asked) {
    let item = EventItem {
        key: ItemKey::new("k").unwrap(),
        value: Bytes::from_static(b"value"),
    };
    let event = |n| Event {
        key: EventKey {
            time: EventTime::from_micros(n),
            id: EventId::new("e").unwrap(),
        },
        items: vec![item.clone()],
    };
    let part = PartitionAppend {
        table: table(),
        partition: partition(),
        events: (0..3).map(event).collect(),
        consistency,
    };
    store.append(vec![part]).await.unwrap();
}

/// Pages of one event: both directions, and the statement by which one event is read whole.
async fn scan(store: &CassandraStore, consistency: Asked) {
    for direction in [Direction::Ascending, Direction::Descending] {
        let request = ScanRequest {
            table: table(),
            partition: partition(),
            bounds: EventBounds::of_interval(TimeInterval::ALL),
            direction,
            events_max: 1,
            bytes_max: 1,
            consistency,
        };
        assert_eq!(store.scan(&request).await.unwrap().events.len(), 1);
    }
}

/// A consistency as it is written on the wire (CQL binary protocol v4, 3).
fn name(level: u16) -> &'static str {
    match level {
        0x01 => "ONE",
        0x04 => "QUORUM",
        0x05 => "ALL",
        0x06 => "LOCAL_QUORUM",
        0x07 => "EACH_QUORUM",
        0x08 => "SERIAL",
        0x09 => "LOCAL_SERIAL",
        0x0a => "LOCAL_ONE",
        other => panic!("{other:#x} is never used"),
    }
}

/// The consistency of an EXECUTE (id, level) or a BATCH (type, statements, level).
fn level_of(frame: &RequestFrame) -> &'static str {
    let body = &frame.body[..];
    let short = |at: usize| usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
    let mut at = 0;
    if frame.opcode == RequestOpcode::Batch {
        let statements = short(1);
        at = 3;
        for _ in 0..statements {
            assert_eq!(body[at], 1, "each is prepared");
            at += 1;
            at += 2 + short(at);
            let values = short(at);
            at += 2;
            for _ in 0..values {
                let length = i32::from_be_bytes(body[at..at + 4].try_into().unwrap());
                at += 4 + usize::try_from(length).unwrap_or(0);
            }
        }
    } else {
        at += 2 + short(at);
    }
    name(u16::try_from(short(at)).unwrap())
}

/// At which levels a call's statements are sent.
async fn levels<T>(proxies: &mut RunningProxy, call: impl Future<Output = T>) -> BTreeSet<&'static str> {
    #[expect(clippy::disallowed_methods, reason = "the proxy takes no other channel")]
    let (heard, mut frames) = tokio::sync::mpsc::unbounded_channel();
    let reaction = RequestReaction::noop().with_feedback_when_performed(heard);
    proxies.running_nodes[0].change_request_rules(Some(vec![RequestRule(proxy::executed(), reaction)]));
    call.await;
    proxies.turn_off_rules();
    let mut levels = BTreeSet::new();
    while let Ok((frame, _)) = frames.try_recv() {
        levels.insert(level_of(&frame));
    }
    levels
}

/// What is asked for, and by which store: the level of a write, that of a read.
type Row = (Asked, [(&'static str, &'static str); 3]);

const STORES: [StoreConsistency; 3] = [
    StoreConsistency::LocalQuorum,
    StoreConsistency::Quorum,
    StoreConsistency::EachQuorum,
];

const EXPECTED: [Row; 6] = [
    (Asked::One, [("ONE", "ONE"); 3]),
    (Asked::LocalOne, [("LOCAL_ONE", "LOCAL_ONE"); 3]),
    (
        Asked::LocalQuorum,
        [
            ("LOCAL_QUORUM", "LOCAL_QUORUM"),
            ("QUORUM", "QUORUM"),
            ("EACH_QUORUM", "LOCAL_QUORUM"),
        ],
    ),
    (
        Asked::Quorum,
        [
            ("QUORUM", "QUORUM"),
            ("QUORUM", "QUORUM"),
            ("EACH_QUORUM", "QUORUM"),
        ],
    ),
    (
        Asked::EachQuorum,
        [
            ("EACH_QUORUM", "LOCAL_QUORUM"),
            ("EACH_QUORUM", "QUORUM"),
            ("EACH_QUORUM", "LOCAL_QUORUM"),
        ],
    ),
    (Asked::All, [("ALL", "ALL"); 3]),
];

#[tokio::test(flavor = "multi_thread")]
async fn statements_are_sent_at_the_consistency_that_their_namespace_asks_for() {
    let Some(points) = contact_points("consistency on the wire") else {
        return;
    };
    let keyspace = Keyspace::new(&points[..1]);
    for (at, consistency) in STORES.into_iter().enumerate() {
        let (mut proxies, map) = proxy::before(&keyspace.points).await;
        let settings = CassandraSettings {
            contact_points: map.values().map(ToString::to_string).collect(),
            address_map: map.iter().map(|(node, proxy)| (node.ip(), *proxy)).collect(),
            consistency,
            ..keyspace.settings()
        };
        let store = cluster::open(&settings).await.unwrap();
        store.create_table(&table()).await.unwrap();
        for (asked, expected) in EXPECTED {
            let (write, read) = expected[at];
            let written = levels(&mut proxies, append(&store, asked)).await;
            assert_eq!(written, BTreeSet::from([write]), "{consistency:?} {asked:?}");
            let scanned = levels(&mut proxies, scan(&store, asked)).await;
            assert_eq!(scanned, BTreeSet::from([read]), "{consistency:?} {asked:?}");
        }
        let (write, read, serial) = [
            ("LOCAL_QUORUM", "LOCAL_QUORUM", "LOCAL_SERIAL"),
            ("QUORUM", "QUORUM", "SERIAL"),
            ("EACH_QUORUM", "LOCAL_QUORUM", "SERIAL"),
        ][at];
        // Nobody's to ask for: deletes of targets, walks over partitions, records.
        let deleted = levels(&mut proxies, store.delete_partition(&table(), &partition())).await;
        assert_eq!(deleted, BTreeSet::from([write]));
        let walked = levels(&mut proxies, store.partitions(&table(), None, 10)).await;
        assert_eq!(walked, BTreeSet::from([read]));
        let key = RecordKey::BlockedId {
            namespace: table().namespace,
            time_series_id: TimeSeriesId::new(format!("{at}")).unwrap(),
        };
        let value = || Some(Bytes::from_static(b"x"));
        let changed = async {
            store.compare_and_set(&key, 0, value()).await?;
            store.compare_and_set(&key, 1, value()).await?;
            Ok::<_, StoreError>(())
        };
        assert_eq!(levels(&mut proxies, changed).await, BTreeSet::from([write]));
        assert_eq!(
            levels(&mut proxies, store.get(&key)).await,
            BTreeSet::from([serial])
        );
        let prefix = RecordPrefix::BlockedIds(table().namespace);
        assert_eq!(
            levels(&mut proxies, store.list(&prefix, None, 10)).await,
            BTreeSet::from([read])
        );
        drop(store);
        proxy::finish(proxies).await;
    }
    keyspace.remove().await;
}
