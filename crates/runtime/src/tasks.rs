//! Tasks with a name, an owner and a way to stop.
//!
//! A component is handed a [`Tasks`]; whatever it spawns is told to stop by the one token and waited
//! for by the one tracker. What does not end within the grace period is named in a warning.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, warn};

use crate::clock::Clock;

/// Owner of a process's background tasks. Clones share the owner.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    stop: CancellationToken,
    tracker: TaskTracker,
    running: Arc<Mutex<Book>>,
}

/// Who runs.
#[derive(Debug, Default)]
struct Book {
    counts: BTreeMap<&'static str, usize>,
    /// By number; `None` for the moment before a task's handle is known.
    handles: BTreeMap<u64, Option<AbortHandle>>,
    started: u64,
    panicked: Vec<&'static str>,
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
        let number = running.number;
        let named = async move {
            let _running = running;
            task.await
        };
        let task = tokio::spawn(
            self.tracker
                .track_future(named.instrument(tracing::info_span!("task", name))),
        );
        // One that has ended already has left the book.
        if let Some(handle) = book(&self.running).handles.get_mut(&number) {
            *handle = Some(task.abort_handle());
        }
        task
    }

    /// Drops every task where it waits, as the end of the process would: for simulations of a crash.
    pub fn kill(&self) {
        let handles = std::mem::take(&mut book(&self.running).handles);
        for handle in handles.into_values().flatten() {
            handle.abort();
        }
    }

    /// The tasks that have panicked so far.
    pub fn panicked(&self) -> Vec<&'static str> {
        book(&self.running).panicked.clone()
    }

    /// Asks every task to stop and waits for them, but not longer than `grace`. True if all ended.
    pub async fn stop(&self, clock: &dyn Clock, grace: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        tokio::select! {
            biased;
            () = self.tracker.wait() => true,
            () = clock.sleep(grace) => {
                let running = book(&self.running).counts.clone();
                warn!(?running, grace_seconds = grace.as_secs_f64(), "tasks did not stop within the grace period");
                false
            }
        }
    }
}

/// Counts a task under its name for as long as it runs, also when it panics.
struct Running {
    name: &'static str,
    number: u64,
    all: Arc<Mutex<Book>>,
}

impl Running {
    fn start(name: &'static str, all: Arc<Mutex<Book>>) -> Self {
        let number = {
            let mut book = book(&all);
            *book.counts.entry(name).or_default() += 1;
            book.started += 1;
            let number = book.started;
            book.handles.insert(number, None);
            number
        };
        Self { name, number, all }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut book = book(&self.all);
        book.handles.remove(&self.number);
        if std::thread::panicking() {
            book.panicked.push(self.name);
        }
        if let Some(count) = book.counts.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                book.counts.remove(self.name);
            }
        }
    }
}

fn book(running: &Mutex<Book>) -> MutexGuard<'_, Book> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[tokio::test]
    async fn killed_tasks_end_where_they_wait_and_panics_are_remembered() {
        let tasks = Tasks::new();
        let deaf = tasks.spawn("deaf", std::future::pending::<()>());
        let bad = tasks.spawn("bad", async { panic!("on purpose") });
        assert!(bad.await.is_err_and(|error| error.is_panic()));
        tasks.kill();
        assert!(deaf.await.is_err_and(|error| error.is_cancelled()));
        assert_eq!(tasks.panicked(), ["bad"]);
        assert!(tasks.stop(&*SystemClock::new(), Duration::ZERO).await);
    }
}
