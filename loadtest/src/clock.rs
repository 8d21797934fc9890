//! The machine's clock: a load test measures real time, so it is the one thing here that is not passed in.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Now, for measuring.
#[expect(
    clippy::disallowed_methods,
    reason = "a load test measures the machine's own time"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Seconds since the Unix epoch, for the report.
#[expect(clippy::disallowed_methods, reason = "a report says when it was made")]
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Sleeps without holding a thread. Only for waiting; a pacer uses a thread.
#[expect(
    clippy::disallowed_methods,
    reason = "waiting for a machine to become quiet, in a program that is not simulated"
)]
pub(crate) async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Microseconds of a duration, at most what a histogram takes.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
