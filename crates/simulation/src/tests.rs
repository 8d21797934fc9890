//! Worlds by the hundred, and those that once failed by name.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Counts, Options, run};

fn seeds() -> u64 {
    let wanted = std::env::var("ANABRANCH_SIM_SEEDS").ok();
    wanted.and_then(|seeds| seeds.parse().ok()).unwrap_or(200)
}

#[test]
fn every_world_holds() {
    let seeds = seeds();
    let (next, all) = (AtomicU64::new(0), Mutex::new((Counts::default(), Vec::new())));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    let outcome = run(seed, Options::default());
                    let mut all = all.lock().unwrap();
                    match outcome {
                        Ok(report) => all.0 = all.0.with(report.counts),
                        Err(failure) => all.1.push(failure.to_string()),
                    }
                }
            });
        }
    });
    let (counts, failures) = all.into_inner().unwrap();
    assert!(
        failures.is_empty(),
        "{} of {seeds}: {failures:#?}",
        failures.len()
    );
    println!("{counts:#?}");
}

/// A world in which a check once failed. It stands for what is said of it only as long as worlds are drawn as they are
/// now; when that changes, another is looked for with the mend taken out.
fn holds(seed: u64) {
    if let Err(failure) = run(seed, Options::default()) {
        panic!("{failure}");
    }
}

/// A planner surveyed the frozen part of a partition again and again, because all of it was immutable by the clock and
/// too little of it was known to be: a generation each time.
#[test]
fn a_survey_waits_for_what_is_about_to_settle() {
    holds(6);
}

/// A splitter slept in the middle of a copy, was overtaken, and wrote on after its targets had been removed.
#[test]
fn a_splitter_that_slept_writes_nothing_that_nobody_removes() {
    holds(2_325);
}

/// A server slept, and answered from a view that was older than the slice that was read.
#[test]
fn a_server_that_slept_looks_for_new_slices_before_it_answers() {
    holds(814);
}

#[test]
fn one_seed_is_one_run() {
    let told = Options { trace: true };
    for seed in 0..12 {
        let (once, again) = (run(seed, told).unwrap(), run(seed, told).unwrap());
        let lines = once.trace.iter().zip(&again.trace);
        for (n, (first, second)) in lines.enumerate() {
            assert_eq!(first, second, "seed {seed}, line {n}");
        }
        assert_eq!(once, again, "seed {seed}");
        let silent = run(seed, Options::default()).unwrap();
        assert_eq!(
            (silent.trace_hash, silent.notes),
            (once.trace_hash, once.notes),
            "seed {seed}"
        );
    }
}

#[cfg(feature = "planted-bugs")]
mod planted;
