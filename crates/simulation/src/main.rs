//! `simulate SEED` prints what happens in one world; `simulate --seeds N [--from K]` runs many, on every core.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is a command")]

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anabranch_simulation::{Counts, Failure, Options, run};

const USAGE: &str = "usage: simulate SEED | simulate --seeds N [--from K]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let numbers = |text: &str| text.replace('_', "").parse::<u64>().ok();
    match arguments
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["--seeds", seeds] => numbers(seeds).map_or_else(usage, |seeds| many(0, seeds)),
        ["--seeds", seeds, "--from", from] => match (numbers(seeds), numbers(from)) {
            (Some(seeds), Some(from)) => many(from, seeds),
            _ => usage(),
        },
        [seed] => numbers(seed).map_or_else(usage, one),
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

fn one(seed: u64) -> ExitCode {
    match run(seed, Options { trace: true }) {
        Ok(report) => {
            report.trace.iter().for_each(|line| println!("{line}"));
            println!("{:#?}", report.counts);
            println!("seed {seed} holds, trace {:016x}", report.trace_hash);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            failure.trace.iter().for_each(|line| println!("{line}"));
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn many(from: u64, seeds: u64) -> ExitCode {
    let (next, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let (counts, failures) = (Mutex::new(Counts::default()), Mutex::new(Vec::<Failure>::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= seeds {
                        return;
                    }
                    match run(from + number, Options::default()) {
                        Ok(report) => {
                            let mut counts = lock(&counts);
                            *counts = counts.with(report.counts);
                        }
                        Err(failure) => {
                            println!("{failure}");
                            lock(&failures).push(failure);
                        }
                    }
                    let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                    if done.is_multiple_of((seeds / 20).max(1)) {
                        eprintln!("{done} of {seeds} seeds, {} fail", lock(&failures).len());
                    }
                }
            });
        }
    });
    println!("{:#?}", lock(&counts));
    match lock(&failures).len() {
        0 => ExitCode::SUCCESS,
        failures => {
            println!("{failures} of {seeds} seeds fail");
            ExitCode::FAILURE
        }
    }
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
