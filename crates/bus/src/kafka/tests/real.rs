//! Against real brokers.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::RwLock;

use super::super::testing::{self, Sent, brokers, create_topic, read_topic};
use super::*;
use crate::conformance::{self, Arrival, Topic, detection};

/// Who kills the broker is alone with it.
static BROKER: RwLock<()> = RwLock::const_new(());

fn id(delivery: &Delivery) -> String {
    delivery.detection.partition.time_series_id.to_string()
}

/// A topic of its own, and the process that has it open.
struct OfItsOwn {
    settings: KafkaSettings,
    open: Option<Process>,
}

#[async_trait]
impl Topic for OfItsOwn {
    async fn open(&mut self) -> Arc<dyn DetectionBus> {
        let process = Process::start(&self.settings).await;
        let bus = process.bus.clone();
        self.open = Some(process);
        bus
    }

    async fn close(&mut self) {
        self.open.take().unwrap().stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bus_in_kafka_conforms() {
    let Some(brokers) = brokers("the bus in Kafka conforms") else {
        return;
    };
    let _shared = BROKER.read().await;
    conformance::run(Arrival::Later, || async {
        OfItsOwn {
            settings: settings(&brokers, "conformance"),
            open: None,
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_planner_gets_its_share_after_the_first_has_let_go() {
    let Some(brokers) = brokers("a second planner gets its share") else {
        return;
    };
    let _shared = BROKER.read().await;
    let settings = KafkaSettings {
        let_go_within: Duration::from_secs(600),
        ..settings(&brokers, "rebalance")
    };
    let first = Process::start(&settings).await;
    let count = 60;
    for n in 0..count {
        first
            .bus
            .publish(&detection(&format!("id{n:02}"), 1))
            .await
            .unwrap();
    }
    let mut held = BTreeMap::new();
    while held.len() < count {
        for delivery in first.bus.receive(count).await.unwrap() {
            held.insert(id(&delivery), delivery);
        }
    }
    // All of it is in hand. The second one gets nothing of it before the first has let go.
    let mut in_hand = first.bus.receive(count).await.unwrap();
    // As they were published: a position passes what was acked only up to the first that was not.
    in_hand.sort_by_key(id);
    assert_eq!(in_hand.len(), count);
    let second = Process::start(&settings).await;
    tokio::select! {
        () = first.bus.recalled() => {}
        () = async { loop { assert_eq!(second.bus.receive(count).await.unwrap(), []); } } => {}
    }
    for delivery in &in_hand[..10] {
        first.bus.ack(delivery).await.unwrap();
    }
    let acked: BTreeSet<String> = in_hand[..10].iter().map(id).collect();
    let mut of_first = BTreeSet::new();
    let mut of_second = BTreeSet::new();
    while acked.len() + of_first.len() + of_second.len() < count {
        for (process, of) in [(&first, &mut of_first), (&second, &mut of_second)] {
            for delivery in process.bus.receive(count).await.unwrap() {
                of.insert(id(&delivery));
                process.bus.ack(&delivery).await.unwrap();
            }
        }
    }
    assert!(!of_first.is_empty() && !of_second.is_empty());
    assert!(
        of_first.is_disjoint(&of_second),
        "one planner for each partition of the topic"
    );
    let again: Vec<_> = of_first
        .union(&of_second)
        .filter(|id| acked.contains(*id))
        .collect();
    assert!(again.is_empty(), "{again:?} were acked before they went");
    // An ack of what is another's changes nothing, and all is committed at the end.
    for delivery in &in_hand {
        first.bus.ack(delivery).await.unwrap();
    }
    assert_eq!(first.counted("rebalances_total{kind=\"lost\"}"), 0);
    second.stop().await;
    first.stop().await;
    let third = Process::start(&settings).await;
    third.bus.publish(&detection("last", 1)).await.unwrap();
    let left = third.receive_until(|_| true, |all| !all.is_empty()).await;
    assert_eq!(left.iter().map(id).collect::<Vec<_>>(), ["last"]);
    third.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_detection_goes_to_the_dead_letter_topic_with_the_reason() {
    let Some(brokers) = brokers("dead letters") else {
        return;
    };
    let _shared = BROKER.read().await;
    let settings = KafkaSettings {
        partitions: 1,
        ..settings(&brokers, "dead")
    };
    let process = Process::start(&settings).await;
    let whole = detection("a", 1).encode();
    let version = {
        use prost::Message as _;
        let mut message =
            anabranch_proto::pipeline::v1::WidePartitionDetected::decode(whole.clone()).unwrap();
        message.version = "2".to_owned();
        message.encode_to_vec()
    };
    let outlet = Producer::start(&client::producer(&settings.connection)).unwrap();
    let bad: [(&str, Option<&[u8]>, &str); 4] = [
        ("garbage", Some(b"\xff\xff\xff"), "decode"),
        ("version", Some(&version), "version `2` is not known"),
        (
            "ns/20260101/b/3/1",
            Some(&whole),
            "its key is not that of 20260101/a/3/1",
        ),
        ("nothing", None, "version `` is not known"),
    ];
    for (key, value, _) in &bad {
        let message = Outgoing {
            topic: &settings.topic,
            key: key.as_bytes(),
            value: *value,
            headers: &[],
        };
        outlet.begin(message).unwrap().confirmed().await.unwrap();
    }
    process.bus.publish(&detection("good", 1)).await.unwrap();
    let good = process.receive_until(|_| true, |all| !all.is_empty()).await;
    assert_eq!(good.iter().map(id).collect::<Vec<_>>(), ["good"]);
    while process.counted("dead_letters_total") < bad.len() as u64 {
        process.bus.receive(10).await.unwrap();
    }
    let mut dead = read_topic(&brokers, &settings.dead_letter_topic);
    dead.sort_by_key(|sent| sent.headers[OFFSET_HEADER].clone());
    assert_eq!(dead.len(), bad.len());
    for (
        n,
        (
            Sent {
                key, value, headers, ..
            },
            (sent_key, sent_value, reason),
        ),
    ) in dead.iter().zip(&bad).enumerate()
    {
        assert_eq!((&key[..], value.as_deref()), (sent_key.as_bytes(), *sent_value));
        let header = |name: &str| String::from_utf8(headers[name].clone()).unwrap();
        assert!(
            header(REASON_HEADER).contains(reason),
            "{}",
            header(REASON_HEADER)
        );
        assert_eq!(header(TOPIC_HEADER), settings.topic);
        assert_eq!(
            (header(PARTITION_HEADER), header(OFFSET_HEADER)),
            ("0".to_owned(), n.to_string())
        );
    }
    process.stop().await;
    // None of it comes again.
    let next = Process::start(&settings).await;
    next.bus.publish(&detection("last", 1)).await.unwrap();
    let left = next.receive_until(|_| true, |all| !all.is_empty()).await;
    assert_eq!(left.iter().map(id).collect::<Vec<_>>(), ["last"]);
    assert_eq!(next.counted("dead_letters_total"), 0);
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_topic_that_takes_nothing_holds_nothing_up() {
    let Some(brokers) = brokers("dead letters that nobody takes") else {
        return;
    };
    let _shared = BROKER.read().await;
    let settings = KafkaSettings {
        dead_letter_attempts_max: 1,
        publish_within: Duration::from_secs(1),
        partitions: 1,
        ..settings(&brokers, "lost")
    };
    let process = Process::start(&settings).await;
    testing::delete_topic(&brokers, &settings.dead_letter_topic);
    let outlet = Producer::start(&client::producer(&settings.connection)).unwrap();
    let message = Outgoing {
        topic: &settings.topic,
        key: b"k",
        value: None,
        headers: &[],
    };
    outlet.begin(message).unwrap().confirmed().await.unwrap();
    process.bus.publish(&detection("good", 1)).await.unwrap();
    process.receive_until(|_| true, |all| !all.is_empty()).await;
    while process.counted("dead_letters_lost_total") == 0 {
        process.bus.receive(10).await.unwrap();
    }
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_at_the_start_is_told() {
    let Some(brokers) = brokers("errors of the start") else {
        return;
    };
    let _shared = BROKER.read().await;
    let open = |settings: KafkaSettings| async move {
        let (clock, tasks) = (SystemClock::new(), Tasks::new());
        let opened = KafkaBus::open(&settings, clock, &tasks, &Metrics::default()).await;
        opened.map(drop).unwrap_err()
    };
    let absent = KafkaSettings {
        create_topics: false,
        ..settings(&brokers, "absent")
    };
    let error = open(absent.clone()).await;
    assert_eq!(error.field(), Some(Field::Topic));
    assert_eq!(
        error.to_string(),
        format!("there is no topic `{}`; create it, or name another", absent.topic)
    );
    create_topic(&brokers, &absent.topic, 1);
    assert_eq!(open(absent).await.field(), Some(Field::DeadLetterTopic));

    let error = open(KafkaSettings {
        replication: Some(9),
        ..settings(&brokers, "replicas")
    })
    .await;
    assert!(matches!(error, KafkaError::TopicNotCreated { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_property_that_is_not_there_is_told() {
    let mut settings = KafkaSettings::to("127.0.0.1:9");
    settings.connection.properties = Properties::parse("no.such.thing=1").unwrap();
    let error = KafkaBus::open(&settings, SystemClock::new(), &Tasks::new(), &Metrics::default())
        .await
        .unwrap_err();
    assert_eq!(error.field(), Some(Field::Properties));
    assert!(error.to_string().contains("no.such.thing"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_says_why_no_broker_answers() {
    let mut connection = Connection::to("127.0.0.1:9");
    connection.start_within = Duration::from_secs(1);
    let error = Outlet::open(&connection, "topic").await.unwrap_err().to_string();
    assert!(
        error.starts_with("no broker of `127.0.0.1:9` answers within 1 s"),
        "{error}"
    );
    assert!(error.contains("Connection refused"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_that_was_opened_before_a_broker_answers_works_when_one_does() {
    let Some(brokers) = brokers("a bus that is opened before its brokers") else {
        return;
    };
    let _shared = BROKER.read().await;
    // Nobody listens here yet.
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut settings = settings(&address.to_string(), "early");
    settings.connection.start_within = Duration::from_secs(1);
    settings.publish_within = Duration::from_secs(2);
    let process = Process::start(&settings).await;
    process.bus.publish(&detection("early", 1)).await.unwrap_err();
    let first = brokers.split(',').next().unwrap().to_owned();
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let forward = async {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut broker = tokio::net::TcpStream::connect(&first).await.unwrap();
            process.tasks.spawn("forward", async move {
                let _ = tokio::io::copy_bidirectional(&mut client, &mut broker).await;
            });
        }
    };
    let work = async {
        // The topic is made, and then takes detections.
        while process.bus.publish(&detection("late", 1)).await.is_err() {}
        process
            .receive_until(|_| true, |all| all.iter().any(|delivery| id(delivery) == "late"))
            .await
    };
    tokio::select! {
        () = forward => {}
        _ = work => {}
    }
    // The forwards end with the clients' connections.
    process.stop().await;
}

/// A shell command that kills the broker of the test and starts it again.
const FAULT: &str = "ANABRANCH_TEST_KAFKA_RESTART";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_killed_and_comes_back_loses_nothing_that_was_confirmed() {
    let Some(brokers) = brokers("a broker that is killed") else {
        return;
    };
    let Ok(restart) = std::env::var(FAULT) else {
        use std::io::Write as _;
        let _ = writeln!(
            std::io::stderr(),
            "!!! NOT RUN: a broker that is killed: {FAULT} has no command"
        );
        return;
    };
    let _alone = BROKER.write().await;
    let settings = KafkaSettings {
        publish_within: Duration::from_secs(2),
        ..settings(&brokers, "killed")
    };
    let process = Process::start(&settings).await;
    let (bus, count) = (process.bus.clone(), 300);
    let mut restarting = None;
    let mut published = BTreeSet::new();
    let mut received = BTreeSet::new();
    for n in 0..count {
        if n == count / 3 {
            restarting = Some(
                std::process::Command::new("sh")
                    .args(["-c", &restart])
                    .spawn()
                    .unwrap(),
            );
        }
        let detection = detection(&format!("id{n:03}"), 1);
        // As the server does: some attempts, and then it is forgotten.
        for _ in 0..4 {
            if bus.publish(&detection).await.is_ok() {
                published.insert(detection.partition.time_series_id.to_string());
                break;
            }
        }
        for delivery in bus.receive(100).await.unwrap_or_default() {
            received.insert(id(&delivery));
            bus.ack(&delivery).await.unwrap();
        }
    }
    assert!(
        restarting.unwrap().wait().unwrap().success(),
        "the command of {FAULT} fails"
    );
    process
        .receive_until(
            |delivery| {
                received.insert(id(delivery));
                true
            },
            |_| process.counted("consumer_lag") == 0,
        )
        .await;
    while !published.is_subset(&received) {
        for delivery in bus.receive(100).await.unwrap_or_default() {
            received.insert(id(&delivery));
            bus.ack(&delivery).await.unwrap();
        }
    }
    assert!(published.len() > count / 2, "{} were confirmed", published.len());
    process.stop().await;
}
