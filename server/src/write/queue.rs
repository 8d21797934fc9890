//! Queued writes: gathered a moment, then written together.
//!
//! An event that is queued may be lost in a crash; an event that is dropped is counted, by reason. The
//! queue is bounded in bytes for each namespace, and bytes count until they are durable, so that a store
//! that falls behind fills the queue and the queue says so at the door.
//!
//! - W3: limits and seals are checked when an event is executed, not only when it is queued.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anabranch_model::{EventRecord, NamespaceName};
use anabranch_runtime::{Clock, Tasks};
use tokio::sync::{Notify, watch};
use tracing::warn;

use super::request::{QueuedOutcome, REQUEST_EVENTS_MAX, WriteRequest, check_size, event_bytes};
use super::writer::Writer;
use crate::context::ResponseContext;
use crate::errors::{Reason, ServiceError};

/// How the queue writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// Most bytes written at once.
    pub flush_bytes_max: usize,
    /// Times that events are tried before they are dropped.
    pub attempts_max: u32,
    /// Wait before the second attempt; doubled each time.
    pub retry_after: Duration,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            flush_bytes_max: 8 << 20,
            attempts_max: 6,
            retry_after: Duration::from_millis(100),
        }
    }
}

/// Handle on this server's queued writes. Clones share the queue.
#[derive(Clone, Debug)]
pub struct WriteQueue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    writer: Writer,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    settings: QueueSettings,
    state: Mutex<State>,
    wake: Notify,
    flushed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    buffers: BTreeMap<NamespaceName, Buffer>,
}

/// What waits in one namespace, and what is being written.
#[derive(Debug)]
struct Buffer {
    waiting: Vec<EventRecord>,
    waiting_bytes: usize,
    writing_bytes: usize,
    /// One flush at a time, so that of two equal keys the later one stays.
    flushing: bool,
    /// When the oldest of the waiting events has waited long enough.
    due: Duration,
}

impl WriteQueue {
    /// Starts the queue's task. It drains when the tasks are stopped.
    pub fn start(writer: Writer, clock: Arc<dyn Clock>, tasks: &Tasks, settings: QueueSettings) -> Self {
        let queue = Self(Arc::new(Inner {
            writer,
            clock,
            tasks: tasks.clone(),
            settings,
            state: Mutex::default(),
            wake: Notify::new(),
            flushed: watch::Sender::new(()),
        }));
        let (running, stopping) = (queue.clone(), tasks.stopping());
        tasks.spawn("write queue", async move {
            loop {
                tokio::select! {
                    biased;
                    () = stopping.cancelled() => break,
                    () = running.0.wake.notified() => {}
                    () = running.until_due() => {}
                }
                running.flush_due();
            }
            running.drain().await;
        });
        queue
    }

    /// Queues all events of a request, or none if one is refused or they do not fit.
    ///
    /// # Errors
    /// Those of [`Writer::write_sync`] that the request itself can cause, and `WRITE_QUEUE_FULL`.
    pub async fn enqueue(&self, request: WriteRequest) -> Result<QueuedOutcome, ServiceError> {
        let WriteRequest {
            namespace, events, ..
        } = request;
        let started = self.0.clock.elapsed();
        let bytes = check_size(&events)?;
        let queued = events.len() as u64;
        let view = self.0.writer.check(&namespace, &events).await?;
        let buffering = view.settings.queue_buffering;
        self.push(
            &namespace,
            events,
            bytes,
            buffering.buffer_capacity_bytes,
            buffering.coalesce,
        )?;
        let mut context = ResponseContext::new(namespace);
        context.time_taken = self.0.clock.elapsed().saturating_sub(started);
        Ok(QueuedOutcome { queued, context })
    }

    /// Bytes of queued events that are not durable yet.
    pub fn bytes(&self) -> u64 {
        let state = self.state();
        let bytes = state
            .buffers
            .values()
            .map(|buffer| buffer.waiting_bytes + buffer.writing_bytes);
        bytes.sum::<usize>() as u64
    }

    /// Takes nothing more, and returns when everything that waits has been written or dropped.
    pub async fn drain(&self) {
        self.state().closed = true;
        let mut flushed = self.0.flushed.subscribe();
        loop {
            self.flush_due();
            if self.state().buffers.is_empty() {
                return;
            }
            // The sender lives in `self`, so this ends only when a flush does.
            let _ = flushed.changed().await;
        }
    }

    fn push(
        &self,
        namespace: &NamespaceName,
        events: Vec<EventRecord>,
        bytes: usize,
        capacity: u64,
        coalesce: Duration,
    ) -> Result<(), ServiceError> {
        let due = self.0.clock.elapsed().saturating_add(coalesce);
        let mut state = self.state();
        if state.closed {
            let problem = "server is stopping and queues no more writes";
            return Err(ServiceError::new(Reason::ServerDraining, problem)
                .with("problem", problem)
                .retry_after(Duration::from_secs(1)));
        }
        let buffer = state.buffers.entry(namespace.clone()).or_insert_with(|| Buffer {
            waiting: Vec::new(),
            waiting_bytes: 0,
            writing_bytes: 0,
            flushing: false,
            due,
        });
        let held = buffer.waiting_bytes + buffer.writing_bytes;
        if (held + bytes) as u64 > capacity {
            let empty = held == 0;
            if empty {
                state.buffers.remove(namespace);
            }
            drop(state);
            self.0
                .writer
                .metrics()
                .dropped(namespace, "queue_full", events.len());
            return Err(full(namespace, bytes, held, capacity, coalesce));
        }
        if buffer.waiting.is_empty() {
            buffer.due = due;
        }
        buffer.waiting.extend(events);
        buffer.waiting_bytes += bytes;
        // Half full is company enough.
        if buffer.waiting_bytes as u64 >= capacity / 2 {
            buffer.due = Duration::ZERO;
        }
        self.0.writer.metrics().queue_bytes(namespace, held + bytes);
        drop(state);
        self.0.wake.notify_one();
        Ok(())
    }

    async fn until_due(&self) {
        let due = {
            let state = self.state();
            let waiting = state.buffers.values().filter(|buffer| !buffer.flushing);
            waiting.map(|buffer| buffer.due).min()
        };
        match due {
            Some(due) => {
                self.0
                    .clock
                    .sleep(due.saturating_sub(self.0.clock.elapsed()))
                    .await
            }
            None => std::future::pending().await,
        }
    }

    fn flush_due(&self) {
        let now = self.0.clock.elapsed();
        let mut taken = Vec::new();
        {
            let mut state = self.state();
            let all = state.closed;
            for (namespace, buffer) in &mut state.buffers {
                if !buffer.flushing && (all || buffer.due <= now) {
                    buffer.flushing = true;
                    buffer.writing_bytes = std::mem::take(&mut buffer.waiting_bytes);
                    taken.push((namespace.clone(), std::mem::take(&mut buffer.waiting)));
                }
            }
        }
        for (namespace, events) in taken {
            let queue = self.clone();
            self.0.tasks.spawn("flush", async move {
                Box::pin(queue.flush(&namespace, events)).await;
            });
        }
    }

    async fn flush(&self, namespace: &NamespaceName, events: Vec<EventRecord>) {
        for chunk in chunks(events, self.0.settings.flush_bytes_max) {
            let bytes: usize = chunk.iter().map(event_bytes).sum();
            self.write(namespace, chunk).await;
            let mut state = self.state();
            if let Some(buffer) = state.buffers.get_mut(namespace) {
                buffer.writing_bytes = buffer.writing_bytes.saturating_sub(bytes);
                let held = buffer.waiting_bytes + buffer.writing_bytes;
                self.0.writer.metrics().queue_bytes(namespace, held);
            }
        }
        {
            let mut state = self.state();
            if let Some(buffer) = state.buffers.get_mut(namespace) {
                buffer.flushing = false;
                buffer.writing_bytes = 0;
                if buffer.waiting.is_empty() {
                    state.buffers.remove(namespace);
                }
            }
        }
        self.0.flushed.send_replace(());
        self.0.wake.notify_one();
    }

    /// Writes events, again those that a passing trouble of the store kept out; at last they are dropped.
    async fn write(&self, namespace: &NamespaceName, mut events: Vec<EventRecord>) {
        let metrics = self.0.writer.metrics();
        let mut wait = self.0.settings.retry_after;
        for attempt in 1..=self.0.settings.attempts_max.max(1) {
            match self.0.writer.execute(namespace, events.clone()).await {
                Ok(executed) => {
                    let again = executed.again.iter();
                    events = again.filter_map(|index| events.get(*index).cloned()).collect();
                }
                Err(error) if error.reason == Reason::NamespaceNotFound => {
                    return metrics.dropped(namespace, "namespace_not_found", events.len());
                }
                Err(error) => warn!(%namespace, %error, attempt, "queued writes could not be written"),
            }
            if events.is_empty() {
                return;
            }
            if attempt < self.0.settings.attempts_max {
                self.0.clock.sleep(wait).await;
                wait = wait.saturating_mul(2);
            }
        }
        warn!(%namespace, events = events.len(), "queued writes dropped: the store did not take them");
        metrics.dropped(namespace, "store", events.len());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Cuts events into pieces that one request could hold.
fn chunks(events: Vec<EventRecord>, bytes_max: usize) -> Vec<Vec<EventRecord>> {
    let mut chunks = Vec::new();
    let (mut chunk, mut chunk_bytes) = (Vec::new(), 0);
    for event in events {
        let bytes = event_bytes(&event);
        if !chunk.is_empty() && (chunk.len() >= REQUEST_EVENTS_MAX || chunk_bytes + bytes > bytes_max) {
            chunks.push(std::mem::take(&mut chunk));
            chunk_bytes = 0;
        }
        chunk_bytes += bytes;
        chunk.push(event);
    }
    if !chunk.is_empty() {
        chunks.push(chunk);
    }
    chunks
}

fn full(
    namespace: &NamespaceName,
    bytes: usize,
    held: usize,
    capacity: u64,
    coalesce: Duration,
) -> ServiceError {
    if bytes as u64 > capacity {
        let problem = format!(
            "has {bytes} bytes, the queue of namespace `{namespace}` takes {capacity}: send less at once"
        );
        return ServiceError::of_field(Reason::FieldTooLarge, "events", problem);
    }
    let message = format!(
        "queue of namespace `{namespace}` holds {held} of {capacity} bytes and has no room for {bytes} more"
    );
    ServiceError::new(Reason::WriteQueueFull, message)
        .with("namespace", namespace)
        .with("capacityBytes", capacity)
        .with("queuedBytes", held)
        .with("requestBytes", bytes)
        .retry_after(coalesce.max(Duration::from_millis(50)))
}
