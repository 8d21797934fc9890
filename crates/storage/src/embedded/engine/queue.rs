//! Requests on their way to the log, bounded in bytes.
//!
//! A request enters only with a [`Permit`] for its bytes, and the permit is given back when the request is
//! answered. So memory before the log is bounded whatever the callers do: async callers wait in `reserve`,
//! others are told that the engine is busy.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::EngineError;
use super::{CasOutcome, Row};

/// Called once, after the write is durable and visible, or after it was refused.
pub(super) type Done<T> = Box<dyn FnOnce(Result<T, EngineError>) + Send>;

/// What a row costs beside its key and value.
const ROW_COST: usize = 64;

/// Room in the write queue, given back when it is dropped.
#[derive(Debug)]
pub struct Permit {
    _room: OwnedSemaphorePermit,
}

pub(super) enum Request {
    Write {
        rows: Vec<Row>,
        done: Done<()>,
        permit: Permit,
    },
    Compare {
        /// What is put if the key has the expected value.
        row: Row,
        expected: Option<Bytes>,
        done: Done<CasOutcome>,
        permit: Permit,
    },
}

impl Request {
    fn cost(&self) -> (usize, usize) {
        match self {
            Self::Write { rows, .. } => (rows.len(), rows_cost(rows)),
            Self::Compare { row, .. } => (1, row.bytes() + ROW_COST),
        }
    }
}

/// What rows count for in the queue.
pub(super) fn rows_cost(rows: &[Row]) -> usize {
    rows.iter().map(|row| row.bytes() + ROW_COST).sum()
}

/// What the log thread got.
pub(super) enum Taken {
    Requests(Vec<Request>),
    Idle,
    Closed,
}

#[derive(Default)]
struct Waiting {
    requests: VecDeque<Request>,
    closed: bool,
}

pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    ready: Condvar,
    room: Arc<Semaphore>,
    bytes_max: usize,
}

impl Queue {
    pub(super) fn new(bytes_max: usize) -> Self {
        let bytes_max = bytes_max.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self {
            waiting: Mutex::default(),
            ready: Condvar::new(),
            room: Arc::new(Semaphore::new(bytes_max)),
            bytes_max,
        }
    }

    /// A request larger than the queue takes all of it, so it is served, alone.
    fn share(&self, cost: usize) -> u32 {
        u32::try_from(cost.clamp(1, self.bytes_max)).unwrap_or(u32::MAX)
    }

    pub(super) async fn reserve(&self, cost: usize) -> Result<Permit, EngineError> {
        let room = Arc::clone(&self.room).acquire_many_owned(self.share(cost)).await;
        room.map(|room| Permit { _room: room })
            .map_err(|_| EngineError::Closed)
    }

    pub(super) fn try_reserve(&self, cost: usize) -> Result<Permit, EngineError> {
        match Arc::clone(&self.room).try_acquire_many_owned(self.share(cost)) {
            Ok(room) => Ok(Permit { _room: room }),
            Err(tokio::sync::TryAcquireError::NoPermits) => Err(EngineError::Busy),
            Err(tokio::sync::TryAcquireError::Closed) => Err(EngineError::Closed),
        }
    }

    /// Hands a request to the log thread, or gives it back when the engine is closed.
    pub(super) fn push(&self, request: Request) -> Result<(), Box<Request>> {
        let mut waiting = self.waiting();
        if waiting.closed {
            return Err(Box::new(request));
        }
        waiting.requests.push_back(request);
        drop(waiting);
        self.ready.notify_one();
        Ok(())
    }

    /// Takes what is waiting, up to a number of rows and bytes, at least one request. With `idle_after` it
    /// gives up when nothing comes for so long. After `close` it goes on until the queue is empty.
    pub(super) fn take(&self, rows_max: usize, bytes_max: usize, idle_after: Option<Duration>) -> Taken {
        let mut waiting = self.waiting();
        while waiting.requests.is_empty() {
            if waiting.closed {
                return Taken::Closed;
            }
            match idle_after {
                None => waiting = self.ready.wait(waiting).unwrap_or_else(PoisonError::into_inner),
                Some(limit) => {
                    let (guard, timeout) = self
                        .ready
                        .wait_timeout(waiting, limit)
                        .unwrap_or_else(PoisonError::into_inner);
                    waiting = guard;
                    if timeout.timed_out() && waiting.requests.is_empty() && !waiting.closed {
                        return Taken::Idle;
                    }
                }
            }
        }
        let (mut rows, mut bytes) = (0, 0);
        let mut taken = Vec::new();
        while let Some(next) = waiting.requests.front() {
            let cost = next.cost();
            if !taken.is_empty() && (rows + cost.0 > rows_max || bytes + cost.1 > bytes_max) {
                break;
            }
            rows += cost.0;
            bytes += cost.1;
            taken.extend(waiting.requests.pop_front());
        }
        Taken::Requests(taken)
    }

    /// No request enters from now on.
    pub(super) fn close(&self) {
        self.waiting().closed = true;
        self.room.close();
        self.ready.notify_all();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
