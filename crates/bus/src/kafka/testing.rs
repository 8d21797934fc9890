#![expect(clippy::panic, reason = "a test panics when Kafka does not do what it needs")]
//! What tests against a real Kafka share, here and in the binary: a broker, topics of their own, and what is in a topic.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::Write;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::FromClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::client;
use super::error::Field;
use super::settings::Connection;
use super::topics::{self, Shape, Wanted};

/// Names the brokers to test against.
pub const VARIABLE: &str = "ANABRANCH_TEST_KAFKA";
/// How long a broker may take.
const WITHIN: Duration = Duration::from_secs(30);

/// The brokers to test against; without them a test has to end, and this says so past the capture of its output.
pub fn brokers(test: &str) -> Option<String> {
    let brokers = std::env::var(VARIABLE).ok().filter(|brokers| !brokers.is_empty());
    if brokers.is_none() {
        // Nobody may be reading.
        let _ = writeln!(
            std::io::stderr(),
            "!!! NOT RUN: {test}: {VARIABLE} names no Kafka brokers"
        );
    }
    brokers
}

/// A name that no other topic, group or run has.
pub fn unique(name: &str) -> String {
    let random = done(anabranch_runtime::Randomness::from_system()).next_u64();
    format!("test.{name}.{random:016x}")
}

/// Creates a topic.
///
/// # Panics
/// When it can not be created.
pub fn create_topic(brokers: &str, name: &str, partitions: u16) {
    let wanted = Wanted {
        field: Field::Topic,
        name: name.to_owned(),
        create: Some(Shape {
            partitions,
            replication: None,
        }),
    };
    done(topics::ensure(&Connection::to(brokers), &[wanted]));
}

/// Deletes a topic.
///
/// # Panics
/// When it can not be deleted.
pub fn delete_topic(brokers: &str, name: &str) {
    let config = client::common(&Connection::to(brokers));
    let admin: AdminClient<DefaultClientContext> = done(AdminClient::from_config(&config));
    let options = AdminOptions::new().operation_timeout(Some(WITHIN));
    let deleted = done(futures::executor::block_on(
        admin.delete_topics(&[name], &options),
    ));
    for topic in deleted {
        done(topic);
    }
}

/// A message of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The partition that it is in.
    pub partition: i32,
    /// Its offset in there.
    pub offset: i64,
    /// Its key.
    pub key: Vec<u8>,
    /// Its value, if it has one.
    pub value: Option<Vec<u8>>,
    /// Its headers.
    pub headers: BTreeMap<String, Vec<u8>>,
}

/// Everything that is in a topic now, by partition and offset.
///
/// # Panics
/// When it can not be read.
pub fn read_topic(brokers: &str, topic: &str) -> Vec<Sent> {
    let mut config = client::common(&Connection::to(brokers));
    config
        .set("group.id", unique("reader"))
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true");
    let consumer: BaseConsumer = done(BaseConsumer::from_config(&config));
    let metadata = done(consumer.fetch_metadata(Some(topic), WITHIN));
    let partitions: Vec<i32> = metadata.topics()[0]
        .partitions()
        .iter()
        .map(|partition| partition.id())
        .collect();
    let mut list = TopicPartitionList::new();
    let mut ends = BTreeMap::new();
    for partition in partitions {
        let (low, high) = done(consumer.fetch_watermarks(topic, partition, WITHIN));
        if low < high {
            ends.insert(partition, high);
            done(list.add_partition_offset(topic, partition, Offset::Beginning));
        }
    }
    done(consumer.assign(&list));
    let mut found = Vec::new();
    let mut silent = 0;
    while !ends.is_empty() {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                silent = 0;
                if ends
                    .get(&message.partition())
                    .is_some_and(|end| message.offset() + 1 >= *end)
                {
                    ends.remove(&message.partition());
                }
                found.push(sent(&message));
            }
            // The end is behind a mark that is no message.
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(partition))) => {
                ends.remove(&partition);
            }
            Some(Err(_)) | None => {
                silent += 1;
                assert!(silent < 300, "topic `{topic}` can not be read to {ends:?}");
            }
        }
    }
    found.sort_by_key(|sent| (sent.partition, sent.offset));
    found
}

fn sent(message: &impl Message) -> Sent {
    let headers = message.headers().map_or_else(BTreeMap::new, |headers| {
        headers
            .iter()
            .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec()))
            .collect()
    });
    Sent {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().unwrap_or_default().to_vec(),
        value: message.payload().map(<[u8]>::to_vec),
        headers,
    }
}

fn done<T, E: Debug>(made: Result<T, E>) -> T {
    made.unwrap_or_else(|error| panic!("kafka: {error:?}"))
}
