//! How detections reach the planner.

use super::origin::Loaded;

/// Where detections wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Bus {
    /// In the store itself.
    #[default]
    Embedded,
    /// In a topic of Kafka.
    #[cfg(feature = "cluster")]
    Kafka(Box<anabranch_bus::kafka::KafkaSettings>),
}

/// Checks what is set of the bus. Only of the one that is chosen: of another nothing is used.
pub(super) fn check(loaded: &[Loaded], problems: &mut Vec<String>) -> Bus {
    match super::check::of(loaded, "bus.kind", problems, kind) {
        Kind::Embedded => Bus::Embedded,
        #[cfg(feature = "cluster")]
        Kind::Kafka => Bus::Kafka(Box::new(kafka::check(loaded, problems))),
    }
}

#[derive(Clone, Copy, Default)]
enum Kind {
    #[default]
    Embedded,
    #[cfg(feature = "cluster")]
    Kafka,
}

fn kind(text: &str) -> Result<Kind, String> {
    match text {
        "embedded" => Ok(Kind::Embedded),
        #[cfg(feature = "cluster")]
        "kafka" => Ok(Kind::Kafka),
        #[cfg(not(feature = "cluster"))]
        "kafka" => {
            Err("this build has no Kafka; build it with --features cluster, or use embedded".to_owned())
        }
        _ => Err(format!("there is no bus `{text}`; use embedded or kafka")),
    }
}

#[cfg(feature = "cluster")]
pub(crate) use kafka::setting_of;

#[cfg(feature = "cluster")]
mod kafka {
    use anabranch_bus::kafka::{Connection, Field, KafkaError, KafkaSettings, Properties};

    use super::Loaded;
    use crate::settings::check::{boolean, of};

    /// The setting that an error is about.
    pub(crate) fn setting_of(field: Field) -> &'static str {
        match field {
            Field::Brokers => "bus.kafka.brokers",
            Field::Topic => "bus.kafka.topic",
            Field::DeadLetterTopic => "bus.kafka.dead_letter_topic",
            Field::Group => "bus.kafka.group",
            Field::ClientId => "bus.kafka.client_id",
            Field::Partitions => "bus.kafka.partitions",
            Field::Replication => "bus.kafka.replication",
            Field::Properties => "bus.kafka.properties_file",
        }
    }

    pub(super) fn check(loaded: &[Loaded], problems: &mut Vec<String>) -> KafkaSettings {
        let text = |text: &str| Ok(text.to_owned());
        let mut get = |field: Field| of(loaded, setting_of(field), problems, text);
        let (servers, topic, group) = (get(Field::Brokers), get(Field::Topic), get(Field::Group));
        let (dead_letter_topic, client_id) = (get(Field::DeadLetterTopic), get(Field::ClientId));
        let settings = KafkaSettings {
            connection: Connection {
                client_id,
                properties: of(loaded, setting_of(Field::Properties), problems, properties),
                ..Connection::to(servers.clone())
            },
            topic,
            dead_letter_topic,
            group,
            create_topics: of(loaded, "bus.kafka.create_topics", problems, boolean),
            partitions: of(loaded, setting_of(Field::Partitions), problems, number),
            replication: Some(of(loaded, setting_of(Field::Replication), problems, number))
                .filter(|replicas| *replicas > 0),
            ..KafkaSettings::to(servers)
        };
        if let Err(error) = settings.check() {
            problems.push(named(loaded, &error));
        }
        settings
    }

    fn named(loaded: &[Loaded], error: &KafkaError) -> String {
        let one = error
            .field()
            .and_then(|field| loaded.iter().find(|one| one.name == setting_of(field)));
        match one {
            Some(one) => format!("{} (from {}): {error}", one.name, one.origin),
            None => error.to_string(),
        }
    }

    fn number(text: &str) -> Result<u16, String> {
        text.parse()
            .map_err(|_| format!("`{text}` is not a number up to {}", u16::MAX))
    }

    fn properties(path: &str) -> Result<Properties, String> {
        if path.is_empty() {
            return Ok(Properties::default());
        }
        let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        Properties::parse(&text).map_err(|error| format!("{path}: {error}"))
    }
}
