//! Does the simulation find what is wrong? Each bug that the page says it finds is planted and looked for, a world after
//! the other.
//!
//! `ANABRANCH_SIM_BUG` looks for one of them alone.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anabranch_split::planted::{Bug, plant};

use crate::{Failure, Options, run};

/// Worlds in which a bug is looked for.
const SEEDS_MAX: u64 = 1_000;

const PAGE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/splits.md"));

/// The bugs that this is to find: for the others the page names a test of their own.
fn wanted() -> Vec<Bug> {
    let only = std::env::var("ANABRANCH_SIM_BUG").ok();
    let mut wanted = Vec::new();
    for bug in Bug::ALL.iter().copied() {
        let row = format!("| `{}` |", bug.name());
        let rows = PAGE.lines().filter(|line| line.starts_with(&row));
        let here = rows.into_iter().any(|row| row.contains("| the simulation"));
        if only.as_ref().map_or(here, |only| bug.name() == only) {
            wanted.push(bug);
        }
    }
    wanted
}

/// The first world in which a check fails.
fn find(bug: Bug) -> Option<Failure> {
    plant(Some(bug));
    let found = (0..SEEDS_MAX).find_map(|seed| run(seed, Options::default()).err());
    plant(None);
    found
}

#[test]
fn every_planted_bug_is_found() {
    let wanted = wanted();
    let (next, missed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(bug) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match find(*bug) {
                        Some(found) => println!("{}: {found}", bug.name()),
                        None => missed.lock().unwrap().push(bug.name()),
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "not found in {SEEDS_MAX} worlds: {missed:?}");
    println!("{} bugs are found", wanted.len());
}
