//! One process, one folder: the engine behind the store traits.
//!
//! ```text
//! EventStore ─▶ rows (keys, values) ─▶ engine: commit log ─▶ memtables ─▶ trees
//! RecordStore ─▶ table `records` ──────┘
//! ```
//!
//! - W1: an append is answered after its commit is synced and visible.
//! - R1: a scan reads one snapshot; whole events, in event order.
//!
//! A tree a table: `<namespace>.data_<slice>`, so that dropping a slice is dropping a tree. Reads run in
//! place on the calling task: a warm page costs less than handing it to another thread.

mod delete;
pub mod engine;
mod metrics;
mod record_store;
pub mod rows;
mod scan;

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anabranch_model::{Direction, PartitionKey, TimeSeriesId};
use anabranch_runtime::error_chain as chain;
use anabranch_runtime::telemetry::Metrics;
use async_trait::async_trait;

use self::engine::{Engine, EngineError, EngineOptions, Row, Snapshot, TableId};
use crate::error::StoreError;
use crate::events::{AppendFailure, EventStore, PartitionAppend, ScanPage, ScanRequest, TableName};
use crate::open::StoreStatus;

/// The embedded store.
#[derive(Debug)]
pub struct EmbeddedStore {
    engine: Engine,
    records: TableId,
    /// False once the store is closed.
    open: Mutex<bool>,
}

impl EmbeddedStore {
    /// Opens the store in a folder, or creates it there.
    ///
    /// # Errors
    /// When another process holds the folder, or its files are damaged or not a store's.
    pub fn open(data_dir: &Path, options: EngineOptions, metrics: &Metrics) -> Result<Self, StoreError> {
        let opening = |error: EngineError| StoreError::Open {
            reason: chain(&error),
            source: None,
        };
        let (engine, report) = Engine::open(data_dir, options).map_err(opening)?;
        tracing::info!(data_dir = %data_dir.display(), ?report, "embedded store opened");
        let records = engine.create_table("records").map_err(opening)?;
        metrics::register(metrics, &engine);
        Ok(Self {
            engine,
            records,
            open: Mutex::new(true),
        })
    }

    fn table_id(&self, table: &TableName) -> Result<TableId, StoreError> {
        let table = table.to_string();
        self.engine.table(&table).ok_or(StoreError::NoTable { table })
    }

    fn snapshot(&self, table: &TableName) -> Result<Snapshot, StoreError> {
        let id = self.table_id(table)?;
        self.engine.snapshot(id).map_err(|error| read_error(table, error))
    }
}

fn read_error(table: &TableName, error: EngineError) -> StoreError {
    match error {
        EngineError::UnknownTable(_) => StoreError::NoTable {
            table: table.to_string(),
        },
        EngineError::Damaged { .. } | EngineError::Tree { .. } => StoreError::Corrupt {
            what: format!("table {table}"),
            reason: chain(&error),
        },
        error => StoreError::Unavailable {
            doing: "reading",
            source: error.into(),
        },
    }
}

/// Rows of one commit, at most so many bytes and an event: an event's rows repeat its ids, so a small request
/// can be many bytes of rows.
const COMMIT_BYTES: usize = 8 << 20;

/// Rows that are committed together, and the parts that they are of.
#[derive(Default)]
struct Batch {
    rows: Vec<Row>,
    parts: Vec<usize>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, part: usize, row: Row) {
        self.bytes += row.bytes();
        self.rows.push(row);
        if self.parts.last() != Some(&part) {
            self.parts.push(part);
        }
    }
}

/// What the caller of a write is told. One error may have to be told to several.
fn write_error(error: &EngineError) -> StoreError {
    let source = chain(error).into();
    match error {
        EngineError::Busy => StoreError::Overloaded,
        // Refused before the log: certainly not written.
        EngineError::UnknownTable(_) | EngineError::Invalid(_) | EngineError::TooLarge { .. } => {
            StoreError::Unavailable {
                doing: "writing",
                source,
            }
        }
        _ => StoreError::Unknown {
            doing: "writing",
            source,
        },
    }
}

/// Making and dropping tables syncs several files: too long for a task that shares its thread.
async fn blocking(work: impl FnOnce() -> Result<(), EngineError> + Send + 'static) -> Result<(), StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| write_error(&error)),
        Err(panicked) => Err(StoreError::Unknown {
            doing: "changing tables",
            source: panicked.into(),
        }),
    }
}

#[async_trait]
impl EventStore for EmbeddedStore {
    async fn create_table(&self, table: &TableName) -> Result<(), StoreError> {
        let (engine, name) = (self.engine.clone(), table.to_string());
        blocking(move || engine.create_table(&name).map(drop)).await
    }

    async fn drop_table(&self, table: &TableName) -> Result<(), StoreError> {
        let (engine, name) = (self.engine.clone(), table.to_string());
        blocking(move || engine.drop_table(&name)).await
    }

    async fn append(&self, parts: Vec<PartitionAppend>) -> Result<(), AppendFailure> {
        let mut failed = Vec::new();
        let mut batches = vec![Batch::default()];
        for (index, part) in parts.into_iter().enumerate() {
            let Some(table) = self.engine.table(&part.table.to_string()) else {
                failed.push((
                    index,
                    StoreError::NoTable {
                        table: part.table.to_string(),
                    },
                ));
                continue;
            };
            scan::put_rows(&part.partition, part.events, |begins, key, value| {
                // An event is never cut: it is there wholly or not at all.
                let full = begins && batches.last().is_none_or(|batch| batch.bytes >= COMMIT_BYTES);
                if full {
                    batches.push(Batch::default());
                }
                if let Some(batch) = batches.last_mut() {
                    batch.push(index, Row::put(table, key, value));
                }
            });
        }
        for batch in batches {
            if let Err(error) = self.commit(batch.rows).await {
                // The parts of one commit share its fate.
                failed.extend(batch.parts.into_iter().map(|index| (index, write_error(&error))));
            }
        }
        failed.sort_by_key(|(index, _)| *index);
        failed.dedup_by_key(|(index, _)| *index);
        if failed.is_empty() {
            Ok(())
        } else {
            Err(AppendFailure { failed })
        }
    }

    async fn delete_partition(&self, table: &TableName, partition: &PartitionKey) -> Result<(), StoreError> {
        delete::partition(self, table, partition).await
    }

    async fn scan(&self, request: &ScanRequest) -> Result<ScanPage, StoreError> {
        scan::scan(&self.snapshot(&request.table)?, request)
    }

    fn finds_time_buckets(&self) -> bool {
        true
    }

    async fn next_time_bucket(
        &self,
        table: &TableName,
        time_series_id: &TimeSeriesId,
        from: i64,
        to: i64,
        direction: Direction,
    ) -> Result<Option<i64>, StoreError> {
        scan::next_time_bucket(&self.snapshot(table)?, table, time_series_id, from, to, direction)
    }

    async fn partitions(
        &self,
        table: &TableName,
        after: Option<&PartitionKey>,
        partitions_max: usize,
    ) -> Result<Vec<PartitionKey>, StoreError> {
        scan::partitions(&self.snapshot(table)?, table, after, partitions_max)
    }
}

impl EmbeddedStore {
    async fn commit(&self, rows: Vec<Row>) -> Result<(), EngineError> {
        if rows.is_empty() {
            Ok(())
        } else {
            self.engine.commit(rows).await
        }
    }
}

impl StoreStatus for EmbeddedStore {
    fn kind(&self) -> &'static str {
        "embedded"
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        metrics::facts(&self.engine)
    }

    fn close(&self) -> Result<(), StoreError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut *open, false) {
            return Ok(());
        }
        self.engine.clone().close().map_err(|error| write_error(&error))
    }
}

#[cfg(test)]
mod tests;
