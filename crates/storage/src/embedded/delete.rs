//! Deleting a partition: its rows one bounded batch after the other, so that it can be of any size and other
//! writers get in between.
//!
//! ```text
//! snapshot ─▶ keys of whole events, up to a batch ─▶ one commit of deleted keys ─▶ … until none is left
//! ```
//!
//! - R1: an event goes in one commit, so that a scan meets it wholly or not at all.

use std::ops::Bound;

use anabranch_model::PartitionKey;
use bytes::Bytes;

use super::engine::{EngineError, Row, Snapshot, TableId};
use super::{EmbeddedStore, read_error, write_error};
use crate::error::StoreError;
use crate::events::TableName;
use crate::keys;

/// A batch ends with the event that reaches one of these. It is no larger than a group of ordinary writes, and
/// others wait no longer for it.
const BATCH_ROWS: usize = 4_000;
const BATCH_KEY_BYTES: usize = 1 << 20;
/// Bytes passed over to find the keys of a batch: values are read with them, on the calling task.
const BATCH_READ_BYTES: usize = 8 << 20;

/// Deletes every row that the partition had when this was called.
pub(super) async fn partition(
    store: &EmbeddedStore,
    table: &TableName,
    partition: &PartitionKey,
) -> Result<(), StoreError> {
    let id = store.table_id(table)?;
    let prefix = keys::partition_prefix(partition);
    let mut after: Option<Bytes> = None;
    loop {
        // A new one for each batch: a snapshot held all the time would keep files and memory alive.
        let snapshot = store
            .engine
            .snapshot(id)
            .map_err(|error| read_error(table, error))?;
        let batch = next_batch(&snapshot, id, table, &prefix, after.as_deref())?;
        drop(snapshot);
        let Some(last) = batch.last() else {
            return Ok(());
        };
        after = Some(last.key.clone());
        store.commit(batch).await.map_err(|error| match error {
            EngineError::UnknownTable(_) => StoreError::NoTable {
                table: table.to_string(),
            },
            error => write_error(&error),
        })?;
    }
}

/// Deletes for the rows of the next whole events behind `after`.
fn next_batch(
    snapshot: &Snapshot,
    id: TableId,
    table: &TableName,
    prefix: &[u8],
    after: Option<&[u8]>,
) -> Result<Vec<Row>, StoreError> {
    let lower = after.map_or(Bound::Included(prefix), Bound::Excluded);
    let upper = keys::prefix_end(prefix);
    let upper = upper.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let mut batch = Vec::new();
    let (mut key_bytes, mut read_bytes) = (0, 0);
    let mut event_key = Bytes::new();
    for row in snapshot.range(lower, upper) {
        let (key, value) = row.map_err(|error| read_error(table, error))?;
        if event_key.is_empty() || !key.starts_with(&event_key) {
            let full =
                batch.len() >= BATCH_ROWS || key_bytes >= BATCH_KEY_BYTES || read_bytes >= BATCH_READ_BYTES;
            if full {
                break;
            }
            let (_, item_key_at) = keys::read_event(&key, prefix.len())?;
            event_key = key.slice(..item_key_at);
        }
        key_bytes += key.len();
        read_bytes += key.len() + value.len();
        batch.push(Row::delete(id, key));
    }
    Ok(batch)
}
