//! Where events and records are kept: two small traits, several backends, one contract.
//!
//! ```text
//! server ─▶ EventStore  append, scan, delete a partition, next bucket, partitions, create and drop tables
//!        └▶ RecordStore get, compare-and-set, list           (namespaces, slices, blocked ids, splits, …)
//!               ├─ memory     the oracle: ordered maps
//!               ├─ embedded   one process, one folder: commit log + LSM trees
//!               └─ cassandra  a cluster of Apache Cassandra or ScyllaDB (feature `cassandra`)
//! ```
//!
//! - W1: once `append` returns, every later scan sees those events, until their table is dropped or their
//!   partition deleted.
//! - W2: `append` may be repeated; one event key and item key is one row.
//! - R1: `scan` yields event order ([`anabranch_model::EventKey`]) and never cuts an event.
//!
//! [`conformance`] is the contract in full, and every backend passes it. Only [`open`] and the binary
//! choose a backend; nobody else asks which one it is.

#[cfg(feature = "cassandra")]
pub mod cassandra;
pub mod conformance;
pub mod embedded;
pub mod error;
pub mod events;
pub mod keys;
pub mod memory;
pub mod open;
pub mod records;
pub mod splits;
pub mod walk;

pub use error::{ErrorKind, StoreError};
pub use events::{
    AppendFailure, EventBounds, EventStore, PartitionAppend, ScanEnd, ScanPage, ScanRequest, TableKind,
    TableName,
};
pub use keys::{SPLIT_SHARDS, split_shard};
pub use open::{Store, StoreStatus};
pub use records::{CasOutcome, RecordKey, RecordPrefix, RecordStore, VersionedRecord};
pub use splits::{ListedSplit, Moved, SplitRecords, SplitSlot, StoredSplit, UnreadableSplit};
pub use walk::Walk;
