//! How fast a worker may read: bytes a second, and less while others wait for the store.

use std::time::Duration;

/// Foreground latency at which the pace is halved.
const SLOW: Duration = Duration::from_millis(20);
/// The pace is never divided by more than this.
const DIVISOR_MAX: f64 = 16.0;

/// Spreads work over time: asks how long to wait after each page.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// On the worker's elapsed clock: before this, nothing more is read.
    free_at: Duration,
}

impl Pace {
    /// A pace that starts now.
    pub fn new(elapsed: Duration) -> Self {
        Self { free_at: elapsed }
    }

    /// Counts a page that was read, and says how long to wait before the next. `foreground` is what reads and writes
    /// of others take at present.
    pub fn after_page(
        &mut self,
        elapsed: Duration,
        bytes: u64,
        bytes_per_second: u64,
        foreground: Duration,
    ) -> Duration {
        let slow = foreground.as_secs_f64() / SLOW.as_secs_f64();
        let divisor = (1.0 + slow).min(DIVISOR_MAX);
        #[expect(clippy::cast_precision_loss, reason = "a wait needs no more digits")]
        let seconds = bytes as f64 * divisor / bytes_per_second.max(1) as f64;
        // A worker that was slower than its pace does not catch up in one go.
        self.free_at = self.free_at.max(elapsed) + Duration::from_secs_f64(seconds.min(60.0));
        self.free_at.saturating_sub(elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pages_are_spread_to_the_bytes_allowed_and_slower_beside_slow_requests() {
        let mut pace = Pace::new(Duration::ZERO);
        assert_eq!(
            pace.after_page(Duration::ZERO, 500, 1_000, Duration::ZERO),
            Duration::from_millis(500)
        );
        assert_eq!(
            pace.after_page(Duration::from_millis(500), 500, 1_000, Duration::from_millis(20)),
            Duration::from_secs(1)
        );
        assert_eq!(
            pace.after_page(Duration::from_secs(9), 500, 1_000, Duration::from_secs(9)),
            Duration::from_secs(8)
        );
    }

    proptest! {
        /// Pages with time between them, by a worker that waits as it is told.
        #[test]
        fn no_run_of_pages_is_faster_than_its_bytes_a_second(
            pages in proptest::collection::vec((0u64..2_000_000, 0u64..3_000, 0u64..500), 1..50),
            bytes_per_second in 40_000u64..10_000_000,
        ) {
            let mut pace = Pace::new(Duration::ZERO);
            let mut elapsed = Duration::ZERO;
            let mut least = 0.0;
            for (bytes, read_ms, foreground_ms) in pages {
                elapsed += Duration::from_millis(read_ms);
                let foreground = Duration::from_millis(foreground_ms);
                let wait = pace.after_page(elapsed, bytes, bytes_per_second, foreground);
                prop_assert!(wait <= Duration::from_secs(60), "{wait:?}");
                elapsed += wait;
                least += (bytes as f64 / bytes_per_second as f64).min(60.0);
                prop_assert!(elapsed.as_secs_f64() >= least - 1e-6);
            }
        }

        #[test]
        fn slower_requests_of_others_never_make_a_worker_faster(
            bytes in 0u64..10_000_000, bytes_per_second in 0u64..10_000_000, a in 0u64..1_000, b in 0u64..1_000,
        ) {
            let wait = |foreground| {
                Pace::new(Duration::ZERO).after_page(Duration::ZERO, bytes, bytes_per_second, foreground)
            };
            let (less, more) = (Duration::from_millis(a.min(b)), Duration::from_millis(a.max(b)));
            prop_assert!(wait(Duration::ZERO) <= wait(less));
            prop_assert!(wait(less) <= wait(more));
            prop_assert!(wait(Duration::MAX) <= wait(Duration::ZERO).saturating_mul(17) + Duration::from_millis(1));
        }
    }
}
