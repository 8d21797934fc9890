//! The store on a real Cassandra: the contract, what several servers do at once, and what is said at the start.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test panics when it fails, and says when it does not run"
)]

mod cluster;

use std::sync::Arc;
use std::time::Duration;

use anabranch_model::{
    Consistency, Direction, Event, EventId, EventItem, EventKey, EventTime, ItemKey, NamespaceName,
    PartitionKey, SliceName, TimeInterval, TimeSeriesId,
};
use anabranch_storage::cassandra::CassandraStore;
use anabranch_storage::conformance::{self, Subject};
use anabranch_storage::{
    ErrorKind, EventBounds, EventStore, PartitionAppend, RecordKey, RecordStore, ScanEnd, ScanRequest,
    StoreStatus, TableKind, TableName,
};
use bytes::Bytes;
use cluster::{Keyspace, contact_points};
use scylla::value::Row;

fn subject(store: Arc<CassandraStore>) -> Subject {
    Subject {
        events: store.clone(),
        records: store,
    }
}

fn table(kind: TableKind) -> TableName {
    TableName {
        namespace: NamespaceName::new("ns").unwrap(),
        kind,
        slice: SliceName::new("all").unwrap(),
    }
}

fn partition(id: &str) -> PartitionKey {
    PartitionKey {
        slice: SliceName::new("all").unwrap(),
        time_series_id: TimeSeriesId::new(id).unwrap(),
        time_bucket: 0,
        event_bucket: 0,
    }
}

fn event(n: i64, items: usize, value_bytes: usize) -> Event {
    let item = |n: usize| EventItem {
        key: ItemKey::new(format!("{n:04}")).unwrap(),
        value: Bytes::from(vec![b'x'; value_bytes]),
    };
    Event {
        key: EventKey {
            time: EventTime::from_micros(n),
            id: EventId::new("e").unwrap(),
        },
        items: (0..items).map(item).collect(),
    }
}

async fn append(store: &CassandraStore, id: &str, events: Vec<Event>) {
    let part = PartitionAppend {
        table: table(TableKind::Data),
        partition: partition(id),
        events,
        consistency: Consistency::default(),
    };
    store.append(vec![part]).await.unwrap();
}

fn scan(id: &str, direction: Direction) -> ScanRequest {
    ScanRequest {
        table: table(TableKind::Data),
        partition: partition(id),
        bounds: EventBounds::of_interval(TimeInterval::ALL),
        direction,
        events_max: 1_000_000,
        bytes_max: 1 << 30,
        consistency: Consistency::default(),
    }
}

async fn all(store: &CassandraStore, mut request: ScanRequest) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let page = store.scan(&request).await.unwrap();
        events.extend(page.events);
        match page.end {
            ScanEnd::Exhausted => return events,
            ScanEnd::More { after } => request.bounds = request.bounds.after(after, request.direction),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_conform() {
    let Some(points) = contact_points("events on Cassandra") else {
        return;
    };
    let keyspace = Keyspace::new(&points);
    let store = keyspace.open().await;
    conformance::run_events(async || {
        for kind in [TableKind::Wide, TableKind::Data] {
            store.drop_table(&table(kind)).await.unwrap();
        }
        subject(store.clone())
    })
    .await;
    assert_eq!(store.kind(), "cassandra");
    assert!(
        store
            .facts()
            .contains(&("nodes connected", points.len().to_string()))
    );
    keyspace.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_conform() {
    let Some(points) = contact_points("records on Cassandra") else {
        return;
    };
    let made = std::sync::Mutex::new(Vec::new());
    conformance::run_records(async || {
        let keyspace = Keyspace::new(&points);
        let store = keyspace.open().await;
        made.lock().unwrap().push(keyspace);
        subject(store)
    })
    .await;
    for keyspace in made.into_inner().unwrap() {
        keyspace.remove().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_start_and_make_a_table_together_make_the_same() {
    let Some(points) = contact_points("racing servers on Cassandra") else {
        return;
    };
    let keyspace = Keyspace::new(&points);
    // Together from the first keyspace on.
    let stores = futures::future::join_all((0..4).map(|_| keyspace.open())).await;
    for _ in 0..2 {
        let name = table(TableKind::Data);
        let made = stores.iter().map(|store| store.create_table(&name));
        for made in futures::future::join_all(made).await {
            made.unwrap();
        }
        for (n, store) in stores.iter().enumerate() {
            append(store, &n.to_string(), vec![event(1, 2, 10)]).await;
        }
        for store in &stores {
            for n in 0..stores.len() {
                assert_eq!(
                    all(store, scan(&n.to_string(), Direction::Ascending)).await,
                    [event(1, 2, 10)]
                );
            }
            let listed = store.partitions(&name, None, 100).await.unwrap();
            assert_eq!(listed.len(), stores.len());
        }
        // One drops it, and all others notice; then all make it again, empty.
        stores[0].drop_table(&name).await.unwrap();
        for store in &stores {
            let gone = store.scan(&scan("0", Direction::Ascending)).await;
            assert_eq!(gone.unwrap_err().kind(), ErrorKind::NotFound);
            let parts = vec![PartitionAppend {
                table: name.clone(),
                partition: partition("0"),
                events: vec![event(1, 1, 1)],
                consistency: Consistency::default(),
            }];
            let failure = store.append(parts).await.unwrap_err();
            assert_eq!(failure.failed[0].1.kind(), ErrorKind::NotFound);
        }
    }
    keyspace.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_events_are_whole_in_pages_of_every_size() {
    let Some(points) = contact_points("large events on Cassandra") else {
        return;
    };
    let keyspace = Keyspace::new(&points);
    let store = keyspace.open().await;
    store.create_table(&table(TableKind::Data)).await.unwrap();
    // As many items as an event may have, and as many bytes.
    let events = vec![
        event(1, 1, 10),
        event(2, 1_024, 100),
        event(3, 3, 1 << 20),
        event(4, 1_024, 3_900),
        event(5, 2, 10),
    ];
    append(&store, "id", events.clone()).await;
    for direction in [Direction::Ascending, Direction::Descending] {
        let mut expected = events.clone();
        if direction == Direction::Descending {
            expected.reverse();
        }
        // A fresh one has measured nothing, and guesses wrong at first.
        for store in [&store, &keyspace.open().await] {
            for (events_max, bytes_max) in [(1, 1), (1, 1 << 30), (2, 5_000), (100, 1 << 30)] {
                let request = ScanRequest {
                    events_max,
                    bytes_max,
                    ..scan("id", direction)
                };
                assert_eq!(all(store, request).await, expected, "{events_max} {bytes_max}");
            }
        }
    }
    keyspace.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_made_under_the_id_that_was_agreed_on() {
    let Some(points) = contact_points("ids of tables on Cassandra") else {
        return;
    };
    let keyspace = Keyspace::new(&points);
    let store = keyspace.open().await;
    let session = keyspace.session().await;
    let ids = async || -> Vec<Row> {
        let ask = format!(
            "SELECT id FROM system_schema.tables WHERE keyspace_name = '{}_ns' AND table_name = 'data_all'",
            keyspace.name
        );
        let rows = session.query_unpaged(ask, ()).await.unwrap();
        let rows = rows.into_rows_result().unwrap();
        rows.rows::<Row>().unwrap().map(Result::unwrap).collect()
    };
    let name = table(TableKind::Data);
    store.create_table(&name).await.unwrap();
    let first = ids().await;
    store.create_table(&name).await.unwrap();
    assert_eq!(ids().await, first, "made again, it is the same");
    store.drop_table(&name).await.unwrap();
    store.create_table(&name).await.unwrap();
    assert_ne!(ids().await, first, "made anew, it is another");

    // One that somebody else put in its place is not taken for it.
    let table = format!("{}_ns.data_all", keyspace.name);
    session
        .query_unpaged(format!("DROP TABLE {table}"), ())
        .await
        .unwrap();
    let other = format!("CREATE TABLE {table} (a int PRIMARY KEY)");
    session.query_unpaged(other, ()).await.unwrap();
    let refused = store.create_table(&name).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.to_string().contains("drop it by hand"), "{refused}");
    keyspace.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_at_the_start_is_said_with_what_to_do() {
    let Some(points) = contact_points("the start on Cassandra") else {
        return;
    };
    let keyspace = Keyspace::new(&points);
    let problem = async |change: fn(&mut anabranch_storage::cassandra::settings::CassandraSettings)| {
        let mut settings = keyspace.settings();
        settings.request_timeout = Duration::from_secs(3);
        change(&mut settings);
        cluster::open(&settings).await.unwrap_err().to_string()
    };
    let nobody = problem(|settings| settings.contact_points = vec!["127.0.0.1:1".to_owned()]).await;
    assert!(
        nobody.contains("no contact point answers at 127.0.0.1:1"),
        "{nobody}"
    );
    let nowhere =
        problem(|settings| settings.contact_points = vec!["no-such-host.invalid:9042".to_owned()]).await;
    assert!(nowhere.contains("no contact point has an address"), "{nowhere}");
    let elsewhere = problem(|settings| settings.datacenter = Some("mars".to_owned())).await;
    assert!(
        elsewhere.contains("no data centre `mars`") && elsewhere.contains("datacenter1"),
        "{elsewhere}"
    );
    let copies = problem(|settings| settings.replication_factor = 7).await;
    assert!(
        copies.contains("7 copies") && copies.contains("store.cassandra.replication_factor"),
        "{copies}"
    );

    // A keyspace whose copies are all somewhere else.
    let session = keyspace.session().await;
    let make = format!(
        "CREATE KEYSPACE {} WITH replication = {{'class': 'NetworkTopologyStrategy', 'datacenter1': 7}}",
        keyspace.name
    );
    session.query_unpaged(make, ()).await.unwrap();
    let quorum = problem(|_| ()).await;
    assert!(
        quorum.contains("a majority of the replicas must be up"),
        "{quorum}"
    );
    keyspace.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_were_listed_are_those_that_were_changed() {
    let Some(points) = contact_points("lists of records on Cassandra") else {
        return;
    };
    let keyspace = Keyspace::new(&points);
    let (here, there) = (keyspace.open().await, keyspace.open().await);
    let key = RecordKey::Split {
        namespace: NamespaceName::new("ns").unwrap(),
        partition: partition("id"),
    };
    // Made by one server, it is listed by another that has never heard of the slice.
    here.compare_and_set(&key, 0, Some(Bytes::from_static(b"a")))
        .await
        .unwrap();
    let prefix = anabranch_storage::RecordPrefix::Splits(NamespaceName::new("ns").unwrap());
    let listed = there.list(&prefix, None, 10).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].0, key);
    keyspace.remove().await;
}
