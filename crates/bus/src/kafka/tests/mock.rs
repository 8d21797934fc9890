//! Every error code of produce, fetch and commit, against brokers inside this process, and the outcome of each.
//!
//! | request | codes | outcome |
//! |---|---|---|
//! | produce | that pass | confirmed, after the client has tried again |
//! | produce | that stay | `publish` fails with the code, and counts it; later ones are confirmed again |
//! | fetch | all | every detection is delivered; some may come again |
//! | commit | all | no detection that was not acked is lost, and every later commit goes through |
//!
//! | request | reply | outcome |
//! |---|---|---|
//! | produce, fetch, commit | late, in time | as if it were not |
//! | produce | not in time, and applied | `publish` fails; the detection is delivered all the same, once or more |
//! | fetch | not in time | every detection is delivered when replies come again; some may come again |
//! | commit | not in time, and applied | what was acked does not come again, what was not does |
//!
//! A broken connection is the code `_TRANSPORT`; brokers that are gone have a test of their own.

use std::task::Poll;

use rdkafka::TopicPartitionList;
use rdkafka::config::FromClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Raw};

use super::*;
use crate::conformance::detection;

type Cluster = MockCluster<'static, DefaultProducerContext>;

fn cluster(name: &str) -> (Cluster, KafkaSettings) {
    let cluster = MockCluster::new(1).unwrap();
    let settings = KafkaSettings {
        create_topics: false,
        partitions: 1,
        publish_within: Duration::from_secs(20),
        ..settings(&cluster.bootstrap_servers(), name)
    };
    for topic in [&settings.topic, &settings.dead_letter_topic] {
        cluster.create_topic(topic, 1, 1).unwrap();
    }
    (cluster, settings)
}

/// Codes with which a broker may refuse a batch for now.
const PRODUCE_PASSING: &[Raw] = &[
    Raw::RD_KAFKA_RESP_ERR__TRANSPORT,
    Raw::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
    Raw::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
    Raw::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
    Raw::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
    Raw::RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE,
    Raw::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
    Raw::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    Raw::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
    Raw::RD_KAFKA_RESP_ERR_INVALID_MSG,
];

/// Codes with which it refuses a batch for good.
const PRODUCE_STAYING: &[Raw] = &[
    Raw::RD_KAFKA_RESP_ERR_UNKNOWN,
    Raw::RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION,
    Raw::RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE,
    Raw::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
    Raw::RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE,
    Raw::RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION,
    Raw::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
    Raw::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
    Raw::RD_KAFKA_RESP_ERR_INVALID_REQUIRED_ACKS,
    Raw::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP,
    Raw::RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT,
    Raw::RD_KAFKA_RESP_ERR_POLICY_VIOLATION,
    Raw::RD_KAFKA_RESP_ERR_INVALID_RECORD,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn produce_each_code_has_its_outcome() {
    let (cluster, settings) = cluster("produce");
    let process = Process::start(&settings).await;
    confirmed(&process, &detection("first", 1)).await;
    for code in PRODUCE_PASSING {
        cluster.request_errors(Api::Produce, &[*code]);
        let published = process.bus.publish(&detection("a", 1)).await;
        assert!(published.is_ok(), "{code:?}: {published:?}");
        cluster.clear_request_errors(Api::Produce);
    }
    assert_eq!(process.counted("produce_failures_total"), 0);
    for code in PRODUCE_STAYING {
        cluster.request_errors(Api::Produce, &[*code]);
        let published = process.bus.publish(&detection("a", 1)).await;
        let Err(BusError::Kafka(KafkaError::Unconfirmed { code: told, .. })) = published else {
            panic!("{code:?}: {published:?}")
        };
        assert_eq!(told, Code::from(*code));
        cluster.clear_request_errors(Api::Produce);
        // The client may hold on to the code until it looks at the topic again.
        confirmed(&process, &detection("a", 1)).await;
    }
    let (passing, staying) = (PRODUCE_PASSING.len() as u64, PRODUCE_STAYING.len() as u64);
    assert!(process.counted("produce_failures_total") >= staying);
    assert_eq!(
        process.counted("detections_produced_total"),
        1 + passing + staying
    );
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn produce_without_a_broker_is_refused_in_time_and_never_blocks() {
    let (cluster, settings) = cluster("down");
    let settings = KafkaSettings {
        publish_within: Duration::from_secs(1),
        queued_messages_max: 3,
        ..settings
    };
    let process = Process::start(&settings).await;
    // The client meets the broker first, which may take longer than one publication may.
    confirmed(&process, &detection("first", 1)).await;
    cluster.broker_down(-1).unwrap();
    let detections: Vec<Detection> = (0..5).map(|n| detection(&format!("id{n}"), 1)).collect();
    // Handed over, or refused, by the first poll: nothing waits in it.
    let mut publishing = Vec::new();
    for (n, detection) in detections.iter().enumerate() {
        let mut publish = process.bus.publish(detection);
        match futures::poll!(&mut publish) {
            Poll::Pending => {
                assert!(n < 3);
                publishing.push(publish);
            }
            Poll::Ready(refused) => {
                assert!(n >= 3);
                let Err(BusError::Kafka(KafkaError::Full { waiting })) = refused else {
                    panic!("{refused:?}")
                };
                // The client also counts what it has not told of yet.
                assert!(waiting >= 3);
            }
        }
    }
    assert_eq!(process.counted("detections_dropped_total"), 2);
    for publish in publishing {
        let published = publish.await;
        let Err(BusError::Kafka(KafkaError::Unconfirmed { code, .. })) = published else {
            panic!("{published:?}")
        };
        assert_eq!(code, Code::MessageTimedOut);
    }
    cluster.broker_up(-1).unwrap();
    confirmed(&process, &detection("after", 1)).await;
    process.stop().await;
}

/// Publishes until it is confirmed.
async fn confirmed(process: &Process, detection: &Detection) {
    let mut tries = 0;
    // Those before it may still wait for their time to be over.
    while let Err(error) = process.bus.publish(detection).await {
        tries += 1;
        assert!(tries < 100, "{error:?}");
        process.clock.sleep(Duration::from_millis(100)).await;
    }
}

/// Codes with which a broker may answer a fetch.
const FETCH: &[Raw] = &[
    Raw::RD_KAFKA_RESP_ERR__TRANSPORT,
    Raw::RD_KAFKA_RESP_ERR_UNKNOWN,
    Raw::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE,
    Raw::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
    Raw::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
    Raw::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
    Raw::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
    Raw::RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE,
    Raw::RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE,
    Raw::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
    Raw::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
    Raw::RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH,
    Raw::RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH,
    Raw::RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fetch_each_code_loses_nothing() {
    futures::future::join_all(FETCH.iter().map(|code| fetch(*code))).await;
}

async fn fetch(code: Raw) {
    let (cluster, settings) = cluster("fetch");
    let process = Process::start(&settings).await;
    for id in ["before", "meanwhile", "later", "last"] {
        let published = detection(id, 1);
        process.bus.publish(&published).await.unwrap();
        process
            .receive_until(
                |_| true,
                |all| all.iter().any(|delivery| delivery.detection == published),
            )
            .await;
        // Met by the fetches after the one that waits already.
        cluster.request_errors(Api::Fetch, &[code; 3]);
    }
    process.stop().await;
}

/// Codes with which a coordinator may answer a commit.
const COMMIT: &[Raw] = &[
    Raw::RD_KAFKA_RESP_ERR__TRANSPORT,
    Raw::RD_KAFKA_RESP_ERR_UNKNOWN,
    Raw::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
    Raw::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
    Raw::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
    Raw::RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
    Raw::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
    Raw::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
    Raw::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
    Raw::RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE,
    Raw::RD_KAFKA_RESP_ERR_INVALID_COMMIT_OFFSET_SIZE,
    Raw::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
    Raw::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED,
    Raw::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commit_each_code_loses_nothing_and_the_next_commit_goes_through() {
    futures::future::join_all(COMMIT.iter().map(|code| commit(*code))).await;
}

async fn commit(code: Raw) {
    let (cluster, settings) = cluster("commit");
    let process = Process::start(&settings).await;
    for id in ["acked", "open"] {
        process.bus.publish(&detection(id, 1)).await.unwrap();
    }
    let acked = detection("acked", 1);
    cluster.request_errors(Api::OffsetCommit, &[code; 2]);
    process
        .receive_until(
            |delivery| delivery.detection == acked,
            |all| all.iter().any(|delivery| delivery.detection == acked) && all.len() > 1,
        )
        .await;
    // Time for some commits, which meet the code. Whatever it did to membership: an ack after it is committed, and so is the
    // one before.
    process.clock.sleep(Duration::from_millis(600)).await;
    cluster.clear_request_errors(Api::OffsetCommit);
    process.bus.publish(&detection("later", 1)).await.unwrap();
    process
        .receive_until(
            |delivery| delivery.detection != detection("open", 1),
            |all| {
                all.iter()
                    .any(|delivery| delivery.detection == detection("later", 1))
            },
        )
        .await;
    committed(&process, &settings, 1).await;
    process.stop().await;

    let next = Process::start(&settings).await;
    let left = next
        .receive_until(
            |_| true,
            |all| {
                all.iter()
                    .any(|delivery| delivery.detection == detection("later", 1))
            },
        )
        .await;
    let again = |id: &str| left.iter().any(|delivery| delivery.detection == detection(id, 1));
    assert!(again("open"), "{code:?}: what was not acked comes again");
    assert!(!again("acked"), "{code:?}: what was acked before it does not");
    next.stop().await;
}

/// Waits until the group has committed a position in the only partition; meanwhile acks what comes again, but for what is
/// left open: a member that was taken for dead begins anew.
async fn committed(process: &Process, settings: &KafkaSettings, position: i64) {
    let config = client::consumer(settings);
    for _ in 0..600 {
        for delivery in process.bus.receive(100).await.unwrap_or_default() {
            if delivery.detection != detection("open", 1) {
                process.bus.ack(&delivery).await.unwrap();
            }
        }
        let (config, topic) = (config.clone(), settings.topic.clone());
        let looking = tokio::task::spawn_blocking(move || {
            let asker: BaseConsumer = BaseConsumer::from_config(&config).unwrap();
            let mut list = TopicPartitionList::new();
            list.add_partition(&topic, 0);
            let found = asker.committed_offsets(list, Duration::from_secs(5)).ok()?;
            found.elements_for_topic(&topic).first()?.offset().to_raw()
        });
        if looking.await.unwrap().is_some_and(|found| found >= position) {
            return;
        }
        process.clock.sleep(Duration::from_millis(50)).await;
    }
    panic!("position {position} is never committed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_too_much_open_nothing_is_read_and_the_group_is_kept() {
    let (_cluster, settings) = cluster("full");
    let settings = KafkaSettings {
        open_messages_max: 4,
        ..settings
    };
    let process = Process::start(&settings).await;
    let count = 40;
    for n in 0..count {
        process
            .bus
            .publish(&detection(&format!("id{n:02}"), 1))
            .await
            .unwrap();
    }
    // Nothing is acked: only what fits is handed out, over and over.
    let some = process.receive_until(|_| false, |all| all.len() > 100).await;
    let ids = |all: &[Delivery]| {
        all.iter()
            .map(|delivery| delivery.detection.partition.time_series_id.to_string())
            .collect::<std::collections::BTreeSet<_>>()
            .len()
    };
    assert!(ids(&some) < count / 2, "{} of {count} are open", ids(&some));
    process.receive_until(|_| true, |all| ids(all) == count).await;
    assert_eq!(process.counted("rebalances_total{kind=\"lost\"}"), 0);
    process.stop().await;
}

/// A reply that is late, in time.
const LATE: Duration = Duration::from_millis(300);
/// One that nobody waits for any more.
const TOO_LATE: Duration = Duration::from_secs(4);

fn replies_after(cluster: &Cluster, wait: Duration) {
    // Of every broker.
    cluster.broker_round_trip_time(-1, wait).unwrap();
}

fn has(all: &[Delivery], id: &str) -> bool {
    all.iter().any(|delivery| delivery.detection == detection(id, 1))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_that_are_late_change_nothing() {
    let (cluster, settings) = cluster("late");
    let process = Process::start(&settings).await;
    replies_after(&cluster, LATE);
    for id in ["a", "b"] {
        process.bus.publish(&detection(id, 1)).await.unwrap();
    }
    let both = |all: &[Delivery]| has(all, "a") && has(all, "b");
    process.receive_until(|_| true, both).await;
    assert_eq!(process.counted("produce_failures_total"), 0);
    process.stop().await;
    replies_after(&cluster, Duration::ZERO);
    let next = Process::start(&settings).await;
    next.bus.publish(&detection("c", 1)).await.unwrap();
    let left = next.receive_until(|_| true, |all| has(all, "c")).await;
    assert!(!has(&left, "a") && !has(&left, "b"), "they were committed");
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_produce_that_was_applied_and_not_answered_for_is_an_error_and_not_lost() {
    let (cluster, settings) = cluster("unheard");
    let settings = KafkaSettings {
        publish_within: Duration::from_secs(1),
        ..settings
    };
    let process = Process::start(&settings).await;
    process.bus.publish(&detection("first", 1)).await.unwrap();
    replies_after(&cluster, TOO_LATE);
    let published = process.bus.publish(&detection("unheard", 1)).await;
    let Err(BusError::Kafka(KafkaError::Unconfirmed { code, .. })) = published else {
        panic!("{published:?}")
    };
    assert_eq!(code, Code::MessageTimedOut);
    replies_after(&cluster, Duration::ZERO);
    let all = |all: &[Delivery]| has(all, "first") && has(all, "unheard");
    process.receive_until(|_| true, all).await;
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fetches_that_are_not_answered_in_time_lose_nothing() {
    let (cluster, settings) = cluster("unfetched");
    let process = Process::start(&settings).await;
    for id in ["before", "after"] {
        process.bus.publish(&detection(id, 1)).await.unwrap();
        process.receive_until(|_| true, |all| has(all, id)).await;
        replies_after(&cluster, TOO_LATE);
        process.clock.sleep(Duration::from_secs(1)).await;
        replies_after(&cluster, Duration::ZERO);
    }
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_was_applied_and_not_answered_for_counts() {
    let (cluster, settings) = cluster("uncommitted");
    let process = Process::start(&settings).await;
    for id in ["acked", "open"] {
        process.bus.publish(&detection(id, 1)).await.unwrap();
    }
    let acked = detection("acked", 1);
    replies_after(&cluster, Duration::from_secs(2));
    process
        .receive_until(
            |delivery| delivery.detection == acked,
            |all| all.len() > 1 && has(all, "acked"),
        )
        .await;
    process.clock.sleep(Duration::from_millis(600)).await;
    process.stop().await;
    replies_after(&cluster, Duration::ZERO);
    let next = Process::start(&settings).await;
    let left = next.receive_until(|_| true, |all| has(all, "open")).await;
    assert!(!has(&left, "acked"), "it was acked before");
    next.stop().await;
}
