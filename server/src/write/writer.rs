//! The writer: one request from the door to the store.

use std::sync::Arc;
use std::time::Duration;

use anabranch_model::{EventRecord, EventTime, NamespaceName, TimeSlice};
use anabranch_runtime::{Clock, Deadline, Tasks};
use anabranch_storage::{ErrorKind, EventStore};

use super::commit::{FailedPart, failure};
use super::in_flight::{InFlight, Ticket};
use super::metrics::WriteMetrics;
use super::place::{Parts, Placement, group, place};
use super::refusal::{Refusal, refused};
use super::request::{WriteOutcome, WriteRequest, check_size};
use crate::context::ResponseContext;
use crate::errors::{Reason, ServiceError};
use crate::namespaces::{NamespaceView, Namespaces};
use crate::slices::SliceKeeper;

/// Rounds of asking for slices: a settings change or retention may take one away in between.
const ROUNDS_MAX: usize = 4;

/// Handle on the way in. Clones share everything.
#[derive(Clone, Debug)]
pub struct Writer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    events: Arc<dyn EventStore>,
    namespaces: Namespaces,
    keeper: SliceKeeper,
    in_flight: InFlight,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    metrics: WriteMetrics,
}

/// What is done with a request of which some events are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    /// Nothing of it is written.
    AllOrNothing,
    /// The others are written.
    EachForItself,
}

/// What became of events that were taken one by one.
#[derive(Debug, Default)]
pub(super) struct Executed {
    /// Indices of the events to be tried again, if any: those of parts that failed in a way that may pass.
    pub again: Vec<usize>,
}

/// A request as it stands at the store's door.
struct Admitted {
    ticket: Ticket,
    parts: Parts,
    events: usize,
}

impl Writer {
    /// A writer of its parts.
    pub fn new(
        events: Arc<dyn EventStore>,
        namespaces: Namespaces,
        keeper: SliceKeeper,
        in_flight: InFlight,
        clock: Arc<dyn Clock>,
        tasks: Tasks,
        metrics: WriteMetrics,
    ) -> Self {
        Self(Arc::new(Inner {
            events,
            namespaces,
            keeper,
            in_flight,
            clock,
            tasks,
            metrics,
        }))
    }

    /// Writes all events of a request, or none if one is refused; returns when they are durable (W1).
    ///
    /// # Errors
    /// `INVALID_EVENT`, `NAMESPACE_NOT_FOUND`, `ID_BLOCKED`, `EVENT_TOO_OLD`, `EVENT_TOO_FAR_AHEAD`,
    /// `TIME_SLICE_SEALED`, `TIME_SLICE_CLOSED`: nothing was written. `WRITE_PARTLY_FAILED` and those of
    /// the store: repeat the request. `DEADLINE_EXCEEDED`: it may have happened or not.
    pub async fn write_sync(&self, request: WriteRequest) -> Result<WriteOutcome, ServiceError> {
        let WriteRequest {
            namespace,
            events,
            deadline,
        } = request;
        let started = self.0.clock.elapsed();
        let bytes = check_size(&events)?;
        let written = events.len();
        let Some(outcome) = self
            .bound(deadline, Box::pin(self.write_whole(&namespace, events, bytes)))
            .await
        else {
            return Err(deadline_exceeded(self.0.clock.elapsed().saturating_sub(started)));
        };
        let partitions = outcome?;
        let mut context = ResponseContext::new(namespace);
        context.time_taken = self.0.clock.elapsed().saturating_sub(started);
        context.partitions_read = partitions as u64;
        context.bytes_read = bytes as u64;
        Ok(WriteOutcome {
            written: written as u64,
            context,
        })
    }

    /// Checks a request as [`Self::write_sync`] would now, without writing; returns the view it was
    /// checked with.
    pub(super) async fn check(
        &self,
        namespace: &NamespaceName,
        events: &[EventRecord],
    ) -> Result<Arc<NamespaceView>, ServiceError> {
        let view = self.0.namespaces.view_for_write(namespace).await?;
        let now = self.0.namespaces.now();
        let refusals: Vec<(usize, Refusal)> = events
            .iter()
            .enumerate()
            .filter_map(|(index, event)| match place(&view, event, now) {
                Placement::Refused(refusal) => Some((index, refusal)),
                Placement::Into(_) | Placement::NoSlice => None,
            })
            .collect();
        match self.refuse(namespace, events, &refusals) {
            Some(error) => Err(error),
            None => Ok(view),
        }
    }

    /// Writes events that were queued: each is checked now, and those that are refused are dropped and
    /// counted.
    pub(super) async fn execute(
        &self,
        namespace: &NamespaceName,
        events: Vec<EventRecord>,
    ) -> Result<Executed, ServiceError> {
        let bytes: usize = events.iter().map(super::request::event_bytes).sum();
        let Some(admitted) = self.admit(namespace, events, Door::EachForItself).await? else {
            return Ok(Executed::default());
        };
        let failed = self.commit(namespace, admitted, bytes).await?;
        let mut executed = Executed::default();
        for part in failed {
            let passes = matches!(
                part.error.kind(),
                ErrorKind::Overloaded | ErrorKind::Unavailable | ErrorKind::Unknown | ErrorKind::NotFound
            );
            if passes {
                executed.again.extend(part.indices);
            } else {
                self.0.metrics.dropped(namespace, "store", part.indices.len());
            }
        }
        Ok(executed)
    }

    /// The metrics that writes are counted in.
    pub fn metrics(&self) -> &WriteMetrics {
        &self.0.metrics
    }

    async fn write_whole(
        &self,
        namespace: &NamespaceName,
        events: Vec<EventRecord>,
        bytes: usize,
    ) -> Result<usize, ServiceError> {
        let Some(admitted) = self.admit(namespace, events, Door::AllOrNothing).await? else {
            return Ok(0);
        };
        let (parts, events) = (admitted.parts.appends.len(), admitted.events);
        let failed = self.commit(namespace, admitted, bytes).await?;
        if failed.is_empty() {
            return Ok(parts);
        }
        Err(failure(namespace, parts, events, failed))
    }

    /// Places and admits events under a ticket. `None` when none is left to write.
    async fn admit(
        &self,
        namespace: &NamespaceName,
        events: Vec<EventRecord>,
        door: Door,
    ) -> Result<Option<Admitted>, ServiceError> {
        let Inner {
            namespaces,
            keeper,
            in_flight,
            ..
        } = &*self.0;
        for _ in 0..ROUNDS_MAX {
            // W3: the ticket is taken before the settings and the time are read, and kept until the
            // store has answered.
            let ticket = in_flight.enter();
            let view = namespaces.view_for_write(namespace).await?;
            let now = namespaces.now();
            let placed = place_all(&view, &events, now);
            if door == Door::AllOrNothing
                && let Some(error) = self.refuse(namespace, &events, &placed.refusals)
            {
                return Err(error);
            }
            if !placed.without_slice.is_empty() {
                // The keeper waits for tickets. What was decided under this one is decided again.
                drop(ticket);
                keeper.ensure(namespace, placed.without_slice).await?;
                continue;
            }
            let slices = placed.slices;
            for (_, refusal) in &placed.refusals {
                self.0.metrics.dropped(namespace, refusal.label(), 1);
            }
            let taken: Vec<(usize, EventRecord, TimeSlice)> = events
                .into_iter()
                .enumerate()
                .zip(slices)
                .filter_map(|((index, event), slice)| Some((index, event, slice?)))
                .collect();
            if taken.is_empty() {
                return Ok(None);
            }
            let count = taken.len();
            return Ok(Some(Admitted {
                ticket,
                parts: group(namespace, view.settings.append_consistency(), taken),
                events: count,
            }));
        }
        let problem =
            format!("time slices of namespace `{namespace}` change faster than they can be written to");
        Err(ServiceError::new(Reason::ServerOverloaded, problem)
            .with("namespace", namespace)
            .retry_after(Duration::from_millis(200)))
    }

    /// Appends in a task of its own, so that the ticket is held until the store has answered even if the
    /// caller gives up.
    async fn commit(
        &self,
        namespace: &NamespaceName,
        admitted: Admitted,
        bytes: usize,
    ) -> Result<Vec<FailedPart>, ServiceError> {
        let Admitted {
            ticket,
            parts,
            events,
        } = admitted;
        let inner = self.0.clone();
        let namespace = namespace.clone();
        let append = self.0.tasks.spawn("append", async move {
            let _ticket = ticket;
            let Parts { appends, indices } = parts;
            let partitions: Vec<_> = appends.iter().map(|append| append.partition.clone()).collect();
            let started = inner.clock.elapsed();
            let outcome = inner.events.append(appends).await;
            inner
                .metrics
                .appended(inner.clock.elapsed().saturating_sub(started));
            let failed: Vec<FailedPart> = match outcome {
                Ok(()) => Vec::new(),
                Err(failure) => failure
                    .failed
                    .into_iter()
                    .filter_map(|(part, error)| {
                        Some(FailedPart {
                            partition: partitions.get(part)?.clone(),
                            indices: indices.get(part)?.clone(),
                            error,
                        })
                    })
                    .collect(),
            };
            let lost: usize = failed.iter().map(|part| part.indices.len()).sum();
            let durable_bytes = if failed.is_empty() { bytes as u64 } else { 0 };
            inner
                .metrics
                .written(&namespace, events.saturating_sub(lost), durable_bytes);
            for part in &failed {
                inner.metrics.failed(&namespace, part.label(), part.indices.len());
            }
            failed
        });
        append.await.map_err(|error| {
            let problem = format!("append did not end: {error}");
            ServiceError::new(Reason::StoreOutcomeUnknown, problem.clone()).with("problem", problem)
        })
    }

    fn refuse(
        &self,
        namespace: &NamespaceName,
        events: &[EventRecord],
        refusals: &[(usize, Refusal)],
    ) -> Option<ServiceError> {
        for (_, refusal) in refusals {
            self.0.metrics.refused(namespace, refusal.label(), 1);
        }
        refused(namespace, events, refusals)
    }

    async fn bound<T>(&self, deadline: Option<Deadline>, work: impl Future<Output = T>) -> Option<T> {
        match deadline {
            Some(deadline) if deadline.passed(&*self.0.clock) => None,
            Some(deadline) => deadline.bound(&*self.0.clock, work).await,
            None => Some(work.await),
        }
    }
}

#[derive(Default)]
struct Placed {
    /// The slice of each event; `None` where it has none, or is refused.
    slices: Vec<Option<TimeSlice>>,
    without_slice: Vec<EventTime>,
    refusals: Vec<(usize, Refusal)>,
}

fn place_all(view: &NamespaceView, events: &[EventRecord], now: EventTime) -> Placed {
    let mut placed = Placed::default();
    for (index, event) in events.iter().enumerate() {
        let slice = match place(view, event, now) {
            Placement::Into(slice) => Some(slice.clone()),
            Placement::NoSlice => {
                placed.without_slice.push(event.event.key.time);
                None
            }
            Placement::Refused(refusal) => {
                placed.refusals.push((index, refusal));
                None
            }
        };
        placed.slices.push(slice);
    }
    placed
}

fn deadline_exceeded(after: Duration) -> ServiceError {
    let timeout = format!("{}s", after.as_secs_f64());
    let message = format!("not finished within {timeout}; the write may have happened or not");
    ServiceError::new(Reason::DeadlineExceeded, message).with("timeout", timeout)
}
