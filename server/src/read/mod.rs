//! Reads: plan, fetch, merge, page.
//!
//! ```text
//! request ─▶ cursor ─▶ plan ─▶ fetch ─▶ partition streams ─▶ merge ─▶ match ─▶ page ─▶ token
//!                                                                  └─▶ aggregate ─▶ rows
//! ```
//!
//! - R1: pages neither skip nor repeat. A cursor is logical: the last event examined, nothing of the
//!   store's.
//! - A page is never silently short, and an empty token is the only end.
//!
//! What a namespace holds comes as a [`crate::namespaces::NamespaceView`]; nothing here changes it.

mod aggregate;
mod cursor;
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
pub mod token;
mod walk;

#[cfg(test)]
mod tests;

pub use limits::ReadLimits;
pub use reader::Reader;
pub use token::PageTokens;
