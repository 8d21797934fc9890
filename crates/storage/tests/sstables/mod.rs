//! Random tables on a real Cassandra, and what its files are compared with.

pub(crate) mod dice;
pub(crate) mod literals;
pub(crate) mod node;
pub(crate) mod seen;
pub(crate) mod table;
pub(crate) mod tally;
pub(crate) mod tools;
pub(crate) mod types;
pub(crate) mod writes;

// The reader's own tests compare the committed SSTables in the same way.
#[path = "../../../sstable/tests/support/dumps.rs"]
pub(crate) mod dumps;
#[path = "../../../sstable/tests/support/json.rs"]
pub(crate) mod json;
#[path = "../../../sstable/tests/support/select.rs"]
pub(crate) mod select;
