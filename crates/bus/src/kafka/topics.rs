//! Looks at topics before anything is done with them, and creates them when it is told so.
//!
//! Every call blocks until a broker answers, or for as long as the connection allows.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::{FromClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};

use super::client;
use super::error::{Field, KafkaError};
use super::settings::Connection;

/// Events of a client that are looked through for what went wrong.
const EVENTS_MAX: usize = 100;

/// A topic that has to be there.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// Where it is named.
    pub(super) field: Field,
    pub(super) name: String,
    /// How it is created, if it may be.
    pub(super) create: Option<Shape>,
}

/// How a topic is created.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) partitions: u16,
    /// Nothing leaves it to the brokers.
    pub(super) replication: Option<u16>,
}

/// Demands that topics are there; creates what is not, and may be.
pub(super) fn ensure(connection: &Connection, topics: &[Wanted]) -> Result<(), KafkaError> {
    let prober = Prober::connect(connection)?;
    for wanted in topics {
        match (prober.partitions(wanted)?, wanted.create) {
            (Some(_), _) => {}
            (None, Some(shape)) => create(connection, wanted, shape)?,
            (None, None) => {
                return Err(KafkaError::TopicAbsent {
                    field: wanted.field,
                    topic: wanted.name.clone(),
                });
            }
        }
    }
    Ok(())
}

/// Asks about topics. It is a consumer without a group: asking as a producer would create the topic on brokers that
/// create topics by themselves.
struct Prober<'a> {
    connection: &'a Connection,
    consumer: BaseConsumer<LastError>,
}

impl<'a> Prober<'a> {
    fn connect(connection: &'a Connection) -> Result<Self, KafkaError> {
        let mut config = client::common(connection);
        config.set("allow.auto.create.topics", "false");
        let consumer = BaseConsumer::from_config_and_context(&config, LastError::default())
            .map_err(properties_at_fault)?;
        Ok(Self { connection, consumer })
    }

    /// How many partitions a topic has; nothing when there is none.
    fn partitions(&self, wanted: &Wanted) -> Result<Option<usize>, KafkaError> {
        let within = self.connection.start_within;
        let metadata = self
            .consumer
            .fetch_metadata(Some(&wanted.name), within)
            .map_err(|_| {
                // What went wrong inside is told when it is asked for, among other things.
                for _ in 0..EVENTS_MAX {
                    let _ = self.consumer.poll(Duration::ZERO);
                }
                KafkaError::Unreachable {
                    servers: self.connection.brokers.clone(),
                    within,
                    last: self.consumer.context().take(),
                }
            })?;
        let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == wanted.name) else {
            return Ok(None);
        };
        match topic.error().map(RDKafkaErrorCode::from) {
            None => Ok(Some(topic.partitions().len())),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(None),
            // It is being made, or its leaders are being chosen: producer and consumer wait for that.
            Some(RDKafkaErrorCode::LeaderNotAvailable) => Ok(Some(topic.partitions().len())),
            Some(code) => Err(KafkaError::TopicRefused {
                field: wanted.field,
                topic: wanted.name.clone(),
                code,
            }),
        }
    }
}

fn create(connection: &Connection, wanted: &Wanted, shape: Shape) -> Result<(), KafkaError> {
    let admin: AdminClient<DefaultClientContext> = AdminClient::from_config(&client::common(connection))?;
    let replication = shape.replication.map_or(-1, i32::from);
    let topic = NewTopic::new(
        &wanted.name,
        i32::from(shape.partitions),
        TopicReplication::Fixed(replication),
    );
    let within = Some(connection.start_within);
    let options = AdminOptions::new()
        .request_timeout(within)
        .operation_timeout(within);
    let created = futures::executor::block_on(admin.create_topics([&topic], &options))?;
    for result in created {
        match result {
            // Another was first.
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code)) => {
                return Err(KafkaError::TopicNotCreated {
                    field: wanted.field,
                    topic: wanted.name.clone(),
                    code,
                });
            }
        }
    }
    Ok(())
}

/// A client that is not made has a property that it does not know, or that does not fit.
pub(super) fn properties_at_fault(error: ClientError) -> KafkaError {
    let problem = match &error {
        // The value may be a secret.
        ClientError::ClientConfig(_, why, name, _) => format!("`{name}` does not fit: {why}"),
        ClientError::ClientCreation(why) => why.clone(),
        _ => return KafkaError::Client(error),
    };
    super::settings::setting(Field::Properties, problem)
}

/// Keeps what the client said last.
#[derive(Debug, Default)]
struct LastError(Mutex<String>);

impl LastError {
    fn take(&self) -> String {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ClientContext for LastError {
    fn error(&self, error: ClientError, reason: &str) {
        // The last one is that all brokers are down; the one before says why.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            reason.clone_into(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

impl ConsumerContext for LastError {}
