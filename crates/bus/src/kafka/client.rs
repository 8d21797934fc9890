//! What every client of Kafka is made of.

use rdkafka::ClientConfig;

use super::settings::{Connection, KafkaSettings};

/// Longest message that is sent or read; what a topic takes is its own `max.message.bytes`.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// What all clients have in common.
pub(super) fn common(connection: &Connection) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        // A broker that hangs is noticed in this time.
        .set("socket.timeout.ms", "10000")
        .set("socket.connection.setup.timeout.ms", "10000")
        .set("reconnect.backoff.max.ms", "2000");
    for (name, value) in connection.properties.iter() {
        config.set(name, value);
    }
    config
        .set("bootstrap.servers", &connection.brokers)
        .set("client.id", &connection.client_id);
    config
}

/// A producer: what it says is confirmed is on all replicas in sync.
pub(super) fn producer(connection: &Connection) -> ClientConfig {
    let mut config = common(connection);
    config
        .set("acks", "all")
        // Where clients on the JVM put the key, too.
        .set("partitioner", "murmur2_random")
        .set("message.max.bytes", MESSAGE_BYTES_MAX.to_string());
    config
}

/// A member of the group of planners.
pub(super) fn consumer(settings: &KafkaSettings) -> ClientConfig {
    let mut config = common(&settings.connection);
    config
        .set("group.id", &settings.group)
        // Known to every broker since 2.4 and to Redpanda; only what moves is taken away.
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", settings.session.as_millis().to_string())
        // A group that is new sees what waits.
        .set("auto.offset.reset", "earliest")
        // Positions are stored when a detection was acked, and what is stored is committed by the client.
        .set("enable.auto.offset.store", "false")
        .set("enable.auto.commit", "true")
        .set(
            "auto.commit.interval.ms",
            settings.commit_every.as_millis().to_string(),
        )
        .set("statistics.interval.ms", "5000")
        // A few messages of some hundred bytes: no need to fetch megabytes ahead.
        .set("queued.min.messages", "1000")
        .set("queued.max.messages.kbytes", "4096");
    config
}
