//! What a write is asked and what it answers, in the model's terms.

use anabranch_model::names::EVENT_BYTES_MAX;
use anabranch_model::{EventRecord, NamespaceName};
use anabranch_runtime::Deadline;

use crate::context::ResponseContext;
use crate::errors::{Reason, ServiceError};

/// Most events in a request.
pub const REQUEST_EVENTS_MAX: usize = 10_000;
/// Most bytes of content in a request.
pub const REQUEST_BYTES_MAX: usize = 16 << 20;

/// `WriteEventRecordsSync` and `WriteEventRecords`.
#[derive(Clone, Debug)]
pub struct WriteRequest {
    /// The namespace.
    pub namespace: NamespaceName,
    /// The events, in any order, of any number of ids. Items ascend by key within an event.
    pub events: Vec<EventRecord>,
    /// By when an answer is wanted; no limit when `None`.
    pub deadline: Option<Deadline>,
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteOutcome {
    /// Events that are durable now: all of the request.
    pub written: u64,
    /// How it came about.
    pub context: ResponseContext,
}

/// What became of a queued write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedOutcome {
    /// Events that were queued: all of the request.
    pub queued: u64,
    /// How it came about.
    pub context: ResponseContext,
}

/// Bytes of an event's content, its time series id included.
pub(super) fn event_bytes(event: &EventRecord) -> usize {
    event.time_series_id.as_bytes().len() + event.event.content_bytes()
}

/// Checks count and sizes; returns the bytes of all events.
pub(super) fn check_size(events: &[EventRecord]) -> Result<usize, ServiceError> {
    if events.is_empty() {
        return Err(ServiceError::of_field(
            Reason::InvalidEvent,
            "events",
            "is empty; send at least one event",
        ));
    }
    if events.len() > REQUEST_EVENTS_MAX {
        let problem = format!(
            "has {} events, at most {REQUEST_EVENTS_MAX} are allowed",
            events.len()
        );
        return Err(ServiceError::of_field(Reason::TooManyEvents, "events", problem));
    }
    let mut total = 0;
    for (index, event) in events.iter().enumerate() {
        let bytes = event_bytes(event);
        if event.event.content_bytes() > EVENT_BYTES_MAX {
            let problem = format!("has {bytes} bytes, at most {EVENT_BYTES_MAX} are allowed");
            return Err(ServiceError::of_field(
                Reason::FieldTooLarge,
                format!("events[{index}]"),
                problem,
            ));
        }
        total += bytes;
    }
    if total > REQUEST_BYTES_MAX {
        let problem = format!("have {total} bytes together, at most {REQUEST_BYTES_MAX} are allowed");
        return Err(ServiceError::of_field(Reason::FieldTooLarge, "events", problem));
    }
    Ok(total)
}
