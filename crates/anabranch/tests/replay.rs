//! `replay`: a server, a real Kafka, and everything that was selected in the topic.
#![cfg(feature = "cluster")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test ends where it can not go on"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anabranch_bus::kafka::testing::{Sent, brokers, create_topic, read_topic, unique};
use anabranch_proto::timeseries::v1::EventRecord;
use prost::Message;
use support::{Ran, Server, path, signal};

/// Ids with few events.
const SMALL: u32 = 150;
/// Events of the one that is wide: several pages.
const WIDE_EVENTS: u32 = 4_000;

/// One id and one event, by numbers; every third is a stop.
fn line(series: &str, n: u32) -> String {
    let kind = if n.is_multiple_of(3) {
        "c3RvcA=="
    } else {
        "cGxheQ=="
    };
    let (hour, minute, second) = (n / 3_600 % 24, n / 60 % 60, n % 60);
    format!(
        r#"{{"timeSeriesId":"{series}","eventTime":"2026-03-{:02}T{hour:02}:{minute:02}:{second:02}Z","eventId":"e{:06}","eventItems":[{{"eventItemKey":"kind","eventItemValue":"{kind}"}}]}}"#,
        1 + n % 4,
        999_999 - n
    )
}

/// A server with events of many ids over several slices, time buckets and event buckets.
fn server(folder: &Path) -> Server {
    let server = Server::start(&folder.join("data"));
    let settings = [
        "accept_limit=0",
        "seconds_per_time_slice=86400",
        "seconds_per_time_bucket=600",
        "event_buckets=3",
    ];
    let create = settings
        .iter()
        .fold(vec!["namespace", "create", "t"], |args, set| {
            [args, vec!["--set", set]].concat()
        });
    server.run(&create).ok();
    let mut lines = String::new();
    for n in 0..SMALL * 10 {
        lines += &line(&format!("id{:03}", n % SMALL), n * 37);
        lines.push('\n');
    }
    for n in 0..WIDE_EVENTS {
        lines += &line("wide", n * 7);
        lines.push('\n');
    }
    server.run_with(&["write", "t"], lines.as_bytes()).ok();
    server
}

const ALL: [&str; 4] = ["--start", "2026-01-01", "--end", "2027-01-01"];

/// Arguments of a replay of everything, and more.
fn replay<'a>(brokers: &'a str, topic: &'a str, rate: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let what = [
        "replay",
        "t",
        "--brokers",
        brokers,
        "--topic",
        topic,
        "--rate",
        rate,
    ];
    [&what[..], &ALL, more].concat()
}

/// What the server itself finds, in event order by id: time and event id.
type Events = BTreeMap<String, Vec<(String, String)>>;

fn selected(server: &Server, more: &[&str]) -> Events {
    let mut events = Events::new();
    let search = [&["search", "t", "--all"][..], more].concat();
    for event in server.run(&search).ok().json() {
        let text = |field: &str| event[field].as_str().unwrap().to_owned();
        events
            .entry(text("timeSeriesId"))
            .or_default()
            .push((text("eventTime"), text("eventId")));
    }
    for events in events.values_mut() {
        events.sort();
    }
    events
}

/// What a topic holds, by key and in its order. A key is in one partition.
fn sent(messages: &[Sent]) -> Events {
    let mut events = Events::new();
    let mut partitions = BTreeMap::new();
    for message in messages {
        let record = EventRecord::decode(message.value.as_deref().unwrap()).unwrap();
        assert_eq!(message.key, record.time_series_id.as_bytes());
        assert_eq!(message.headers["anabranch-namespace"], b"t");
        assert_eq!(
            message.headers["anabranch-message"],
            b"anabranch.timeseries.v1.EventRecord"
        );
        assert_eq!(record.event_items.len(), 1);
        let partition = *partitions
            .entry(record.time_series_id.clone())
            .or_insert(message.partition);
        assert_eq!(partition, message.partition, "{}", record.time_series_id);
        let time = record.event_time.unwrap();
        let time = format!("2026-03-{:02}", 1 + (time.seconds - 1_772_323_200) / 86_400)
            + &format!(
                "T{:02}:{:02}:{:02}Z",
                time.seconds / 3_600 % 24,
                time.seconds / 60 % 60,
                time.seconds % 60
            );
        events
            .entry(record.time_series_id)
            .or_default()
            .push((time, record.event_id));
    }
    events
}

#[test]
fn every_selected_event_is_sent_once_and_in_order() {
    let Some(brokers) = brokers("replay: every selected event") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path());
    let few = ["--query", "id IN (wide, id007, id008) AND kind = play"];
    let ranges = ["--start", "2026-03-02", "--end", "2026-03-03T12:00:00Z"];
    let some = ["--query", "kind = stop"];
    for (query, range) in [(&[][..], &ALL), (&some[..], &ranges), (&few[..], &ALL)] {
        let topic = unique("replay");
        create_topic(&brokers, &topic, 5);
        let args = [
            "replay",
            "t",
            "--brokers",
            &brokers,
            "--topic",
            &topic,
            "--rate",
            "0",
        ];
        let ran = server.run(&[&args[..], range, query].concat()).ok();
        let expected = selected(&server, &[query, range].concat());
        assert!(!expected.is_empty());
        assert_eq!(sent(&read_topic(&brokers, &topic)), expected, "{query:?}");
        let told = &ran.json()[0];
        let count: usize = expected.values().map(Vec::len).sum();
        assert_eq!(
            (&told["events"], &told["ids"]),
            (&count.into(), &expected.len().into())
        );
    }
}

#[test]
fn one_message_an_id_has_its_newest_event() {
    let Some(brokers) = brokers("replay: one message an id") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path());
    let topic = unique("replay-ids");
    create_topic(&brokers, &topic, 3);
    let checkpoint = folder.path().join("checkpoint");
    let query = [
        "--query",
        "kind = stop",
        "--one-per-id",
        "--checkpoint",
        path(&checkpoint),
    ];
    server.run(&replay(&brokers, &topic, "0", &query)).ok();
    let newest: Events = selected(&server, &["--query", "kind = stop"])
        .into_iter()
        .map(|(id, events)| (id, events[events.len() - 1..].to_vec()))
        .collect();
    assert_eq!(sent(&read_topic(&brokers, &topic)), newest);
    let again = server.run(&replay(&brokers, &topic, "0", &query)).ok();
    assert!(again.talk.contains("finished"), "{}", again.talk);
    assert_eq!(read_topic(&brokers, &topic).len(), newest.len());
}

/// Starts a replay, and kills it once its checkpoint has so many lines. True when it was killed on its way.
fn killed_at(server: &Server, args: &[&str], checkpoint: &Path, lines: usize) -> bool {
    let args = [args, &["--server", &server.url]].concat();
    let mut child = support::command(&args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    loop {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        let text = std::fs::read_to_string(checkpoint).unwrap_or_default();
        if text.lines().count() >= lines {
            // In the middle of the page behind it.
            std::thread::sleep(Duration::from_millis(60 * (lines as u64 % 4)));
            signal(&child, "KILL");
            child.wait().unwrap();
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_replay_that_is_killed_goes_on_and_leaves_nothing_out() {
    let Some(brokers) = brokers("replay: killed and resumed") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path());
    let page = 1_000;
    // A scan over every id, and a walk over ids that are named.
    let named = ["--query", "id IN (wide, id001, id002)"];
    for (query, kills) in [(&[][..], &[2, 3, 5, 6, 8, 9][..]), (&named[..], &[2, 3, 4][..])] {
        let topic = unique("replay-killed");
        create_topic(&brokers, &topic, 4);
        let checkpoint = folder.path().join(&topic);
        let keep = ["--checkpoint", path(&checkpoint)];
        // Slow enough to be met on its way.
        let more = [query, &keep].concat();
        let slow = replay(&brokers, &topic, "3000", &more);
        let mut killed = 0;
        for lines in kills {
            killed += usize::from(killed_at(&server, &slow, &checkpoint, *lines));
        }
        assert!(
            killed * 2 > kills.len(),
            "{killed} of {} kills met it",
            kills.len()
        );
        server.run(&replay(&brokers, &topic, "0", &more)).ok();

        let expected = selected(&server, &[query, &ALL].concat());
        let all = sent(&read_topic(&brokers, &topic));
        let count: usize = expected.values().map(Vec::len).sum();
        let found: usize = all.values().map(Vec::len).sum();
        println!("{killed} kills, {count} events, {} repeated", found - count);
        assert!(
            found - count <= killed * page,
            "at most a page is repeated by each stop"
        );
        assert_eq!(first_of_each(all), expected);
    }
}

/// What is left when repeats are passed over: it has to be in order still.
fn first_of_each(events: Events) -> Events {
    let first = |events: Vec<(String, String)>| {
        let mut seen = BTreeSet::new();
        events
            .into_iter()
            .filter(|event| seen.insert(event.clone()))
            .collect()
    };
    events
        .into_iter()
        .map(|(id, events)| (id, first(events)))
        .collect()
}

#[test]
fn what_is_wrong_names_the_flag_the_reason_and_the_fix() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path());
    let says = |ran: Ran, code: i32, parts: &[&str]| {
        let ran = ran.ended(code);
        for part in parts {
            assert!(ran.talk.contains(part), "{part}: {}", ran.talk);
        }
    };
    let run = |brokers: &str, topic: &str, more: &[&str]| server.run(&replay(brokers, topic, "0", more));
    says(
        run("nowhere", "t", &[]),
        2,
        &["--brokers", "`nowhere`", "HOST:PORT"],
    );
    says(run("127.0.0.1:9", "a b", &[]), 2, &["--topic", "`a b`", "A-Z"]);
    says(run("127.0.0.1:9", "t", &["--query", "a ="]), 2, &["--query"]);
    says(
        run("127.0.0.1:9", "t", &[]),
        5,
        &["--brokers", "`127.0.0.1:9`", "Connection refused", "start Kafka"],
    );
    let properties = folder.path().join("properties");
    std::fs::write(&properties, "acks=0\n").unwrap();
    says(
        run("127.0.0.1:9", "t", &["--kafka-properties", path(&properties)]),
        2,
        &["--kafka-properties", "line 1", "`acks`", "remove the line"],
    );
    let needed = server.run(&["replay", "t", "--topic", "t"]).ended(2);
    assert!(needed.talk.contains("--start <TIME>"), "{}", needed.talk);

    let Some(brokers) = brokers("replay: a topic that is not there") else {
        return;
    };
    says(
        run(&brokers, &unique("absent"), &[]),
        4,
        &["--topic", "there is no topic", "create it"],
    );
    let topic = unique("replay-wrong");
    create_topic(&brokers, &topic, 1);
    let args = ["replay", "absent", "--brokers", &brokers, "--topic", &topic];
    says(
        server.run(&[&args[..], &ALL].concat()),
        4,
        &["NAMESPACE_NOT_FOUND"],
    );
    let checkpoint = folder.path().join("checkpoint");
    let keep = ["--checkpoint", path(&checkpoint)];
    run(&brokers, &topic, &keep).ok();
    says(
        run(
            &brokers,
            &topic,
            &[&keep[..], &["--query", "kind = stop"]].concat(),
        ),
        2,
        &["--checkpoint", "another --query", "remove it"],
    );
}
