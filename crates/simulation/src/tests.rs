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

#[test]
fn one_seed_is_one_run() {
    let told = Options { trace: true };
    for seed in 0..4 {
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
