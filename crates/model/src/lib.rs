//! The nouns of Anabranch and the arithmetic of time and partitions.
//!
//! ```text
//! namespace ─▶ time slice ─▶ time bucket ─▶ event bucket      where an event lives (`layout`)
//! time series id ─▶ event ─▶ item                             what it is           (`event`)
//! ```
//!
//! Everything here is a value: no I/O, no async, no clock, no randomness. Names and limits are checked
//! once, by the constructors in [`names`]; inner code trusts them.
//!
//! - R1: [`event::EventKey`]'s `Ord` is the one definition of event order, used by store, merge, cursor
//!   and checksum.
//! - W2: where an event lives is a pure function of its id, time and event id under settings that are
//!   frozen with the slice ([`layout::PartitionSettings`]), so that a repeated write meets itself.

pub mod consistency;
pub mod event;
pub mod layout;
pub mod names;
pub mod namespace;
pub mod query;
pub mod time;

pub use consistency::Consistency;
pub use event::{Direction, Event, EventItem, EventKey, EventRecord};
pub use layout::{PartitionKey, PartitionSettings, SliceState, TimeSlice, WideTable};
pub use names::{EventId, InvalidName, ItemKey, NamespaceName, SliceName, TimeSeriesId};
pub use namespace::{FieldType, NamespaceSettings};
pub use time::{EventTime, TimeInterval};
