//! Time of a process: the world's, seen through a clock that is wrong by up to an hour, and not seen at all while the
//! process is paused.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use anabranch_runtime::Clock;
use async_trait::async_trait;
use tokio::time::Instant;

/// A process's clock over the runtime's paused time, which jumps to the next timer when nothing else is to do.
#[derive(Debug)]
pub(crate) struct SimClock {
    /// When the world began, and what everybody's clock should have shown then.
    world: (Instant, i64),
    /// When the process began.
    started: Instant,
    skew_micros: AtomicI64,
    /// Until when it does nothing, in milliseconds of the world.
    paused_until: AtomicU64,
}

impl SimClock {
    pub(crate) fn new(world: (Instant, i64), skew_micros: i64) -> Self {
        Self {
            world,
            started: now(),
            skew_micros: AtomicI64::new(skew_micros),
            paused_until: AtomicU64::new(0),
        }
    }

    /// Somebody sets the clock.
    pub(crate) fn jump_to(&self, skew_micros: i64) {
        self.skew_micros.store(skew_micros, Ordering::Relaxed);
    }

    /// Nothing comes back to the process before so long from now.
    pub(crate) fn pause(&self, length: Duration) {
        let until = self.world.0.elapsed().saturating_add(length);
        let until = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        self.paused_until.fetch_max(until, Ordering::Relaxed);
    }

    pub(crate) fn is_paused(&self) -> bool {
        !self.pause_left().is_zero()
    }

    /// Returns when the process is not paused.
    pub(crate) async fn wake(&self) {
        while self.is_paused() {
            sleep(self.pause_left()).await;
        }
    }

    fn pause_left(&self) -> Duration {
        let until = Duration::from_millis(self.paused_until.load(Ordering::Relaxed));
        until.saturating_sub(self.world.0.elapsed())
    }
}

#[async_trait]
impl Clock for SimClock {
    fn unix_micros(&self) -> i64 {
        let elapsed = i64::try_from(self.world.0.elapsed().as_micros()).unwrap_or(i64::MAX);
        let skew = self.skew_micros.load(Ordering::Relaxed);
        self.world.1.saturating_add(elapsed).saturating_add(skew)
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        sleep(duration).await;
        self.wake().await;
    }
}

/// The runtime's time, which stands still while anything can run.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the simulation's source of time"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Returns when so much time of the world has passed.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the simulation's source of time"
)]
pub(crate) async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}
