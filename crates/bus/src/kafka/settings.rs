//! How Kafka is used: names, limits, times, and what is passed through to the client.

use std::time::Duration;

use super::error::{Field, KafkaError};

/// Longest name of a topic.
const TOPIC_LENGTH_MAX: usize = 249;

/// Where Kafka is and how to log in there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Addresses to begin with: `HOST:PORT`, several with commas between.
    pub brokers: String,
    /// What brokers log this client as.
    pub client_id: String,
    /// What is passed through to the client.
    pub properties: Properties,
    /// How long brokers may take to answer at the start.
    pub start_within: Duration,
}

impl Connection {
    /// Brokers without a login.
    pub fn to(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            client_id: "anabranch".to_owned(),
            properties: Properties::default(),
            start_within: Duration::from_secs(10),
        }
    }

    pub(super) fn check(&self) -> Result<(), KafkaError> {
        let well_formed = |address: &str| {
            address.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
            })
        };
        if let Some(wrong) = self
            .brokers
            .split(',')
            .find(|address| !well_formed(address.trim()))
        {
            return Err(setting(
                Field::Brokers,
                format!("`{wrong}` is not an address; use HOST:PORT, several with commas between"),
            ));
        }
        if self.client_id.is_empty() || self.client_id.contains('\0') {
            return Err(setting(Field::ClientId, "name the client"));
        }
        Ok(())
    }
}

/// How detections go through Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaSettings {
    /// Where Kafka is.
    pub connection: Connection,
    /// The topic of detections.
    pub topic: String,
    /// The topic of messages that are no detections.
    pub dead_letter_topic: String,
    /// The consumer group of the planners.
    pub group: String,
    /// Whether topics that are not there are created.
    pub create_topics: bool,
    /// How many partitions the topic is created with: at most so many planners take detections in.
    pub partitions: u16,
    /// How many replicas topics are created with; nothing leaves it to the brokers.
    pub replication: Option<u16>,
    /// How long a detection may wait for its confirmation.
    pub publish_within: Duration,
    /// Messages that wait to be sent; more are refused.
    pub queued_messages_max: usize,
    /// Messages that are read and not dealt with; past it nothing is read.
    pub open_messages_max: usize,
    /// How often positions of what was acked are committed: so much comes again after a crash.
    pub commit_every: Duration,
    /// How long a planner that does not answer is in the group.
    pub session: Duration,
    /// How long a rebalance waits for the planner to let go of what it has in hand.
    pub let_go_within: Duration,
    /// Times that a dead letter is tried to be sent.
    pub dead_letter_attempts_max: u32,
}

impl KafkaSettings {
    /// The defaults, on some brokers.
    pub fn to(brokers: impl Into<String>) -> Self {
        Self {
            connection: Connection::to(brokers),
            topic: "anabranch.detections".to_owned(),
            dead_letter_topic: "anabranch.detections.dead".to_owned(),
            group: "anabranch.planners".to_owned(),
            create_topics: false,
            partitions: 12,
            replication: None,
            publish_within: Duration::from_secs(10),
            queued_messages_max: 10_000,
            open_messages_max: 10_000,
            commit_every: Duration::from_secs(1),
            session: Duration::from_secs(45),
            let_go_within: Duration::from_secs(5),
            dead_letter_attempts_max: 5,
        }
    }

    /// Checks what can be checked without a broker.
    ///
    /// # Errors
    /// [`KafkaError::Setting`] for the first that is wrong.
    pub fn check(&self) -> Result<(), KafkaError> {
        self.connection.check()?;
        check_topic(Field::Topic, &self.topic)?;
        check_topic(Field::DeadLetterTopic, &self.dead_letter_topic)?;
        if self.dead_letter_topic == self.topic {
            return Err(setting(
                Field::DeadLetterTopic,
                "is the topic of detections itself; name another",
            ));
        }
        if self.group.is_empty() || self.group.contains('\0') {
            return Err(setting(Field::Group, "name the consumer group"));
        }
        if self.partitions == 0 {
            return Err(setting(Field::Partitions, "use 1 or more"));
        }
        if self.replication == Some(0) {
            return Err(setting(Field::Replication, "use 1 or more"));
        }
        Ok(())
    }
}

/// Checks the name of a topic by the rules of Kafka.
pub(super) fn check_topic(field: Field, name: &str) -> Result<(), KafkaError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty()
        || name.len() > TOPIC_LENGTH_MAX
        || !name.chars().all(legal)
        || [".", ".."].contains(&name)
    {
        return Err(setting(
            field,
            format!("`{name}` is no name for a topic; use 1 to {TOPIC_LENGTH_MAX} of A-Z a-z 0-9 . _ -"),
        ));
    }
    Ok(())
}

pub(super) fn setting(field: Field, problem: impl Into<String>) -> KafkaError {
    KafkaError::Setting {
        field,
        problem: problem.into(),
    }
}

/// Properties of librdkafka that are passed through to every client: TLS, logins, timeouts of the network.
///
/// In the form of a `client.properties`: a `name=value` a line, `#` before a comment. What this build decides itself is
/// refused, since a guarantee rests on it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(Vec<(String, String)>);

/// Properties that are set here, and why no other value would do.
const OWN: &[(&str, &str)] = &[
    ("bootstrap.servers", "it has a setting of its own"),
    ("metadata.broker.list", "the brokers have a setting of their own"),
    ("client.id", "it has a setting of its own"),
    ("group.id", "it has a setting of its own"),
    (
        "group.protocol",
        "rebalances are followed in the classic protocol",
    ),
    (
        "partition.assignment.strategy",
        "every planner of a group has to have the same",
    ),
    (
        "enable.auto.commit",
        "positions are committed when detections were acked",
    ),
    (
        "enable.auto.offset.store",
        "positions are stored when detections were acked",
    ),
    ("auto.offset.reset", "a new group has to see what waits"),
    ("enable.idempotence", "order and acks rest on it"),
    ("enable.gapless.guarantee", "order rests on it"),
    ("acks", "what was confirmed has to be on all replicas in sync"),
    (
        "request.required.acks",
        "what was confirmed has to be on all replicas in sync",
    ),
    ("partitioner", "a key has to go where other clients send it"),
    ("message.timeout.ms", "it follows from the settings"),
    ("delivery.timeout.ms", "it follows from the settings"),
];

impl Properties {
    /// Reads the lines of a file.
    ///
    /// # Errors
    /// [`KafkaError::Setting`] that names the line.
    pub fn parse(text: &str) -> Result<Self, KafkaError> {
        let mut properties = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong =
                |problem: String| setting(Field::Properties, format!("line {}: {problem}", number + 1));
            // Not the line itself, which may hold a password.
            let (name, value) = line
                .split_once('=')
                .ok_or_else(|| wrong("is no NAME=VALUE".to_owned()))?;
            let (name, value) = (name.trim(), value.trim());
            if let Some((_, why)) = OWN.iter().find(|(own, _)| *own == name) {
                return Err(wrong(format!("`{name}` can not be set: {why}; remove the line")));
            }
            offered(name, value).map_err(wrong)?;
            properties.push((name.to_owned(), value.to_owned()));
        }
        Ok(Self(properties))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// Values may be secrets.
impl std::fmt::Debug for Properties {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

/// Says what of TLS and logins a build without OpenSSL does not have.
fn offered(name: &str, value: &str) -> Result<(), String> {
    if cfg!(feature = "kafka-tls") {
        return Ok(());
    }
    let value = value.to_ascii_uppercase();
    let needs_tls = match name {
        "security.protocol" => ["SSL", "SASL_SSL"].contains(&&*value),
        "sasl.mechanism" | "sasl.mechanisms" => value != "PLAIN",
        name => name.starts_with("ssl."),
    };
    if needs_tls {
        return Err(format!(
            "`{name}` needs a build with OpenSSL (cargo build --features cluster-tls); without it there is PLAINTEXT, and \
             SASL_PLAINTEXT with PLAIN"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(result: Result<impl Sized, KafkaError>) -> (Field, String) {
        match result {
            Err(KafkaError::Setting { field, problem }) => (field, problem),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("nothing is wrong"),
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_what_would_do() {
        let right = KafkaSettings::to("a:9092, b:9092");
        right.check().unwrap();
        type Change = fn(&mut KafkaSettings);
        let wrong: [(Change, Field, &str); 8] = [
            (
                |s| s.connection.brokers = "a".to_owned(),
                Field::Brokers,
                "HOST:PORT",
            ),
            (
                |s| s.connection.brokers = "a:1,".to_owned(),
                Field::Brokers,
                "HOST:PORT",
            ),
            (|s| s.connection.client_id.clear(), Field::ClientId, "name"),
            (|s| s.topic = "a b".to_owned(), Field::Topic, "`a b`"),
            (
                |s| s.dead_letter_topic = "..".to_owned(),
                Field::DeadLetterTopic,
                "`..`",
            ),
            (
                |s| s.dead_letter_topic = s.topic.clone(),
                Field::DeadLetterTopic,
                "another",
            ),
            (|s| s.group.clear(), Field::Group, "name"),
            (|s| s.partitions = 0, Field::Partitions, "1 or more"),
        ];
        for (change, field, says) in wrong {
            let mut settings = right.clone();
            change(&mut settings);
            let (named, problem) = problem(settings.check());
            assert_eq!(named, field);
            assert!(problem.contains(says), "{problem}");
        }
    }

    #[test]
    fn properties_are_read_and_their_values_never_shown() {
        let text = "# brokers of ours\n\n security.protocol = SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.password=a=b\n";
        let properties = Properties::parse(text).unwrap();
        assert_eq!(properties.iter().last(), Some(("sasl.password", "a=b")));
        assert!(!format!("{properties:?}").contains("a=b"));
        let (field, wrong) = problem(Properties::parse("a=b\nsasl.password"));
        assert_eq!((field, &*wrong), (Field::Properties, "line 2: is no NAME=VALUE"));
    }

    #[test]
    fn what_a_guarantee_rests_on_can_not_be_set() {
        for (own, _) in OWN {
            let (_, wrong) = problem(Properties::parse(&format!("{own}=x")));
            assert!(wrong.contains(own), "{wrong}");
        }
    }

    #[test]
    fn tls_is_refused_where_the_build_has_none() {
        for line in [
            "security.protocol=ssl",
            "sasl.mechanism=SCRAM-SHA-256",
            "ssl.ca.location=/ca.pem",
        ] {
            let parsed = Properties::parse(line);
            if cfg!(feature = "kafka-tls") {
                parsed.unwrap();
            } else {
                let (_, wrong) = problem(parsed);
                assert!(wrong.contains("cluster-tls"), "{wrong}");
            }
        }
    }
}
