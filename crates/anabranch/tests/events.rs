//! Events through the real binary: what is written is read, what can not be written is named by its line.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test ends where it can not go on"
)]

mod support;

use std::fs;
use std::io::Write;

use support::{Server, event, events, path, run};

fn server() -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    let created = server.run(&[
        "namespace",
        "create",
        "t",
        "--set",
        "accept_limit=0",
        "--set",
        "field_mapping.n=INTEGER",
    ]);
    created.ok();
    (folder, server)
}

/// What a read prints, with the events in the order that they were written.
fn read_all(server: &Server, series: &str) -> String {
    server
        .run(&[
            "read",
            "t",
            "--id",
            series,
            "--all",
            "--ascending",
            "--page-size",
            "7",
        ])
        .ok()
        .out
}

#[test]
fn what_is_read_can_be_written_and_read_again() {
    let (_folder, server) = server();
    let text = events("a", 0..100);
    let wrote = server
        .run_with(&["write", "t", "--batch", "7"], text.as_bytes())
        .ok();
    assert!(wrote.talk.contains("wrote 100 events"), "{}", wrote.talk);
    assert_eq!(wrote.out, "");
    let read = read_all(&server, "a");
    assert_eq!(read, text);

    server
        .run(&["namespace", "create", "u", "--set", "accept_limit=0"])
        .ok();
    server.run_with(&["write", "u"], read.as_bytes()).ok();
    let again = server
        .run(&["read", "u", "--id", "a", "--all", "--ascending"])
        .ok();
    assert_eq!(again.out, text);
}

#[test]
fn every_way_of_writing_and_every_compression_writes_the_same() {
    let (folder, server) = server();
    let text = events("a", 0..50);
    let (half, rest) = text.split_at(text.len() / 50 * 25);
    let gzip = |text: &str| {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(text.as_bytes()).unwrap();
        writer.finish().unwrap()
    };
    // Names say nothing about what is inside.
    let zipped = folder.path().join("plain.ndjson");
    fs::write(&zipped, [gzip(half), gzip(rest)].concat()).unwrap();
    server.run(&["write", "t", "--file", path(&zipped)]).ok();
    assert_eq!(read_all(&server, "a"), text);

    let packed = folder.path().join("packed");
    fs::write(
        &packed,
        zstd::encode_all(events("b", 0..50).as_bytes(), 1).unwrap(),
    )
    .unwrap();
    server
        .run(&["write", "t", "--sync", "--file", path(&packed)])
        .ok();
    assert_eq!(read_all(&server, "b"), events("b", 0..50));

    let queued = server
        .run_with(&["write", "t", "--queued"], events("c", 0..50).as_bytes())
        .ok();
    assert!(queued.talk.contains("queued 50 events"), "{}", queued.talk);
}

#[test]
fn a_wrong_line_stops_after_everything_before_it() {
    let (folder, server) = server();
    let file = folder.path().join("in.ndjson");
    let wrong = event("a", 30).replace("eventId", "eventld");
    fs::write(
        &file,
        format!("{}{wrong}\n{}", events("a", 0..30), events("a", 31..40)),
    )
    .unwrap();
    let stopped = server
        .run(&["write", "t", "--batch", "8", "--file", path(&file)])
        .ended(3);
    assert!(
        stopped
            .talk
            .contains(&format!("{}:31: eventld: there is no such field", path(&file))),
        "{}",
        stopped.talk
    );
    assert!(
        stopped
            .talk
            .contains("stopped at line 31; 30 events before it are written"),
        "{}",
        stopped.talk
    );
    assert_eq!(read_all(&server, "a"), events("a", 0..30));

    let rest = server
        .run(&["write", "t", "--from-line", "32", "--file", path(&file)])
        .ok();
    assert!(rest.talk.contains("wrote 9 events"), "{}", rest.talk);
}

#[test]
fn wrong_lines_are_skipped_named_and_counted() {
    let (_folder, server) = server();
    let wrong = event("a", 1).replace("\"e000001\"", "17");
    let text = format!("{}\n{wrong}\nnonsense\n\n{}\n", event("a", 0), event("a", 2));
    let wrote = server
        .run_with(&["write", "t", "--on-error", "skip"], text.as_bytes())
        .ended(3);
    assert!(
        wrote
            .talk
            .contains("stdin:2: eventId: expected text, found a number"),
        "{}",
        wrote.talk
    );
    assert!(wrote.talk.contains("stdin:3: not JSON"), "{}", wrote.talk);
    assert!(wrote.talk.contains("wrote 2 events"), "{}", wrote.talk);
    assert!(
        wrote.talk.contains("2 lines could not be written"),
        "{}",
        wrote.talk
    );
    assert_eq!(read_all(&server, "a").lines().count(), 2);
}

#[test]
fn events_that_the_server_refuses_are_named_by_their_lines() {
    let (_folder, server) = server();
    server.run(&["namespace", "create", "fresh"]).ok();
    // Nothing of March is accepted in a namespace with the usual accept limit; one event is of now.
    let now = event("a", 9).replace("2026-03-01T00:00:09.000001Z", &jiff::Timestamp::now().to_string());
    let text = format!("{}\n{now}\n{}\n", event("a", 1), event("a", 2));
    for mode in [&[][..], &["--sync"]] {
        let args = [&["write", "fresh", "--on-error", "skip"], mode].concat();
        let wrote = server.run_with(&args, text.as_bytes()).ended(3);
        assert!(wrote.talk.contains("stdin:1: event_time: "), "{}", wrote.talk);
        assert!(wrote.talk.contains("stdin:3: event_time: "), "{}", wrote.talk);
        assert!(wrote.talk.contains("EVENT_TOO_OLD"), "{}", wrote.talk);
        assert!(wrote.talk.contains("wrote 1 event "), "{}", wrote.talk);
    }
    let stopped = server.run_with(&["write", "fresh"], text.as_bytes()).ended(3);
    assert!(
        stopped.talk.contains("stopped at line 1; 0 events"),
        "{}",
        stopped.talk
    );
}

#[test]
fn a_checkpoint_goes_on_where_the_last_run_ended() {
    let (folder, server) = server();
    let (file, checkpoint) = (folder.path().join("in"), folder.path().join("checkpoint"));
    fs::write(&file, format!("{}nonsense\n", events("a", 0..20))).unwrap();
    let args = [
        "write",
        "t",
        "--file",
        path(&file),
        "--checkpoint",
        path(&checkpoint),
    ];
    server.run(&args).ended(3);
    fs::write(&file, events("a", 0..25)).unwrap();
    let rest = server.run(&args).ok();
    assert!(rest.talk.contains("going on at line 21"), "{}", rest.talk);
    assert!(rest.talk.contains("wrote 5 events"), "{}", rest.talk);
    assert_eq!(read_all(&server, "a"), events("a", 0..25));
    let nothing = server.run(&args).ok();
    assert!(nothing.talk.contains("wrote 0 events"), "{}", nothing.talk);
}

#[test]
fn a_read_ends_with_the_command_of_the_next_page() {
    let (folder, server) = server();
    server
        .run_with(&["write", "t"], events("a", 0..10).as_bytes())
        .ok();
    let first = server
        .run(&[
            "read",
            "t",
            "--id",
            "a",
            "--page-size",
            "4",
            "--start",
            "-3000d",
            "--explain",
        ])
        .ok();
    assert_eq!(first.out.lines().count(), 4);
    assert!(first.talk.contains("explain: "), "{}", first.talk);
    let next = first
        .talk
        .lines()
        .find_map(|line| line.strip_prefix("next page: "))
        .unwrap();
    let second = support::shell(next, folder.path()).ok();
    let ids: Vec<_> = second
        .json()
        .iter()
        .map(|event| event["eventId"].clone())
        .collect();
    assert_eq!(ids, ["e000005", "e000004", "e000003", "e000002"]);
}

#[test]
fn events_are_found_and_counted() {
    let (_folder, server) = server();
    let text = format!("{}{}", events("a", 0..20), events("b", 0..20));
    server.run_with(&["write", "t"], text.as_bytes()).ok();
    let found = server
        .run(&[
            "search",
            "t",
            "--query",
            "n >= 9 AND n < 11 AND id IN (a, b)",
            "--all",
        ])
        .ok();
    assert_eq!(found.json().len(), 4);
    let scanned = server
        .run(&["search", "t", "--query", "kind ^= pl AND NOT n > 0", "--all"])
        .ok();
    assert_eq!(scanned.json().len(), 2);
    let counted = server.run(&["aggregate", "t", "--count"]).ok();
    assert_eq!(counted.json()[0]["count"], "40");
    let largest = server
        .run(&[
            "aggregate",
            "t",
            "--max",
            "n",
            "--by-time",
            "1h",
            "--query",
            "id = a",
        ])
        .ok();
    assert_eq!(largest.json()[0]["integerValue"], "19");
    let table = server
        .run(&["aggregate", "t", "--sum", "n", "--by-item", "kind", "-o", "table"])
        .ok();
    assert_eq!(table.out, "GROUP  SUM  EVENTS\nplay   380  40\n");
}

#[test]
fn exit_codes_say_what_went_wrong() {
    let (_folder, server) = server();
    run(&["read"], b"").ended(2);
    let query = server.run(&["search", "t", "--query", "author = "]).ended(2);
    assert!(query.talk.contains("column 10"), "{}", query.talk);
    let missing = server.run(&["read", "tt", "--id", "a"]).ended(4);
    assert!(
        missing.talk.starts_with("error NAMESPACE_NOT_FOUND: "),
        "{}",
        missing.talk
    );
    assert!(missing.talk.contains("\n  fix:   "), "{}", missing.talk);
    assert!(
        missing
            .talk
            .contains("more:  anabranch errors NAMESPACE_NOT_FOUND"),
        "{}",
        missing.talk
    );
    server
        .run_with(&["write", "tt"], event("a", 1).as_bytes())
        .ended(4);
    server
        .run(&["read", "t", "--id", "a", "--page-size", "-1"])
        .ended(4);
    let nobody = run(&["status", "--server", "http://127.0.0.1:1"], b"").ended(5);
    assert!(nobody.talk.contains("anabranch serve"), "{}", nobody.talk);
    let listed = run(&["exit-codes"], b"").ok();
    assert_eq!(listed.out.lines().count(), 7);
    run(&["help", "exit-codes"], b"").ok();
}

#[test]
fn a_reader_that_has_seen_enough_ends_a_read_quietly() {
    let (folder, server) = server();
    server
        .run_with(&["write", "t"], events("a", 0..5_000).as_bytes())
        .ok();
    let line = format!(
        "{} read t --id a --all --server {} | head -1",
        support::ANABRANCH,
        server.url
    );
    let ran = support::shell(&line, folder.path()).ok();
    assert_eq!(ran.out.lines().count(), 1);
    assert_eq!(ran.talk, "");
}
