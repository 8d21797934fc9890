//! What can go wrong with Kafka, and what to do about it.

use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use std::time::Duration;

/// What is to be changed so that it works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The addresses of brokers.
    Brokers,
    /// The topic.
    Topic,
    /// The topic of what can not be read.
    DeadLetterTopic,
    /// The consumer group.
    Group,
    /// The client's name.
    ClientId,
    /// How many partitions a topic is made with.
    Partitions,
    /// How many replicas a topic is made with.
    Replication,
    /// Properties of the client.
    Properties,
}

/// Why Kafka could not be used, or did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KafkaError {
    /// A setting is wrong.
    #[error("{problem}")]
    Setting {
        /// Which one.
        field: Field,
        /// What is wrong with it, and what would do.
        problem: String,
    },
    /// Nobody answers.
    #[error(
        "no broker of `{servers}` answers within {} s{}; start Kafka, or correct the addresses and what they need to log in",
        within.as_secs(), because(last)
    )]
    Unreachable {
        /// The addresses.
        servers: String,
        /// How long was waited.
        within: Duration,
        /// What the client said last.
        last: String,
    },
    /// The topic is not there.
    #[error("there is no topic `{topic}`; create it, or name another")]
    TopicAbsent {
        /// Where it is named.
        field: Field,
        /// Its name.
        topic: String,
    },
    /// The topic could not be created.
    #[error(
        "topic `{topic}` can not be created ({code}); create it by hand, or correct its partitions and replicas"
    )]
    TopicNotCreated {
        /// Where it is named.
        field: Field,
        /// Its name.
        topic: String,
        /// Why.
        code: RDKafkaErrorCode,
    },
    /// The topic may not be used.
    #[error("topic `{topic}` can not be used ({code}); allow this client to describe, read and write it")]
    TopicRefused {
        /// Where it is named.
        field: Field,
        /// Its name.
        topic: String,
        /// Why.
        code: RDKafkaErrorCode,
    },
    /// Too much waits to be sent.
    #[error("{waiting} messages wait to be sent already")]
    Full {
        /// How many.
        waiting: usize,
    },
    /// A message was not confirmed. It may be in the topic nevertheless.
    #[error("a message to topic `{topic}` was not confirmed ({code})")]
    Unconfirmed {
        /// The topic.
        topic: String,
        /// Why.
        code: RDKafkaErrorCode,
    },
    /// Messages can not be read for now.
    #[error("topic `{topic}` can not be read")]
    Unread {
        /// The topic.
        topic: String,
        /// Why.
        #[source]
        source: ClientError,
    },
    /// The client could not be made.
    #[error("the kafka client does not start")]
    Client(#[from] ClientError),
    /// A thread could not be started, or was ended.
    #[error("{doing} does not run")]
    Thread {
        /// What it is for.
        doing: &'static str,
        /// Why, if it did not start.
        #[source]
        source: Option<std::io::Error>,
    },
}

impl KafkaError {
    /// True for a message that the topic does not take, however often it is sent.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Unconfirmed {
                code: RDKafkaErrorCode::MessageSizeTooLarge
                    | RDKafkaErrorCode::InvalidMessageSize
                    | RDKafkaErrorCode::TopicAuthorizationFailed
                    | RDKafkaErrorCode::ClusterAuthorizationFailed
                    | RDKafkaErrorCode::PolicyViolation
                    | RDKafkaErrorCode::InvalidRecord,
                ..
            }
        )
    }

    /// What has to be changed, if that is known.
    pub fn field(&self) -> Option<Field> {
        match self {
            Self::Setting { field, .. }
            | Self::TopicAbsent { field, .. }
            | Self::TopicNotCreated { field, .. }
            | Self::TopicRefused { field, .. } => Some(*field),
            Self::Unreachable { .. } => Some(Field::Brokers),
            _ => None,
        }
    }
}

fn because(last: &str) -> String {
    if last.is_empty() {
        String::new()
    } else {
        format!(" ({last})")
    }
}
