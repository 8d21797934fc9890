//! How long requests take at present, for background work that is to give way to them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Weight of one request: a sixteenth.
const WEIGHT: u64 = 16;

/// Latency of the requests that people wait for, as a moving average. Shared by who serves and who gives way.
#[derive(Debug, Default)]
pub struct Foreground {
    micros: AtomicU64,
    observed: AtomicBool,
}

impl Foreground {
    /// Counts a request.
    pub fn observe(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let average = |before: u64| {
            Some(if before == 0 {
                took
            } else {
                before - before / WEIGHT + took / WEIGHT
            })
        };
        // Never refused: the closure always answers.
        let _ = self
            .micros
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, average);
        self.observed.store(true, Ordering::Relaxed);
    }

    /// What requests take. When none came since the last look, it falls: nobody is waiting.
    pub fn latency(&self) -> Duration {
        if !self.observed.swap(false, Ordering::Relaxed) {
            let fall = |before: u64| Some(before - before.div_ceil(WEIGHT));
            let _ = self
                .micros
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fall);
        }
        Duration::from_micros(self.micros.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_follows_requests_and_falls_when_there_are_none() {
        let foreground = Foreground::default();
        assert_eq!(foreground.latency(), Duration::ZERO);
        foreground.observe(Duration::from_millis(16));
        assert_eq!(foreground.latency(), Duration::from_millis(16));
        foreground.observe(Duration::from_millis(32));
        assert_eq!(foreground.latency(), Duration::from_millis(17));
        for _ in 0..1_000 {
            foreground.latency();
        }
        assert_eq!(foreground.latency(), Duration::ZERO);
    }
}
