//! Sends at the times that were decided before, from a thread of its own.
//!
//! A timer of an async runtime rounds to a millisecond and waits for a worker to be free: a generator paced by one
//! reports its own lateness as the server's. The pacer keeps absolute deadlines, hands over the time that was
//! *meant*, and reports how late it was itself.

use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::clock::now;
use crate::latency::Latencies;

/// Calls `send` with the number and the intended time of each arrival, at `per_second` for `seconds`, or until it says
/// that it is enough. `send` must not wait. The handle returns how late each call was.
pub(crate) fn start(
    per_second: f64,
    seconds: f64,
    mut send: impl FnMut(u64, Instant) -> ControlFlow<()> + Send + 'static,
) -> Result<JoinHandle<Result<Latencies>>> {
    thread::Builder::new()
        .name("pacer".to_owned())
        .spawn(move || {
            // Else the kernel may wake the thread 50 µs late. Without the right, lateness will show it.
            let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
            let mut lateness = Latencies::new()?;
            let first = now() + Duration::from_millis(5);
            for n in 0.. {
                let after = n as f64 / per_second;
                if after >= seconds {
                    break;
                }
                let intended = first + Duration::from_secs_f64(after);
                let early = intended.saturating_duration_since(now());
                if !early.is_zero() {
                    thread::sleep(early);
                }
                let late = now().saturating_duration_since(intended);
                if send(n, intended).is_break() {
                    break;
                }
                lateness.record(late);
            }
            Ok(lateness)
        })
        .context("no thread for the pacer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_evenly_spaced_from_the_first_and_none_is_left_out() {
        let (send, sent) = std::sync::mpsc::sync_channel(1_000);
        let pacer = start(1_000.0, 0.05, move |n, intended| {
            send.send((n, intended)).unwrap();
            ControlFlow::Continue(())
        })
        .unwrap();
        let lateness = pacer.join().unwrap().unwrap().summary();
        let sent: Vec<(u64, Instant)> = sent.iter().collect();
        assert_eq!((sent.len(), lateness.n), (50, 50));
        assert_eq!(sent[49].1 - sent[0].1, Duration::from_millis(49));
    }
}
