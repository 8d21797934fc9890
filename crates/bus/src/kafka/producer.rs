//! Sends messages, and tells of each what became of it.
//!
//! - Handing a message over never waits: it goes to a bounded queue, or is refused.
//! - Every message that was taken is told of exactly once, also when it could not be sent.

use std::fmt;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use tokio::sync::oneshot;

use super::complaints::Complaints;
use super::error::KafkaError;

/// A message to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing<'a> {
    pub(super) topic: &'a str,
    pub(super) key: &'a [u8],
    /// Nothing for a message that has none.
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: &'a [(&'a str, &'a [u8])],
}

/// What became of a message.
pub(super) type Outcome = Result<(), RDKafkaErrorCode>;

type Tell = Box<dyn FnOnce(Outcome) + Send + Sync>;

/// Sends messages on a thread of its own.
pub(super) struct Producer(ThreadedProducer<Reports>);

/// What waits for its confirmation. It is told when it comes.
#[derive(Debug)]
pub(super) struct Sending {
    topic: String,
    told: oneshot::Receiver<Outcome>,
}

impl Producer {
    pub(super) fn start(config: &ClientConfig) -> Result<Self, ClientError> {
        ThreadedProducer::from_config_and_context(config, Reports::default()).map(Self)
    }

    /// Queues a message. What becomes of it is told on the producer's thread.
    pub(super) fn send(
        &self,
        message: Outgoing<'_>,
        tell: impl FnOnce(Outcome) + Send + Sync + 'static,
    ) -> Result<(), KafkaError> {
        let mut headers = OwnedHeaders::new_with_capacity(message.headers.len());
        for (key, value) in message.headers {
            headers = headers.insert(Header {
                key,
                value: Some(*value),
            });
        }
        let tell: Box<Tell> = Box::new(Box::new(tell));
        let mut record = BaseRecord::with_opaque_to(message.topic, tell)
            .key(message.key)
            .headers(headers);
        record.payload = message.value;
        self.0.send(record).map_err(|(error, _)| match error {
            ClientError::MessageProduction(RDKafkaErrorCode::QueueFull) => KafkaError::Full {
                waiting: usize::try_from(self.0.in_flight_count()).unwrap_or(0),
            },
            ClientError::MessageProduction(code) => KafkaError::Unconfirmed {
                topic: message.topic.to_owned(),
                code,
            },
            other => KafkaError::Client(other),
        })
    }

    /// Queues a message that the caller waits for.
    pub(super) fn begin(&self, message: Outgoing<'_>) -> Result<Sending, KafkaError> {
        let (tell, told) = oneshot::channel();
        self.send(message, move |outcome| {
            // Nobody may be waiting any more.
            let _ = tell.send(outcome);
        })?;
        Ok(Sending {
            topic: message.topic.to_owned(),
            told,
        })
    }

    /// Waits for what is queued, but not for longer. Blocks.
    pub(super) fn flush(&self, within: Duration) -> bool {
        self.0.flush(within).is_ok()
    }
}

impl Sending {
    /// Returns when the message was confirmed.
    pub(super) async fn confirmed(self) -> Result<(), KafkaError> {
        let topic = self.topic;
        match self.told.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(code)) => Err(KafkaError::Unconfirmed { topic, code }),
            // The producer ended without a word.
            Err(_) => Err(KafkaError::Unconfirmed {
                topic,
                code: RDKafkaErrorCode::Fail,
            }),
        }
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("waiting", &self.0.in_flight_count())
            .finish()
    }
}

/// Tells of each message.
#[derive(Default)]
struct Reports {
    complaints: Complaints,
}

impl ClientContext for Reports {
    fn error(&self, error: ClientError, reason: &str) {
        self.complaints.hear("kafka producer", &error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Tell>;

    fn delivery(&self, delivered: &DeliveryResult<'_>, tell: Box<Tell>) {
        let outcome = match delivered {
            Ok(_) => {
                self.complaints.settled();
                Ok(())
            }
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)),
        };
        tell(outcome);
    }
}
