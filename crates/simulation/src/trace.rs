//! What happened in a world: always a hash, and in words when somebody wants to read it.
//!
//! One seed gives one hash. Whatever is not passed in (a raw clock, the order of a hash map) shows up as two runs
//! of one seed that differ.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The trace of one world. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Trace(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    started: Instant,
    kept: Mutex<Kept>,
    /// Lines are kept.
    told: bool,
}

#[derive(Debug, Default)]
struct Kept {
    hash: u64,
    notes: u64,
    lines: Vec<String>,
}

impl Trace {
    /// A trace that starts now; `told` keeps lines for people.
    pub(crate) fn new(started: Instant, told: bool) -> Self {
        Self(Arc::new(Inner {
            started,
            kept: Mutex::default(),
            told,
        }))
    }

    /// Takes something into the hash, and into the lines in words.
    pub(crate) fn note(&self, who: &str, what: &str, number: u64, words: impl FnOnce() -> String) {
        let at = self.now();
        let mut kept = self.kept();
        kept.notes += 1;
        let mut hash = mix(kept.hash, u64::try_from(at.as_micros()).unwrap_or(u64::MAX));
        for byte in who.bytes().chain(what.bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
        kept.hash = mix(hash, number);
        if self.0.told {
            let words = words();
            let seconds = at.as_secs_f64();
            kept.lines
                .push(format!("{seconds:13.6} {who:<10} {what} {words}"));
        }
    }

    /// Time since the world began.
    pub(crate) fn now(&self) -> Duration {
        Instant::elapsed(&self.0.started)
    }

    /// True when lines are kept.
    pub(crate) fn told(&self) -> bool {
        self.0.told
    }

    /// Of everything so far, and how much that was.
    pub(crate) fn hash(&self) -> (u64, u64) {
        let kept = self.kept();
        (kept.hash, kept.notes)
    }

    pub(crate) fn take_lines(&self) -> Vec<String> {
        std::mem::take(&mut self.kept().lines)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn mix(hash: u64, number: u64) -> u64 {
    let mixed = (hash ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ (mixed >> 29)
}
