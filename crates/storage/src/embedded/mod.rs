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

pub mod engine;
mod metrics;
mod record_store;
pub mod rows;
mod scan;

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anabranch_model::{Direction, PartitionKey, TimeSeriesId};
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
    /// Records whose table was taken once; the engine is closed by whoever takes this.
    open: Mutex<bool>,
}

impl EmbeddedStore {
    /// Opens the store in a folder, or creates it there.
    ///
    /// # Errors
    /// When another process holds the folder, or its files are damaged or not a store's.
    pub fn open(data_dir: &Path, options: EngineOptions, metrics: &Metrics) -> Result<Self, StoreError> {
        let opening = |error: EngineError| StoreError::Open {
            reason: error.to_string(),
            source: source_of(error),
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

    fn snapshot(&self, table: &TableName) -> Result<Snapshot, StoreError> {
        let no_table = || StoreError::NoTable {
            table: table.to_string(),
        };
        let id = self.engine.table(&table.to_string()).ok_or_else(no_table)?;
        self.engine.snapshot(id).map_err(|error| read_error(table, error))
    }
}

/// A cause of an opening error that says more than its own text.
fn source_of(error: EngineError) -> Option<crate::error::BoxError> {
    std::error::Error::source(&error).is_some().then(|| error.into())
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

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

fn write_error(error: EngineError) -> StoreError {
    match error {
        EngineError::Busy => StoreError::Overloaded,
        // Refused before the log: certainly not written.
        EngineError::UnknownTable(_) | EngineError::Invalid(_) | EngineError::TooLarge { .. } => {
            StoreError::Unavailable {
                doing: "writing",
                source: error.into(),
            }
        }
        error => StoreError::Unknown {
            doing: "writing",
            source: error.into(),
        },
    }
}

/// Making and dropping tables syncs several files: too long for a task that shares its thread.
async fn blocking(work: impl FnOnce() -> Result<(), EngineError> + Send + 'static) -> Result<(), StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(write_error),
        Err(panicked) => Err(StoreError::Unknown {
            doing: "changing tables",
            source: panicked.into(),
        }),
    }
}

#[async_trait]
impl EventStore for EmbeddedStore {
    async fn create_table(&self, table: &TableName) -> Result<(), StoreError> {
        self.engine
            .create_table(&table.to_string())
            .map_err(write_error)?;
        Ok(())
    }

    async fn drop_table(&self, table: &TableName) -> Result<(), StoreError> {
        let (engine, name) = (self.engine.clone(), table.to_string());
        blocking(move || engine.drop_table(&name)).await
    }

    async fn append(&self, parts: Vec<PartitionAppend>) -> Result<(), AppendFailure> {
        let mut failed = Vec::new();
        let mut written = Vec::new();
        let mut batch: Vec<Row> = Vec::new();
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
            scan::put_rows(&mut batch, table, &part.partition, part.events);
            written.push(index);
        }
        if let Err(error) = self.commit(batch).await {
            let doubt = error.kind() == crate::error::ErrorKind::Unknown;
            // One commit holds every part, so they share its fate.
            let copies = written.into_iter().map(|index| {
                let source = error.to_string().into();
                let doing = "writing";
                (
                    index,
                    if doubt {
                        StoreError::Unknown { doing, source }
                    } else {
                        StoreError::Unavailable { doing, source }
                    },
                )
            });
            failed.extend(copies);
            failed.sort_by_key(|(index, _)| *index);
        }
        if failed.is_empty() {
            Ok(())
        } else {
            Err(AppendFailure { failed })
        }
    }

    async fn scan(&self, request: &ScanRequest) -> Result<ScanPage, StoreError> {
        scan::scan(&self.snapshot(&request.table)?, request)
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
    async fn commit(&self, rows: Vec<Row>) -> Result<(), StoreError> {
        if rows.is_empty() {
            Ok(())
        } else {
            self.engine.commit(rows).await.map_err(write_error)
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
        self.engine.clone().close().map_err(write_error)
    }
}

#[cfg(test)]
mod tests;
