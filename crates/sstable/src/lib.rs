//! Reads Cassandra's SSTables front to back, without Cassandra.
//!
//! ```text
//! folder ─▶ Table ──────────▶ Reader ───────▶ PartitionHeader, then Unfiltered, Unfiltered, …
//!           Statistics.db     Data.db         rows and range tombstone markers, in file order
//!           CompressionInfo   chunk by chunk
//! ```
//!
//! Formats `nb` (Cassandra 4), `oa` and `da` (5.0, BIG and BTI): they differ in their index files, which a
//! sequential read does not need, and in a few fields of the rest ([`version`]). The schema is the one the
//! file was written with, from its own `Statistics.db`.
//!
//! - E2: damage is named, never exported. Every chunk's checksum is checked before its bytes are used; every
//!   length must come out exactly; the counts in `Statistics.db` must agree at the end. What does not agree is
//!   a [`SstableError`] with the file and the offset: never a panic, and never a shorter answer.
//! - Memory is one chunk and one row, however wide the partition and however large the file.
//!
//! A file is read as it is: tombstones of every level and what has expired come out as they stand. What a
//! client sees of several files is [`merge`]'s job, with what [`schema_cql`] says of their table.

pub mod components;
pub mod cql;
pub mod dump;
pub mod error;
pub mod merge;
pub mod schema_cql;
pub mod select;
pub mod stat;
pub mod statistics;
pub mod unfiltered;
pub mod value;
pub mod version;

mod chunks;
mod compare;
mod compression;
mod decode;
mod fields;
mod input;
mod json;
mod marshal;
mod reader;
mod reconcile;
mod snapshot;
mod table;
mod text;
mod token;

pub use components::{Component, Components, Descriptor, Folder, InMemory};
pub use cql::{Column, CqlType, Schema};
pub use error::SstableError;
pub use merge::{Merge, MergedPartition, Rules};
pub use reader::Reader;
pub use schema_cql::{SchemaCql, TableSchema};
pub use statistics::Statistics;
pub use table::Table;
pub use token::token;
pub use unfiltered::{
    Cell, CellState, ColumnData, DeletionTime, Expiry, Liveness, MarkerKind, PartitionHeader,
    RangeTombstoneMarker, Row, Unfiltered,
};
pub use value::Value;
pub use version::Version;
