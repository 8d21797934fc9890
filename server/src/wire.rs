//! Between the messages of the wire and the model: every field is checked here, once.
//!
//! ```text
//! request ─▶ wire ─▶ model terms ─▶ core ─▶ model terms ─▶ wire ─▶ answer
//! ```
//!
//! - What does not hold is named by its path in the request (`events[3].event_items[0].event_item_key`), with
//!   what would fit.
//! - Times are kept to the microsecond; finer digits are dropped, in events and in bounds alike.

pub mod aggregate;
pub mod context;
pub mod events;
pub mod fields;
pub mod namespace;
pub mod query;
pub mod read;
pub mod slice;
pub mod split;
