//! Tasks with a name, an owner and a way to stop.
//!
//! A component is handed a [`Tasks`]; whatever it spawns is told to stop by the one token and waited
//! for by the one tracker. What does not end within the grace period is named in a warning.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, warn};

use crate::clock::Clock;

/// Owner of a process's background tasks. Clones share the owner.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    stop: CancellationToken,
    tracker: TaskTracker,
    running: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

impl Tasks {
    /// An owner with no tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Told when the process is to stop. A task's `select!` looks at it first.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a task under a name. A task that serves until stopped watches [`Self::stopping`]; a short
    /// one is simply waited for.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
    pub fn spawn<F>(&self, name: &'static str, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let running = Running::start(name, self.running.clone());
        let named = async move {
            let _running = running;
            task.await
        };
        tokio::spawn(
            self.tracker
                .track_future(named.instrument(tracing::info_span!("task", name))),
        )
    }

    /// Asks every task to stop and waits for them, but not longer than `grace`. True if all ended.
    pub async fn stop(&self, clock: &dyn Clock, grace: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        tokio::select! {
            () = self.tracker.wait() => true,
            () = clock.sleep(grace) => {
                let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).clone();
                warn!(?running, grace_seconds = grace.as_secs_f64(), "tasks did not stop within the grace period");
                false
            }
        }
    }
}

/// Counts a task under its name for as long as it runs, also when it panics.
struct Running {
    name: &'static str,
    counts: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

impl Running {
    fn start(name: &'static str, counts: Arc<Mutex<BTreeMap<&'static str, usize>>>) -> Self {
        *counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(name)
            .or_default() += 1;
        Self { name, counts }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                counts.remove(self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[tokio::test]
    async fn stop_waits_for_tasks_that_listen() {
        let tasks = Tasks::new();
        let stopping = tasks.stopping();
        let task = tasks.spawn("listener", async move { stopping.cancelled().await });
        assert!(tasks.stop(&*SystemClock::new(), Duration::from_secs(5)).await);
        assert!(task.is_finished());
    }

    #[tokio::test]
    async fn stop_gives_up_on_a_deaf_task_after_the_grace_period() {
        let tasks = Tasks::new();
        tasks.spawn("deaf", std::future::pending::<()>());
        assert!(!tasks.stop(&*SystemClock::new(), Duration::from_millis(10)).await);
    }
}
