//! Writes: admit, place, commit. What is admitted is placed first: limits and seals are those of its slice.
//!
//! ```text
//! sync    request ─▶ admit, place ─▶ commit ─▶ EventStore             acked after it is durable
//! stream  batches ─▶ the same, several in flight ─▶ acks in order
//! queued  request ─▶ admit, place ─▶ queue ─coalesce─▶ admit, place ─▶ commit    admitted again when executed
//!                         time without a slice? ─▶ slice keeper ─▶ once more from the top
//! ```
//!
//! - W1: an answer leaves after the store says that the events are durable.
//! - W2: where an event goes follows from its own fields, so a repeated write meets itself; so do equal
//!   keys inside one request, whose items are merged (the later value stays).
//! - W3: limits and seals are checked with settings and time read under a ticket of [`InFlight`], right
//!   before the store is asked; whoever makes something immutable waits for the tickets given before.
//! - All or nothing at the door: if one event of a request is refused, none is written.

mod commit;
mod in_flight;
mod ingest;
mod metrics;
mod place;
mod queue;
mod refusal;
mod request;
mod writer;

pub use in_flight::{InFlight, Ticket};
pub use ingest::{IngestAck, IngestBatch, ingest};
pub use metrics::WriteMetrics;
pub use queue::{QueueSettings, WriteQueue};
pub use request::{QueuedOutcome, REQUEST_BYTES_MAX, REQUEST_EVENTS_MAX, WriteOutcome, WriteRequest};
pub use writer::Writer;

#[cfg(test)]
mod tests;
