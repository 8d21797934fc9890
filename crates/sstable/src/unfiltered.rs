//! What a data file holds, in its own order: partitions, and in each the static row, rows, and the bounds of
//! range tombstones.
//!
//! Values are slices of the chunk they were read from, so that holding one holds that chunk.

use bytes::Bytes;

/// A deletion: it covers what was written at or before its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeletionTime {
    /// Microseconds since 1970, as writes have.
    pub marked_for_delete_at: i64,
    /// Seconds since 1970, by the clock of the node that deleted.
    pub local_deletion_time: i64,
}

/// When something expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// Seconds, as it was asked for.
    pub ttl: i32,
    /// Seconds since 1970.
    pub at: i64,
}

impl Expiry {
    /// The TTL of a marker that says a view's row has gone: nothing else has it.
    pub(crate) const TTL_OF_A_GONE_VIEW_ROW: i32 = i32::MAX;
}

/// The marker that makes a row exist without any cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Liveness {
    /// Microseconds since 1970.
    pub timestamp: i64,
    /// Present when the row was inserted with a TTL.
    pub expiry: Option<Expiry>,
}

/// The start of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionHeader {
    /// Where it starts in the uncompressed data.
    pub position: u64,
    /// The key as stored; [`crate::Schema::split_partition_key`] takes it apart.
    pub key: Bytes,
    /// Present when the whole partition was deleted.
    pub deletion: Option<DeletionTime>,
    /// Present when there is anything in it.
    pub static_row: Option<Row>,
}

/// What a partition consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfiltered {
    /// A row.
    Row(Row),
    /// A bound of a range tombstone.
    RangeTombstoneMarker(RangeTombstoneMarker),
}

/// A row, or the static row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where it starts in the uncompressed data.
    pub position: u64,
    /// The values of the clustering columns: `None` for null, which is not the same as empty.
    pub clustering: Vec<Option<Bytes>>,
    /// Present when the row was inserted, and not only updated.
    pub liveness: Option<Liveness>,
    /// Present when the row was deleted; what it holds besides was written later.
    pub deletion: Option<DeletionTime>,
    /// The deletion is one that a materialized view made, which a later liveness undoes.
    pub shadowable: bool,
    /// The columns that are there, in the order of the schema.
    pub columns: Vec<ColumnData>,
}

/// What a row holds of one column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnData {
    /// Index into the schema's static or regular columns.
    pub column: usize,
    /// Present when a collection or user-defined type was overwritten or deleted as a whole.
    pub deletion: Option<DeletionTime>,
    /// One cell, or one for each element of a collection or field of a user-defined type.
    pub cells: Vec<Cell>,
}

/// A value with the time it was written at, or what is left of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Microseconds since 1970.
    pub timestamp: i64,
    /// Which element: a set's element, a map's key, a list's time-ordered id, a field's number.
    pub path: Option<Bytes>,
    /// What it holds.
    pub state: CellState,
}

/// Whether a cell has a value, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CellState {
    /// A value that stays.
    Live(Bytes),
    /// A value that expires, or has expired: that depends on the time one reads at.
    Expiring(Bytes, Expiry),
    /// A deleted cell.
    Tombstone {
        /// Seconds since 1970.
        local_deletion_time: i64,
    },
}

/// A bound of a range tombstone, or of two that meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeTombstoneMarker {
    /// Where it starts in the uncompressed data.
    pub position: u64,
    /// The first clustering values: rows that continue them are all inside, or all outside.
    pub clustering: Vec<Option<Bytes>>,
    /// Which bound.
    pub kind: MarkerKind,
}

/// Which bound a marker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkerKind {
    /// Rows from here on are deleted.
    Open {
        /// Rows at the bound too.
        inclusive: bool,
        /// The deletion that starts.
        deletion: DeletionTime,
    },
    /// Rows from here on are not.
    Close {
        /// Rows at the bound still are.
        inclusive: bool,
        /// The deletion that ends.
        deletion: DeletionTime,
    },
    /// One deletion ends where another starts.
    Boundary {
        /// Rows at the bound belong to the one that ends.
        close_inclusive: bool,
        /// The deletion that ends.
        closed: DeletionTime,
        /// The deletion that starts.
        opened: DeletionTime,
    },
}
