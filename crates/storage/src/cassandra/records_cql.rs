//! The tables of records, and every statement on them.
//!
//! A record is one row: what it is called, `version`, `record` (null once it was removed), and `writer`, a random
//! number of the attempt that wrote it, by which who did not hear whether its own attempt was applied finds out.

use super::names::{CqlTable, KeyspaceName};

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ColumnType {
    Text,
    Bigint,
    Int,
}

/// A column of a key.
pub(super) type Column = (&'static str, ColumnType);

/// A table of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum RecordTable {
    Namespace,
    TimeSlice,
    BlockedId,
    StoreRecord,
    WideRow,
    WideRowMarker,
    Detection,
    EventTable,
}

impl RecordTable {
    /// All there are.
    pub(super) const ALL: [Self; 8] = [
        Self::Namespace,
        Self::TimeSlice,
        Self::BlockedId,
        Self::StoreRecord,
        Self::WideRow,
        Self::WideRowMarker,
        Self::Detection,
        Self::EventTable,
    ];

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::TimeSlice => "time_slice",
            Self::BlockedId => "blocked_id",
            Self::StoreRecord => "store_record",
            Self::WideRow => "wide_row",
            Self::WideRowMarker => "wide_row_marker",
            Self::Detection => "detection",
            Self::EventTable => "event_table",
        }
    }

    /// The columns of its partition key. `bucket` is always 0: what is listed together lies together.
    pub(super) fn partition(self) -> &'static [Column] {
        match self {
            Self::Namespace | Self::Detection => &[("bucket", ColumnType::Int)],
            Self::TimeSlice | Self::BlockedId | Self::WideRowMarker => &[("namespace", ColumnType::Text)],
            Self::StoreRecord => &[("name", ColumnType::Text)],
            Self::WideRow => &[
                ("namespace", ColumnType::Text),
                ("time_slice", ColumnType::Text),
                ("shard", ColumnType::Int),
            ],
            Self::EventTable => &[("keyspace_name", ColumnType::Text)],
        }
    }

    /// The columns after it, in the order in which records are listed.
    pub(super) fn clustering(self) -> &'static [Column] {
        match self {
            Self::Namespace => &[("namespace", ColumnType::Text)],
            Self::TimeSlice => &[("time_slice", ColumnType::Text)],
            Self::BlockedId => &[("time_series_id", ColumnType::Text)],
            Self::StoreRecord => &[],
            Self::WideRow => &[
                ("time_series_id", ColumnType::Text),
                ("time_bucket", ColumnType::Bigint),
                ("event_bucket", ColumnType::Int),
            ],
            Self::WideRowMarker => &[("time_slice", ColumnType::Text), ("shard", ColumnType::Int)],
            Self::Detection => &[
                ("namespace", ColumnType::Text),
                ("time_slice", ColumnType::Text),
                ("time_series_id", ColumnType::Text),
                ("time_bucket", ColumnType::Bigint),
                ("event_bucket", ColumnType::Int),
            ],
            Self::EventTable => &[("table_name", ColumnType::Text)],
        }
    }

    fn key(self) -> impl Iterator<Item = &'static Column> {
        self.partition().iter().chain(self.clustering())
    }

    /// Makes it.
    pub(super) fn create(self, keyspace: &KeyspaceName, id: &str) -> String {
        let table = CqlTable::shared(keyspace, self.name());
        let columns = joined(self.key(), ", ", |(name, of)| {
            let of = match of {
                ColumnType::Text => "text",
                ColumnType::Bigint => "bigint",
                ColumnType::Int => "int",
            };
            format!("{name} {of}")
        });
        let partition = joined(self.partition(), ", ", name);
        let clustering = joined(self.clustering(), "", |(name, _)| format!(", {name}"));
        format!(
            "CREATE TABLE IF NOT EXISTS {table} ({columns}, version bigint, record blob, writer bigint, \
             PRIMARY KEY (({partition}){clustering})) WITH ID = {id}"
        )
    }
}

/// A statement on one table of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum RecordStatement {
    /// Reads one record.
    Get,
    /// Stores a record where there never was one.
    Insert,
    /// Changes a record from a version.
    Update,
    /// Lists a partition from its start.
    List,
    /// Lists a partition after a record.
    ListOn,
}

impl RecordStatement {
    /// All there are.
    pub(super) const ALL: [Self; 5] = [Self::Get, Self::Insert, Self::Update, Self::List, Self::ListOn];

    /// Its text. `None`: there are tables that nobody lists.
    pub(super) fn text(self, keyspace: &KeyspaceName, of: RecordTable) -> Option<String> {
        let table = CqlTable::shared(keyspace, of.name());
        let equal = |(name, _): &Column| format!("{name} = ?");
        let partition = joined(of.partition(), " AND ", equal);
        let key = joined(of.key(), " AND ", equal);
        let clustering = joined(of.clustering(), ", ", name);
        let listed = !matches!(of, RecordTable::StoreRecord | RecordTable::EventTable);
        Some(match self {
            Self::Get => format!("SELECT version, record, writer FROM {table} WHERE {key}"),
            Self::Insert => {
                let names = joined(of.key(), ", ", name);
                let marks = joined(of.key(), ", ", |_| "?".to_owned());
                format!(
                    "INSERT INTO {table} ({names}, version, record, writer) VALUES ({marks}, ?, ?, ?) IF NOT EXISTS"
                )
            }
            Self::Update => {
                format!("UPDATE {table} SET version = ?, record = ?, writer = ? WHERE {key} IF version = ?")
            }
            Self::List if listed => {
                format!("SELECT {clustering}, version, record FROM {table} WHERE {partition}")
            }
            Self::ListOn if listed => {
                let marks = joined(of.clustering(), ", ", |_| "?".to_owned());
                format!(
                    "SELECT {clustering}, version, record FROM {table} WHERE {partition} \
                     AND ({clustering}) > ({marks})"
                )
            }
            Self::List | Self::ListOn => return None,
        })
    }
}

/// Which slices have ever had a split record, so that the splits of a namespace can be listed: a row is added
/// before the first record of a slice, and stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum WideSliceStatement {
    /// Adds a slice.
    Insert,
    /// The slices of a namespace.
    List,
}

/// Name of that table.
pub(super) const WIDE_SLICE: &str = "wide_slice";

impl WideSliceStatement {
    /// All there are.
    pub(super) const ALL: [Self; 2] = [Self::Insert, Self::List];

    /// Its text.
    pub(super) fn text(self, keyspace: &KeyspaceName) -> String {
        let table = CqlTable::shared(keyspace, WIDE_SLICE);
        match self {
            Self::Insert => format!("INSERT INTO {table} (namespace, time_slice) VALUES (?, ?)"),
            Self::List => format!("SELECT time_slice FROM {table} WHERE namespace = ?"),
        }
    }
}

/// Makes that table.
pub(super) fn create_wide_slice(keyspace: &KeyspaceName, id: &str) -> String {
    let table = CqlTable::shared(keyspace, WIDE_SLICE);
    format!(
        "CREATE TABLE IF NOT EXISTS {table} (namespace text, time_slice text, PRIMARY KEY ((namespace), time_slice)) \
         WITH ID = {id}"
    )
}

fn name((name, _): &Column) -> String {
    (*name).to_owned()
}

fn joined<'a>(
    columns: impl IntoIterator<Item = &'a Column>,
    between: &str,
    shown: impl Fn(&Column) -> String,
) -> String {
    columns.into_iter().map(shown).collect::<Vec<_>>().join(between)
}
