//! A server whose detections go through a real Kafka: a wide read ends as a split that is served.
#![cfg(feature = "cluster")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and runs a real process in real time"
)]

mod harness;

use std::time::{Duration, Instant};

use anabranch_bus::kafka::testing::{brokers, create_topic, read_topic, unique};
use anabranch_proto::admin::v1 as admin;
use anabranch_proto::pipeline::v1::WidePartitionDetected;
use anabranch_proto::timeseries::v1 as wire;
use harness::{Server, Started};
use prost::Message as _;

const NAMESPACE: &str = "through-kafka";
const ID: &str = "wide/one";
const EVENTS: i64 = 1_200;
const CONVERGES_WITHIN: Duration = Duration::from_secs(120);

async fn load(server: &Server) {
    let namespace = harness::split_namespace(NAMESPACE, 16 << 10, 32 << 10);
    harness::create(&mut server.admin().await, namespace).await;
    let event = |n: i64| harness::event(ID, harness::timestamp(1_767_571_200_000_000 + n * 1_000_000), n);
    let events = (0..EVENTS).map(event).collect();
    harness::write(server, NAMESPACE, events).await.unwrap();
    server.run(&["namespace", "seal", NAMESPACE]);
}

async fn read(server: &Server) -> usize {
    let request = wire::ReadEventRecordsRequest {
        namespace: NAMESPACE.to_owned(),
        time_series_id: ID.to_owned(),
        page_size: 100,
        ..wire::ReadEventRecordsRequest::default()
    };
    let records = harness::walk(&mut server.events().await, request).await;
    records.unwrap().len()
}

async fn states(server: &Server) -> Vec<admin::split::State> {
    let list = admin::ListSplitsRequest {
        namespace: NAMESPACE.to_owned(),
        ..admin::ListSplitsRequest::default()
    };
    let splits = server.admin().await.list_splits(list).await.unwrap();
    splits
        .into_inner()
        .splits
        .iter()
        .map(admin::Split::state)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wide_read_is_detected_through_kafka_and_its_partition_split() {
    let Some(brokers) = brokers("a wide read through Kafka") else {
        return;
    };
    let place = harness::folder("kafka");
    let topic = unique("serve");
    let dead = format!("{topic}.dead");
    let settings = [
        ("ANABRANCH_BUS__KIND", "kafka"),
        ("ANABRANCH_BUS__KAFKA__BROKERS", &*brokers),
        ("ANABRANCH_BUS__KAFKA__TOPIC", &topic),
        ("ANABRANCH_BUS__KAFKA__DEAD_LETTER_TOPIC", &dead),
        ("ANABRANCH_BUS__KAFKA__GROUP", &topic),
    ];
    let serve = || Started::serve_with(&place.path().join("data"), &[], &settings).ready();
    let refused = serve().err().unwrap();
    let expected = format!(
        "error: bus.kafka.topic: there is no topic `{topic}`; create it, or name another, or set bus.kafka.create_topics=true"
    );
    assert!(
        refused.contains("exit status: 5") && refused.contains(&expected),
        "{refused}"
    );
    create_topic(&brokers, &topic, 3);
    create_topic(&brokers, &dead, 1);

    let server = serve().unwrap();
    load(&server).await;
    let since = Instant::now();
    while states(&server).await != [admin::split::State::Completed] {
        assert!(since.elapsed() < CONVERGES_WITHIN, "{:?}", states(&server).await);
        assert_eq!(read(&server).await, usize::try_from(EVENTS).unwrap());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(read(&server).await, usize::try_from(EVENTS).unwrap());
    let sent = read_topic(&brokers, &topic);
    assert!(!sent.is_empty());
    for message in &sent {
        let detected = WidePartitionDetected::decode(message.value.as_deref().unwrap()).unwrap();
        assert_eq!((&*detected.namespace, &*detected.time_series_id), (NAMESPACE, ID));
        let key = format!(
            "{NAMESPACE}/{}/{ID}/{}/{}",
            detected.time_slice, detected.time_bucket, detected.event_bucket
        );
        assert_eq!(String::from_utf8_lossy(&message.key), key);
    }
    assert_eq!(read_topic(&brokers, &dead), []);
    server.assert_no_panic();
    assert!(server.stop().success());
}
