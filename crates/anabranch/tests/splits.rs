//! Wide partitions from the shell: measured, listed, planned, sent round again, invalidated.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test ends where it can not go on"
)]

mod support;

use support::{Ran, Server, events};

fn server() -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    server
        .run(&["namespace", "create", "t", "--set", "accept_limit=0"])
        .ok();
    server
        .run_with(&["write", "t"], events("a/b", 0..200).as_bytes())
        .ok();
    server
        .run_with(&["write", "t"], events("small", 0..3).as_bytes())
        .ok();
    (folder, server)
}

/// The slice that the events are in.
fn slice(server: &Server) -> String {
    let slices = server.run(&["slices", "t"]).ok().json();
    slices[0]["name"].as_str().unwrap().to_owned()
}

/// The widest partition of the slice, as the command line writes it.
fn widest(server: &Server, slice: &str) -> String {
    let sizes = server.run(&["widths", "t", "--slice", slice]).ok().json();
    let partition = &sizes[0]["widest"][0]["partition"];
    format!(
        "{}/{}/{}/{}",
        partition["timeSlice"].as_str().unwrap(),
        partition["timeSeriesId"].as_str().unwrap(),
        partition["timeBucket"].as_str().unwrap(),
        partition["eventBucket"],
    )
}

fn state(ran: &Ran) -> String {
    ran.json()[0]["state"].as_str().unwrap().to_owned()
}

#[test]
fn widths_name_the_widest_partitions() {
    let (_folder, server) = server();
    let slice = slice(&server);
    let sizes = server
        .run(&["widths", "t", "--slice", &slice])
        .ok()
        .json()
        .remove(0);
    assert_eq!((&sizes["count"], &sizes["events"]), (&"2".into(), &"203".into()));
    assert_eq!(sizes["widest"][0]["partition"]["timeSeriesId"], "a/b");
    assert_eq!(sizes["widest"][0]["events"], "200");
    assert_eq!(sizes["percentiles"]["max"], sizes["widest"][0]["bytes"]);
    let table = server
        .run(&["widths", "t", "--slice", &slice, "-o", "table"])
        .ok()
        .out;
    for expected in ["2 partitions, 203 events", "WIDEST", "p99", "█", "/a/b/"] {
        assert!(table.contains(expected), "{expected}: {table}");
    }
    server.run(&["widths", "t", "--slice", "19991231"]).ended(4);
}

/// The state of a split that was stopped: nothing is left of it at once when no target had been written.
fn stopped(ran: &support::Ran) -> String {
    let state = state(ran);
    assert!(["INVALIDATED", "RETIRED"].contains(&state.as_str()), "{state}");
    state
}

#[test]
fn a_split_is_planned_listed_shown_and_invalidated() {
    let (_folder, server) = server();
    assert_eq!(server.run(&["split", "list", "t"]).ok().out, "");
    let partition = widest(&server, &slice(&server));
    let unknown = server.run(&["split", "show", "t", &partition]).ended(4);
    assert!(unknown.talk.contains("SPLIT_NOT_FOUND"), "{}", unknown.talk);

    let planned = server.run(&["split", "plan", "t", &partition]).ok();
    assert_eq!(planned.json()[0]["partition"]["timeSeriesId"], "a/b");
    let listed = server.run(&["split", "list", "t"]).ok().json();
    assert_eq!(listed.len(), 1);
    // Whoever makes splits in the server may have taken it up: from any state it is stopped, and stays so.
    let gone = server.run(&["split", "invalidate", "t", &partition]).ok();
    let stopped = stopped(&gone);
    assert_eq!(gone.json()[0]["reason"], "OPERATOR");
    let again = server.run(&["split", "invalidate", "t", &partition]).ended(4);
    assert!(again.talk.contains("SPLIT_STATE"), "{}", again.talk);
    let by_state = server
        .run(&["split", "list", "t", "--state", &stopped.to_lowercase()])
        .ok();
    assert_eq!(state(&by_state), stopped);
    assert_eq!(
        server
            .run(&["split", "list", "t", "--state", "quarantined"])
            .ok()
            .out,
        ""
    );
    let table = server.run(&["split", "list", "t", "-o", "table"]).ok().out;
    assert!(
        table.starts_with("PARTITION") && table.contains(&partition),
        "{table}"
    );
    let shown = server
        .run(&["split", "show", "t", &partition, "-o", "table"])
        .ok()
        .out;
    assert!(shown.contains(&stopped) && shown.contains("OPERATOR"), "{shown}");

    let again = server.run(&["split", "retry", "t", &partition]).ok();
    assert_eq!(state(&again), "DETECTED");
}

#[test]
fn a_partition_is_also_named_by_id_and_time() {
    let (_folder, server) = server();
    let partition = widest(&server, &slice(&server));
    server.run(&["split", "plan", "t", &partition]).ok();
    let read = server
        .run(&["read", "t", "--id", "a/b", "--page-size", "1"])
        .ok()
        .json();
    let time = read[0]["eventTime"].as_str().unwrap();
    let shown = server
        .run(&["split", "show", "t", "--id", "a/b", "--time", time])
        .ok();
    assert_eq!(shown.json()[0]["partition"]["timeSeriesId"], "a/b");
    server.run(&["split", "show", "t"]).ended(2);
    server.run(&["split", "show", "t", "--id", "a/b"]).ended(2);
    server.run(&["split", "show", "t", "a/b"]).ended(2);
    let never = ["split", "show", "t", "--id", "a/b", "--time", "1971-01-01"];
    server.run(&never).ended(2);
}

#[test]
fn a_watch_tells_every_change_once() {
    let (_folder, server) = server();
    let partition = widest(&server, &slice(&server));
    server.run(&["split", "plan", "t", &partition]).ok();
    let gone = server.run(&["split", "invalidate", "t", &partition]).ok();
    let told = server
        .run(&["split", "watch", "t", "--every", "50ms", "--for", "400ms"])
        .ok();
    assert_eq!(state(&told), stopped(&gone));
    let lines = told.json();
    let mut once = lines.clone();
    once.dedup();
    assert_eq!(lines, once);
    let drawn = server
        .run(&["split", "watch", "t", "--for", "0s", "-o", "table"])
        .ok();
    assert!(drawn.out.starts_with("t: 1 split"), "{}", drawn.out);
    assert!(!drawn.out.contains('\u{1b}'), "no decoration in a pipe");
}

#[test]
fn what_can_not_be_done_says_why_and_ends_with_its_code() {
    let (_folder, server) = server();
    let partition = widest(&server, &slice(&server));
    server
        .run(&["namespace", "update", "t", "--set", "wide_partition.rollout=OFF"])
        .ok();
    let off = server.run(&["split", "plan", "t", &partition]).ended(4);
    assert!(off.talk.contains("SPLITTING_OFF"), "{}", off.talk);
    let wrong = server.run(&["split", "list", "t", "--state", "done"]).ended(2);
    assert!(wrong.talk.contains("QUARANTINED"), "{}", wrong.talk);
    server.run(&["split", "list", "nowhere"]).ended(4);
}
