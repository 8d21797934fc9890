//! Reads: plan, fetch, merge, page.
//!
//! ```text
//! request ─▶ cursor ─▶ plan ─▶ divert ─▶ fetch ─▶ partition streams ─▶ merge ─▶ match ─▶ page ─▶ token
//!                                 └─ bytes of originals ─▶ detect            └─▶ aggregate ─▶ rows
//! ```
//!
//! - R1: pages neither skip nor repeat. A cursor is logical: the last event examined, nothing of the
//!   store's.
//! - R2: where a partition is read from never changes an answer (`diversion`, `segments`).
//! - A page is never silently short, and an empty token is the only end.
//!
//! What a namespace holds comes as a [`crate::namespaces::NamespaceView`]; nothing here changes it.

mod aggregate;
mod ahead;
mod cursor;
mod diversion;
mod fan_out;
mod fetch;
mod field;
pub mod limits;
mod matches;
mod merge;
mod metrics;
mod page;
mod partition_stream;
mod plan;
pub mod reader;
pub mod request;
mod search;
mod segments;
mod shadow;
pub mod token;
mod walk;

#[cfg(test)]
mod tests;

pub use limits::{AheadLimits, ReadLimits};
pub use reader::{Healing, Reader};
pub use token::PageTokens;
