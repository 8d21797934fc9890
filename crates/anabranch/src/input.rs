//! Events from files: bytes to lines, lines to events, and how far an input has been written.
//!
//! ```text
//! file ─▶ plain │ gzip │ zstd ─▶ lines ─▶ decode ─▶ batches ─▶ write
//! ```
//!
//! Memory is bounded everywhere: by the longest line, by the events of a batch, by the batches that wait.

pub(crate) mod batches;
pub(crate) mod decode;
pub(crate) mod lines;
pub(crate) mod open;
pub(crate) mod resume;
