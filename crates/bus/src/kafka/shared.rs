//! What the receiver and the consumer's thread have in common: the window, and who waits for whom.
//!
//! ```text
//! receiver  receive ─▶ deliver … ack … receive: has let go        recalled ◀─┐
//! consumer  poll ─▶ take in ─▶ rings                    rebalance ─▶ recall ─waits─▶ has let go ─▶ revoke
//! ```

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tracing::warn;

use super::dead::DeadLetter;
use super::error::KafkaError;
use super::metrics::KafkaMetrics;
use super::window::Window;
use crate::Delivery;

/// What both sides see.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Rung when the receiver lets go.
    let_go: Condvar,
    /// Rung when there is something to receive: for whoever waits for it between two calls.
    arrived: Notify,
    /// The same, for a call that waits a moment.
    came: Notify,
    /// True while something that was handed out is taken back.
    recalled: watch::Sender<bool>,
    /// True once the consumer's thread has ended.
    ended: watch::Sender<bool>,
    pub(super) metrics: KafkaMetrics,
}

/// What one of the two changes at a time.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) window: Window,
    /// What is to be sent to the dead-letter topic.
    pub(super) dead: VecDeque<DeadLetter>,
    /// What went wrong last, until the receiver was told.
    pub(super) trouble: Option<KafkaError>,
    pub(super) stopping: bool,
    pub(super) started: bool,
}

impl Shared {
    pub(super) fn new(metrics: KafkaMetrics) -> Self {
        let arrived = Notify::new();
        // Something may wait from before.
        arrived.notify_one();
        Self {
            state: Mutex::default(),
            let_go: Condvar::new(),
            arrived,
            came: Notify::new(),
            recalled: watch::Sender::new(false),
            ended: watch::Sender::new(false),
            metrics,
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of what was delivered before, and hands out more.
    pub(super) fn deliver(&self, detections_max: usize) -> Result<Vec<Delivery>, KafkaError> {
        let mut state = self.state();
        state.window.let_go();
        self.recalled.send_replace(false);
        self.let_go.notify_all();
        let deliveries = state.window.deliver(detections_max);
        match state.trouble.take_if(|_| deliveries.is_empty()) {
            Some(trouble) => Err(trouble),
            None => Ok(deliveries),
        }
    }

    pub(super) fn ring(&self) {
        self.arrived.notify_one();
        self.came.notify_one();
    }

    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Returns when something has come since this was last awaited.
    pub(super) async fn came(&self) {
        self.came.notified().await;
    }

    pub(super) async fn recalled(&self) {
        // It ends only by the value: the sender is `self`.
        let _ = self.recalled.subscribe().wait_for(|recalled| *recalled).await;
    }

    /// Has the receiver let go of what it holds of partitions of the topic. Blocks until it has, but not for longer than told:
    /// records are written by compare-and-set, so a receiver that is late does no harm.
    pub(super) fn recall(&self, topic_partitions: &[i32], within: Duration) {
        let mut state = self.state();
        state.window.recall(topic_partitions);
        if !state.window.is_recalled_in_hand() || state.stopping {
            return;
        }
        self.recalled.send_replace(true);
        // Whoever waits between two calls asks again, and so lets go.
        self.arrived.notify_one();
        let waited = self.let_go.wait_timeout_while(state, within, |state| {
            state.window.is_recalled_in_hand() && !state.stopping
        });
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        drop(state);
        if timeout.timed_out() {
            warn!(
                waited_seconds = within.as_secs_f64(),
                "the planner did not let go of its detections; the rebalance goes on without it"
            );
        }
    }

    /// Forgets what was read of partitions of the topic.
    pub(super) fn revoke(&self, topic_partitions: &[i32]) {
        let mut state = self.state();
        state.window.revoke(topic_partitions);
        self.metrics.assigned(state.window.assigned());
        self.metrics.open(state.window.open());
    }

    /// Tells the consumer's thread to end.
    pub(super) fn stop(&self) {
        self.state().stopping = true;
        self.let_go.notify_all();
    }

    pub(super) fn thread_ended(&self) {
        self.ended.send_replace(true);
    }

    /// Returns when the consumer's thread has ended, or was never started.
    pub(super) async fn ended(&self) {
        if self.state().started {
            let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
        }
    }
}
