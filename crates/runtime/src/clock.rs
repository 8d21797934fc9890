//! Wall time, elapsed time and sleeping, behind one trait.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use tokio::sync::watch;

/// Where components take time from.
#[async_trait]
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Microseconds since the Unix epoch; may jump.
    fn unix_micros(&self) -> i64;
    /// Time since some fixed moment; never goes back.
    fn elapsed(&self) -> Duration;
    /// Returns after `duration`.
    async fn sleep(&self, duration: Duration);
}

/// The moment by which an answer is wanted, on a clock's elapsed time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Duration);

impl Deadline {
    /// `budget` from now.
    pub fn after(clock: &dyn Clock, budget: Duration) -> Self {
        Self(clock.elapsed().saturating_add(budget))
    }

    /// What is left; zero once it has passed.
    pub fn left(&self, clock: &dyn Clock) -> Duration {
        self.0.saturating_sub(clock.elapsed())
    }

    /// True once it has passed.
    pub fn passed(&self, clock: &dyn Clock) -> bool {
        clock.elapsed() >= self.0
    }

    /// Runs a future, but not past the deadline: `None` when that came first.
    pub async fn bound<F: Future>(&self, clock: &dyn Clock, future: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = clock.sleep(self.left(clock)) => None,
        }
    }
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose elapsed time starts now.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the machine's clock"
    )]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
        })
    }
}

#[async_trait]
impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the machine's clock"
    )]
    fn unix_micros(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
        }
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that sleeps on the machine's clock"
    )]
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// A clock that stands still until it is moved: for tests.
#[derive(Debug)]
pub struct ManualClock {
    now: Mutex<(i64, Duration)>,
    moved: watch::Sender<()>,
}

impl ManualClock {
    /// A clock that shows `unix_micros` and zero elapsed.
    pub fn at(unix_micros: i64) -> Arc<Self> {
        Arc::new(Self {
            now: Mutex::new((unix_micros, Duration::ZERO)),
            moved: watch::Sender::new(()),
        })
    }

    /// Moves both times forward and wakes the sleepers that are due.
    pub fn advance(&self, by: Duration) {
        {
            let mut now = self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            now.0 = now
                .0
                .saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX));
            now.1 = now.1.saturating_add(by);
        }
        self.moved.send_replace(());
    }

    fn read(&self) -> (i64, Duration) {
        *self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn unix_micros(&self) -> i64 {
        self.read().0
    }

    fn elapsed(&self) -> Duration {
        self.read().1
    }

    async fn sleep(&self, duration: Duration) {
        let until = self.elapsed().saturating_add(duration);
        let mut moved = self.moved.subscribe();
        while self.elapsed() < until {
            // The sender lives in `self`, so this ends only by a move.
            let _ = moved.changed().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn manual_clock_wakes_its_sleepers_when_due() {
        let clock = ManualClock::at(5);
        let sleeper = {
            let clock = clock.clone();
            async move { clock.sleep(Duration::from_secs(2)).await }
        };
        tokio::pin!(sleeper);
        assert!(futures::poll!(&mut sleeper).is_pending());
        clock.advance(Duration::from_secs(1));
        assert!(futures::poll!(&mut sleeper).is_pending());
        clock.advance(Duration::from_secs(1));
        assert!(futures::poll!(&mut sleeper).is_ready());
        assert_eq!(clock.unix_micros(), 2_000_005);
    }

    #[tokio::test]
    async fn deadline_gives_up_when_time_has_passed() {
        let clock = ManualClock::at(0);
        let deadline = Deadline::after(&*clock, Duration::from_secs(1));
        assert_eq!(deadline.bound(&*clock, async { 7 }).await, Some(7));
        clock.advance(Duration::from_secs(1));
        assert!(deadline.passed(&*clock));
        assert_eq!(deadline.bound(&*clock, std::future::pending::<()>()).await, None);
    }
}
