//! A topic that events are sent to, in order.
//!
//! - Messages of one key are in one partition of the topic, in the order in which they were sent: the producer is
//!   idempotent, and what can not be sent stops everything behind it.
//! - A message never times out by itself: how long nothing may be confirmed is for the caller, who then ends the outlet. What
//!   is not confirmed by then may be in the topic or not, but nothing behind it is without it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::client;
use super::error::{Field, KafkaError};
use super::producer::{Outgoing, Producer};
use super::settings::{Connection, check_topic};
use super::topics::{self, Wanted};

/// A topic to send to.
#[derive(Debug)]
pub struct Outlet {
    producer: Arc<Producer>,
    topic: String,
}

impl Outlet {
    /// Connects, and demands that the topic is there.
    ///
    /// # Errors
    /// When no broker answers, there is no such topic, or a setting is wrong.
    pub async fn open(connection: &Connection, topic: &str) -> Result<Self, KafkaError> {
        connection.check()?;
        check_topic(Field::Topic, topic)?;
        let wanted = Wanted {
            field: Field::Topic,
            name: topic.to_owned(),
            create: None,
        };
        let probed = connection.clone();
        super::blocking("looking at a topic", move || topics::ensure(&probed, &[wanted])).await??;
        let mut config = client::producer(connection);
        config
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", "0")
            .set("enable.gapless.guarantee", "true")
            .set("compression.type", "lz4")
            .set("linger.ms", "5");
        Ok(Self {
            producer: Arc::new(Producer::start(&config).map_err(topics::properties_at_fault)?),
            topic: topic.to_owned(),
        })
    }

    /// Queues a message behind those before it. The future returns when it is confirmed.
    ///
    /// # Errors
    /// When the queue is full, or the message can not be sent at all.
    pub fn send(
        &self,
        key: &[u8],
        value: &[u8],
        headers: &[(&str, &[u8])],
    ) -> Result<impl Future<Output = Result<(), KafkaError>> + Send + use<>, KafkaError> {
        let message = Outgoing {
            topic: &self.topic,
            key,
            value: Some(value),
            headers,
        };
        Ok(self.producer.begin(message)?.confirmed())
    }

    /// Ends it: what is confirmed is confirmed, the rest is thrown away.
    pub async fn close(self) {
        // Ends threads, which takes a moment.
        let _ = super::blocking("ending a producer", move || {
            self.producer.flush(Duration::ZERO);
            drop(self);
        })
        .await;
    }
}
