//! The demo as somebody meets it: it loads once, shows what it read, and prints commands that work.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test ends where it can not go on"
)]

mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use support::{command, path, run, shell, signal, wait};

fn demo(data_dir: &Path) -> support::Ran {
    let args = [
        "demo",
        "--exit",
        "--scale",
        "0.01",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        path(data_dir),
    ];
    run(&args, b"")
}

#[test]
fn a_second_run_finds_the_data_of_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let first = demo(folder.path()).ok();
    assert!(
        first.out.starts_with("listening on http://127.0.0.1:"),
        "{}",
        first.out
    );
    assert!(first.out.contains("loaded namespace `demo`"), "{}", first.out);
    for text in [
        "newest page of profile:7",
        "newest page of device:whale",
        "P99",
        "try this next",
    ] {
        assert!(first.out.contains(text), "no {text} in {}", first.out);
    }
    assert!(
        !first.out.contains('\u{1b}') && !first.talk.contains('\u{1b}'),
        "decorated"
    );
    let second = demo(folder.path()).ok();
    assert!(second.out.contains("holds the data already"), "{}", second.out);
}

#[test]
fn every_command_that_is_printed_works() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = command(&[
        "demo",
        "--scale",
        "0.01",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        path(folder.path()),
    ])
    .stdout(Stdio::piped())
    .stderr(Stdio::null())
    .spawn()
    .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let lines = out.lines().map(Result::unwrap);
    let mut next: Vec<String> = lines
        .skip_while(|line| line != "try this next")
        .skip(1)
        .take(9)
        .collect();
    next.retain(|line| !line.is_empty());
    assert_eq!(next.len(), 9, "{next:?}");
    for line in next {
        let ran = shell(line.trim(), folder.path()).ok();
        assert!(
            !ran.out.is_empty(),
            "{line} printed nothing; stderr: {}",
            ran.talk
        );
        assert!(!ran.out.contains("\"code\""), "{line} printed {}", ran.out);
    }
    signal(&child, "INT");
    assert_eq!(wait(&mut child, Duration::from_secs(30)), Some(0));
}

#[test]
fn an_interrupted_load_is_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let args = [
        "demo",
        "--scale",
        "0.05",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        path(folder.path()),
    ];
    let mut child = command(&args)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    out.find(|line| line.as_ref().unwrap().contains("metrics"))
        .unwrap()
        .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let args = [&args[..], &["--exit"]].concat();
    let second = run(&args, b"").ok();
    assert!(second.out.contains("loaded namespace `demo`"), "{}", second.out);
    let third = run(&args, b"").ok();
    assert!(third.out.contains("holds the data already"), "{}", third.out);
}
