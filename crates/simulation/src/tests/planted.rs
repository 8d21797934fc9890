//! Does the simulation find what is wrong? Each bug that is planted is looked for, a world after the other.
//!
//! `ANABRANCH_SIM_BUG` looks for one of them alone.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anabranch_split::planted::{Bug, plant};

use crate::{Options, run};

/// Worlds in which a bug is looked for.
const SEEDS_MAX: u64 = 2_000;

/// Bugs that no world can show: they only cost time, or something behind them holds (the janitor removes nothing that is
/// served, whatever a record says), or they are not in the code yet.
fn is_for_others(bug: Bug) -> bool {
    !matches!(
        bug,
        Bug::LostRowsAtCut
            | Bug::ThinningLosesRows
            | Bug::TargetsSharedByGenerations
            | Bug::FailedNeverRetried
            | Bug::LeaseNeverLapses
            | Bug::CompletesWithoutComparing
            | Bug::ExtensionForgetsKept
            | Bug::HalfWrittenForgotten
            | Bug::InvalidatedStillServed
    )
}

/// The first world in which a check fails.
fn find(bug: Bug) -> Option<(u64, String)> {
    plant(Some(bug));
    let found = (0..SEEDS_MAX).find_map(|seed| {
        let failure = run(seed, Options::default()).err()?;
        Some((seed, failure.what))
    });
    plant(None);
    found
}

#[test]
fn every_planted_bug_is_found() {
    let only = std::env::var("ANABRANCH_SIM_BUG").ok();
    let wanted: Vec<Bug> = Bug::ALL
        .iter()
        .copied()
        .filter(|bug| {
            only.as_ref()
                .map_or(!is_for_others(*bug), |only| bug.name() == only)
        })
        .collect();
    let (next, missed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(bug) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match find(*bug) {
                        Some((seed, what)) => println!("{} is found by seed {seed}: {what}", bug.name()),
                        None => missed.lock().unwrap().push(bug.name()),
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "not found in {SEEDS_MAX} worlds: {missed:?}");
}
