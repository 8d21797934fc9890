//! The embedded engine: a durable, ordered key-value store of many tables in one folder.
//!
//! ```text
//!  write ─▶ queue ─▶ log thread: group, frame, fdatasync ─▶ apply thread: memtables, visible, answer
//!                                                              │ full, or pins the log
//!  read ─▶ view (memtables + files) + sequence number          ▼
//!                                                        flush thread ─▶ tables ─▶ compaction thread
//!
//!  <store>/LOCK             one process
//!  <store>/tables           registry of tables
//!  <store>/trees/<id>/      one lsm-tree a table
//!  <store>/log/<n>.seg      the commit log of all tables
//!  <store>/log/low          how far back the log must reach
//! ```
//!
//! The tables are those of the crate `lsm-tree`; the log, and with it durability, is ours. A row puts a value
//! under a key, or deletes the key. A write is one group commit over any number of tables: all of it is
//! durable, or none. A deleted key is a row without a value until compaction drops it at the last level; no
//! reader ever meets it.
//!
//! - K1: no row is in a memtable before its frame is synced.
//! - K2: a group is wholly in one memtable of each table; memtables rotate only between groups.
//! - K3: the memtables of a table are flushed in order: "highest persisted" means all below it.
//! - K4: a segment is used again only after every row in it is in synced, registered tables, and `low` says so.
//! - K5: frame n+1 is written only after frame n is synced.
//! - K6: a reader takes the view first, then the sequence number.
//! - K7: readers and the apply thread never free a memtable and never take `lsm-tree`'s version lock.
//! - K8: a table has at most 100 level-0 runs; `lsm-tree` can not open one with 256.
//! - K9: one process, one engine a folder; background work ends before the lock is let go.
//! - K10: a storage error while running ends the process.
//!
//! What events and records look like as rows is not known here.

mod apply;
mod chores;
mod compact;
mod disk;
mod error;
mod flush;
mod lock;
mod log;
mod open;
mod options;
mod pace;
mod queue;
mod registry;
mod snapshot;
mod stats;
mod store;
mod tree;
mod view;
mod writer;

use std::fmt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;

pub use error::{EngineError, TreeError};
pub use options::{EngineOptions, Fault, FaultHook, OpenReport};
pub use queue::Permit;
pub use snapshot::{RowRange, Snapshot};
pub use stats::{EngineStats, SYNC_BUCKETS_MICROS};

use queue::{Done, Request};
use store::Store;

/// Groups that may wait between log and apply: the sync of one runs while another is applied.
const GROUPS_IN_FLIGHT: usize = 2;

/// The number of a table. Numbers are never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(u32);

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What becomes of a key: it replaces the row with the same key, or removes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where to.
    pub table: TableId,
    /// 1 to 65,535 bytes.
    pub key: Bytes,
    /// Up to the size of a write; `None` deletes the key.
    pub value: Option<Bytes>,
}

impl Row {
    /// A value under a key.
    pub fn put(table: TableId, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self {
            table,
            key: key.into(),
            value: Some(value.into()),
        }
    }

    /// No value under a key any more, whether there was one or not.
    pub fn delete(table: TableId, key: impl Into<Bytes>) -> Self {
        Self {
            table,
            key: key.into(),
            value: None,
        }
    }

    /// Bytes of key and value.
    pub fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// How a compare-and-set ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CasOutcome {
    /// The key had the expected value and has the new one.
    Applied,
    /// The key had another value, or none; nothing was changed.
    Conflict(Option<Bytes>),
}

/// A handle to an open store. The store closes when the last handle is dropped, or by [`Engine::close`].
#[derive(Clone)]
pub struct Engine(Arc<Running>);

struct Running {
    store: Arc<Store>,
    threads: Mutex<Option<Threads>>,
}

struct Threads {
    log: JoinHandle<()>,
    apply: JoinHandle<()>,
    flush: JoinHandle<()>,
    compact: JoinHandle<()>,
    chores: JoinHandle<()>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("folder", &self.0.store.folder)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens the store in a folder; makes one if the folder is missing or empty.
    ///
    /// Everything that the store must still have is checked before this returns: damage is an error that names
    /// the file, and nothing is changed by finding it.
    pub fn open(folder: &Path, options: EngineOptions) -> Result<(Self, OpenReport), EngineError> {
        let (store, log, report) = open::open(folder, options)?;
        open::settle(&store);
        let store = Arc::new(store);
        let (to_apply, from_log) = sync_channel(GROUPS_IN_FLIGHT);
        let threads = Threads {
            log: spawn("engine-log", &store, move |store| {
                writer::run(store, log, &to_apply)
            })?,
            apply: spawn("engine-apply", &store, move |store| apply::run(store, &from_log))?,
            // Not nice: it holds `apply` for a moment, and writers that are held back wait for it.
            flush: spawn("engine-flush", &store, flush::run)?,
            compact: spawn("engine-compact", &store, |store| {
                pace::be_nice();
                compact::run(store);
            })?,
            chores: spawn("engine-chores", &store, |store| {
                pace::be_nice();
                chores::run(store);
            })?,
        };
        store.compact.ring();
        Ok((
            Self(Arc::new(Running {
                store,
                threads: Mutex::new(Some(threads)),
            })),
            report,
        ))
    }

    /// Makes a table, unless there is one of this name. Durable on return. Blocks for some milliseconds.
    pub fn create_table(&self, name: &str) -> Result<TableId, EngineError> {
        self.0.store.create_table(name)
    }

    /// Drops a table, if there is one of this name. Durable on return. Snapshots of it stay readable; its
    /// files go when the last one is dropped.
    pub fn drop_table(&self, name: &str) -> Result<(), EngineError> {
        self.0.store.drop_table(name)
    }

    /// The table of this name.
    pub fn table(&self, name: &str) -> Option<TableId> {
        self.0.store.names.load().get(name).copied()
    }

    /// All tables, oldest first.
    pub fn tables(&self) -> Vec<(TableId, String)> {
        self.0
            .store
            .tables
            .load()
            .values()
            .map(|t| (t.id, t.name.clone()))
            .collect()
    }

    /// Waits for room in the write queue for rows of so many bytes, keys and values.
    pub async fn reserve(&self, bytes: usize) -> Result<Permit, EngineError> {
        self.0.store.queue.reserve(bytes).await
    }

    /// Writes rows, all or none; of several with one key the last counts. `done` is called after they are durable and can be read, or at once if they
    /// are refused: with [`EngineError::Busy`] when the queue is full.
    ///
    /// `done` runs on the thread that answers everyone: it must be quick and must not wait.
    pub fn write(&self, rows: Vec<Row>, done: impl FnOnce(Result<(), EngineError>) + Send + 'static) {
        match self.0.store.queue.try_reserve(queue::rows_cost(&rows)) {
            Ok(permit) => self.write_reserved(permit, rows, done),
            Err(error) => done(Err(error)),
        }
    }

    /// Like [`Self::write`], with room that was reserved before.
    pub fn write_reserved(
        &self,
        permit: Permit,
        rows: Vec<Row>,
        done: impl FnOnce(Result<(), EngineError>) + Send + 'static,
    ) {
        match self.check(&rows) {
            Ok(()) => self.push(Request::Write {
                rows,
                done: Box::new(done),
                permit,
            }),
            Err(error) => done(Err(error)),
        }
    }

    /// Like [`Self::write`], and waits: for room, and for the answer.
    pub async fn commit(&self, rows: Vec<Row>) -> Result<(), EngineError> {
        let permit = self.reserve(queue::rows_cost(&rows)).await?;
        let (send, answer) = tokio::sync::oneshot::channel();
        self.write_reserved(permit, rows, move |result| {
            let _ = send.send(result);
        });
        answer.await.unwrap_or(Err(EngineError::Closed))
    }

    /// Like [`Self::commit`], for callers that are not async.
    pub fn commit_blocking(&self, rows: Vec<Row>) -> Result<(), EngineError> {
        let cost = queue::rows_cost(&rows);
        let permit = loop {
            match self.0.store.queue.try_reserve(cost) {
                Err(EngineError::Busy) => thread::sleep(Duration::from_millis(1)),
                other => break other?,
            }
        };
        let (send, answer) = sync_channel(1);
        self.write_reserved(permit, rows, move |result| {
            let _ = send.send(result);
        });
        answer.recv().unwrap_or(Err(EngineError::Closed))
    }

    /// Puts `new` if the key's value is `expected` (`None`: if there is none, or it was deleted). Serial with all writes of the
    /// key; durable and visible before `done` is called, also when `done` learns of a conflict.
    pub fn compare_and_set(
        &self,
        table: TableId,
        key: Bytes,
        expected: Option<Bytes>,
        new: Bytes,
        done: impl FnOnce(Result<CasOutcome, EngineError>) + Send + 'static,
    ) {
        let row = Row::put(table, key, new);
        let cost = queue::rows_cost(std::slice::from_ref(&row));
        match self
            .check(std::slice::from_ref(&row))
            .and_then(|()| self.0.store.queue.try_reserve(cost))
        {
            Ok(permit) => self.push(Request::Compare {
                row,
                expected,
                done: Box::new(done),
                permit,
            }),
            Err(error) => done(Err(error)),
        }
    }

    /// Like [`Self::compare_and_set`], and waits: for room, and for the answer.
    pub async fn compare_and_swap(
        &self,
        table: TableId,
        key: Bytes,
        expected: Option<Bytes>,
        new: Bytes,
    ) -> Result<CasOutcome, EngineError> {
        let row = Row::put(table, key, new);
        self.check(std::slice::from_ref(&row))?;
        let permit = self.reserve(queue::rows_cost(std::slice::from_ref(&row))).await?;
        let (send, answer) = tokio::sync::oneshot::channel();
        let done: Done<CasOutcome> = Box::new(move |result| {
            let _ = send.send(result);
        });
        self.push(Request::Compare {
            row,
            expected,
            done,
            permit,
        });
        answer.await.unwrap_or(Err(EngineError::Closed))
    }

    /// The table as it is now.
    pub fn snapshot(&self, table: TableId) -> Result<Snapshot, EngineError> {
        let store = &self.0.store;
        let open = store.table(table)?;
        Ok(Snapshot::new(open, || store.visible.load(Ordering::Acquire)))
    }

    /// Numbers for metrics.
    pub fn stats(&self) -> EngineStats {
        self.0.store.stats()
    }

    /// Answers what is queued, seals the log, ends the threads. Other handles can still read. The folder is
    /// free for another engine when this returns and no other handle and no snapshot is left.
    pub fn close(self) -> Result<(), EngineError> {
        self.0.stop();
        Ok(())
    }

    fn push(&self, request: Request) {
        let Err(refused) = self.0.store.queue.push(request) else {
            return;
        };
        match *refused {
            Request::Write { done, .. } => done(Err(EngineError::Closed)),
            Request::Compare { done, .. } => done(Err(EngineError::Closed)),
        }
    }

    fn check(&self, rows: &[Row]) -> Result<(), EngineError> {
        let mut bytes = 0;
        for row in rows {
            if row.key.is_empty() || row.key.len() > tree::KEY_BYTES_MAX {
                return Err(EngineError::Invalid("a key must have 1 to 65535 bytes"));
            }
            bytes += row.bytes() as u64;
        }
        let bytes_max = self.0.store.options.write_bytes_max;
        if bytes > bytes_max {
            Err(EngineError::TooLarge { bytes, bytes_max })
        } else {
            Ok(())
        }
    }
}

impl Running {
    /// K9: everything that writes has ended when this returns.
    fn stop(&self) {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(threads) = threads else { return };
        let all = [
            &threads.log,
            &threads.apply,
            &threads.flush,
            &threads.compact,
            &threads.chores,
        ];
        let own = all.iter().any(|t| t.thread().id() == thread::current().id());
        self.store.queue.close();
        if own {
            // The last handle was dropped inside an answer. The threads end by themselves; they hold the store,
            // and with it the lock, until then.
            self.store.shared.stop();
            return;
        }
        // The apply thread may wait for flush and compaction, so these end last.
        let _ = threads.log.join();
        let _ = threads.apply.join();
        self.store.shared.stop();
        self.store.flush.ring();
        self.store.compact.ring();
        self.store.chores.ring();
        let _ = threads.flush.join();
        let _ = threads.compact.join();
        let _ = threads.chores.join();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(
    name: &str,
    store: &Arc<Store>,
    run: impl FnOnce(&Store) + Send + 'static,
) -> Result<JoinHandle<()>, EngineError> {
    let own = Arc::clone(store);
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let _fatal = EndOnPanic;
            run(&own);
        })
        .map_err(EngineError::io("start a thread for", &store.folder))
}

/// A thread of the engine that panics would leave everyone waiting: the process ends instead (K10).
struct EndOnPanic;

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            error::fatal("run a thread of the engine", &EngineError::Closed);
        }
    }
}
