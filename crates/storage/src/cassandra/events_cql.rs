//! Every statement on the tables of events. Names are the only thing that differs; everything else is bound.

use super::names::CqlTable;
use crate::events::TableKind;

/// A statement on one table of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum EventStatement {
    /// Writes a row.
    Insert,
    /// Reads a stretch of a partition, newest first, as the rows lie.
    Newest,
    /// Reads a stretch of a partition, oldest first.
    Oldest,
    /// Reads one event.
    Event,
    /// Deletes a partition.
    Delete,
    /// Lists partitions from the start of the ring.
    WalkFirst,
    /// Lists partitions from the token of one on.
    WalkOn,
}

impl EventStatement {
    /// All there are.
    pub(super) const ALL: [Self; 7] = [
        Self::Insert,
        Self::Newest,
        Self::Oldest,
        Self::Event,
        Self::Delete,
        Self::WalkFirst,
        Self::WalkOn,
    ];

    /// Its text. Bounds of a stretch include their start and exclude their end; an event id is never empty, so
    /// `(time, '')` is before all events of a time.
    pub(super) fn text(self, table: &CqlTable) -> String {
        const PARTITION: &str = "time_series_id = ? AND time_bucket = ? AND event_bucket = ?";
        const STRETCH: &str = "(event_time, event_id) >= (?, ?) AND (event_time, event_id) < (?, ?)";
        const ROW: &str = "event_time, event_id, event_item_key, event_item_value, value_metadata";
        const KEY: &str = "time_series_id, time_bucket, event_bucket";
        match self {
            Self::Insert => format!(
                "INSERT INTO {table} ({KEY}, event_time, event_id, event_item_key, event_item_value) \
                 VALUES (?, ?, ?, ?, ?, ?, ?)"
            ),
            Self::Newest => format!("SELECT {ROW} FROM {table} WHERE {PARTITION} AND {STRETCH}"),
            Self::Oldest => format!(
                "SELECT {ROW} FROM {table} WHERE {PARTITION} AND {STRETCH} \
                 ORDER BY event_time ASC, event_id ASC, event_item_key DESC"
            ),
            Self::Event => {
                format!("SELECT {ROW} FROM {table} WHERE {PARTITION} AND event_time = ? AND event_id = ?")
            }
            Self::Delete => format!("DELETE FROM {table} WHERE {PARTITION}"),
            Self::WalkFirst => format!("SELECT DISTINCT {KEY}, token({KEY}) FROM {table}"),
            Self::WalkOn => format!(
                "SELECT DISTINCT {KEY}, token({KEY}) FROM {table} WHERE token({KEY}) >= token(?, ?, ?)"
            ),
        }
    }
}

/// Makes a table of events under an id that everyone who makes it agrees on (`tables`).
///
/// `value_metadata` is for values that are not stored as they came; none is written yet. Targets of splits are read
/// in order and rewritten never: larger compression chunks, and a compaction that keeps a partition in few files.
pub(super) fn create_events(table: &CqlTable, kind: TableKind, id: &str) -> String {
    let options = match kind {
        TableKind::Data => "",
        TableKind::Wide => {
            " AND compression = {'class': 'LZ4Compressor', 'chunk_length_in_kb': 64} \
             AND compaction = {'class': 'LeveledCompactionStrategy'}"
        }
    };
    format!(
        "CREATE TABLE IF NOT EXISTS {table} (time_series_id text, time_bucket bigint, event_bucket int, \
         event_time bigint, event_id text, event_item_key text, event_item_value blob, value_metadata blob, \
         PRIMARY KEY ((time_series_id, time_bucket, event_bucket), event_time, event_id, event_item_key)) \
         WITH CLUSTERING ORDER BY (event_time DESC, event_id DESC, event_item_key ASC) AND ID = {id}{options}"
    )
}

/// Drops a table.
pub(super) fn drop_table(table: &CqlTable) -> String {
    format!("DROP TABLE IF EXISTS {table}")
}
