//! The server as a process: its folder, its port, its end; namespaces, settings and errors from the shell.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test ends where it can not go on"
)]

mod support;

use support::{Server, events, path, run};

#[test]
fn what_was_written_is_there_after_a_stop_and_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    server
        .run(&["namespace", "create", "t", "--set", "accept_limit=0"])
        .ok();
    server
        .run_with(&["write", "t"], events("a", 0..10).as_bytes())
        .ok();
    server
        .run_with(&["write", "t", "--queued"], events("b", 0..10).as_bytes())
        .ok();
    assert_eq!(server.stop(), Some(0));

    let server = Server::start(folder.path());
    for series in ["a", "b"] {
        let read = server
            .run(&["read", "t", "--id", series, "--all", "--ascending"])
            .ok();
        assert_eq!(read.out, events(series, 0..10));
    }
}

#[test]
fn a_folder_serves_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let _server = Server::start(folder.path());
    let second = run(
        &[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--data-dir",
            path(folder.path()),
        ],
        b"",
    )
    .ended(1);
    assert_eq!(second.out, "");
    assert!(second.talk.contains(path(folder.path())), "{}", second.talk);
    assert!(second.talk.contains("another process"), "{}", second.talk);
}

#[test]
fn other_machines_are_served_only_on_demand() {
    let folder = tempfile::tempdir().unwrap();
    let refused = run(
        &[
            "serve",
            "--listen",
            "0.0.0.0:0",
            "--data-dir",
            path(folder.path()),
        ],
        b"",
    )
    .ended(2);
    assert!(refused.talk.contains("--insecure"), "{}", refused.talk);
}

#[test]
fn namespaces_live_their_life_from_the_shell() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let created = server
        .run(&[
            "namespace",
            "create",
            "n",
            "--set",
            "accept_limit=0",
            "--set",
            "wide_partition.detect_bytes=64KiB",
        ])
        .ok();
    assert_eq!(created.json()[0]["widePartition"]["detectBytes"], "65536");
    server.run(&["namespace", "create", "n"]).ended(4);
    let wrong = server
        .run(&["namespace", "create", "m", "--set", "acept_limit=0"])
        .ended(2);
    assert!(
        wrong.talk.contains("did you mean `accept_limit`"),
        "{}",
        wrong.talk
    );

    server
        .run(&["namespace", "update", "n", "--set", "field_mapping.a=INTEGER"])
        .ok();
    let updated = server
        .run(&["namespace", "update", "n", "--set", "field_mapping.b=DOUBLE"])
        .ok();
    assert_eq!(updated.json()[0]["fieldMapping"]["a"], "INTEGER");
    assert_eq!(updated.json()[0]["acceptLimit"], "0s");
    let shown = server.run(&["namespace", "show", "n", "-o", "table"]).ok();
    assert!(shown.out.contains("field_mapping.b"), "{}", shown.out);

    server
        .run_with(&["write", "n"], events("a", 0..3).as_bytes())
        .ok();
    assert!(!server.run(&["slices", "n"]).ok().json().is_empty());
    server
        .run(&["namespace", "seal", "n", "--before", "2026-03-02"])
        .ok();
    let sealed = server
        .run_with(&["write", "n"], events("a", 3..4).as_bytes())
        .ended(3);
    assert!(sealed.talk.contains("TIME_SLICE_SEALED"), "{}", sealed.talk);
    server.run(&["namespace", "unseal", "n"]).ok();
    server
        .run_with(&["write", "n"], events("a", 3..4).as_bytes())
        .ok();

    server
        .run(&["namespace", "block", "n", "--id", "a", "--reason", "too loud"])
        .ok();
    let blocked = server.run(&["read", "n", "--id", "a"]).ended(4);
    assert!(
        blocked.talk.contains("ID_BLOCKED") && blocked.talk.contains("too loud"),
        "{}",
        blocked.talk
    );
    assert_eq!(server.run(&["namespace", "blocked", "n"]).ok().json().len(), 1);
    server.run(&["namespace", "unblock", "n", "--id", "a"]).ok();
    server.run(&["read", "n", "--id", "a"]).ok();

    assert_eq!(server.run(&["namespace", "list"]).ok().json().len(), 1);
    server.run(&["namespace", "delete", "n"]).ok();
    server.run(&["namespace", "show", "n"]).ended(4);
    let status = server.run(&["status"]).ok();
    assert_eq!(status.json()[0]["storeKind"], "embedded");
}

#[test]
fn settings_say_where_they_come_from() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("anabranch.toml"),
        "[server]\nlisten = \"127.0.0.1:1\"\n",
    )
    .unwrap();
    let line = format!(
        "ANABRANCH_STORE__EMBEDDED__DATA_DIR=e {} config show --origin -o csv",
        support::ANABRANCH
    );
    let shown = support::shell(&line, folder.path()).ok();
    assert!(
        shown.out.contains("server.listen,127.0.0.1:1,anabranch.toml,"),
        "{}",
        shown.out
    );
    assert!(
        shown
            .out
            .contains("store.embedded.data_dir,e,ANABRANCH_STORE__EMBEDDED__DATA_DIR,"),
        "{}",
        shown.out
    );
    std::fs::write(folder.path().join("anabranch.toml"), "[server]\nlisen = 1\n").unwrap();
    let wrong = support::shell(&format!("{} config check", support::ANABRANCH), folder.path()).ended(2);
    assert!(
        wrong.talk.contains("did you mean `server.listen`"),
        "{}",
        wrong.talk
    );
}

#[test]
fn errors_are_explained_without_a_server() {
    let one = run(&["errors", "namespace_not_found", "-o", "table"], b"").ok();
    assert!(
        one.out.contains("NAMESPACE_NOT_FOUND") && one.out.contains("fix"),
        "{}",
        one.out
    );
    assert!(run(&["errors"], b"").ok().out.lines().count() > 20);
    let near = run(&["errors", "NAMESPACE_NOT_FUND"], b"").ended(2);
    assert!(
        near.talk.contains("did you mean `NAMESPACE_NOT_FOUND`"),
        "{}",
        near.talk
    );
}
