//! Settings of the engine, and what it says after opening.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Settings of the engine. The defaults keep a busy engine well below half a gigabyte.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Size of one segment of the log.
    pub segment_bytes: u64,
    /// How many sealed segments may wait for their rows to reach tables before the tables that hold them are
    /// flushed, however small.
    pub segments_live_max: usize,
    /// Rows kept in memory, over all tables, before the largest tables are flushed. Writers are held back at
    /// three times this.
    pub memtable_bytes: u64,
    /// Blocks kept in memory, over all tables.
    pub block_cache_bytes: u64,
    /// Table files kept open.
    pub open_files_max: usize,
    /// Requests that wait for the log, in bytes of their rows.
    pub queue_bytes_max: usize,
    /// The largest single write.
    pub write_bytes_max: u64,
    /// How long flush and compaction pause after each MiB, so that commits find the disk idle.
    pub pause: Duration,
    /// For tests: asked before each operation on files.
    #[doc(hidden)]
    pub faults: Option<FaultHook>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            segments_live_max: 8,
            memtable_bytes: 32 << 20,
            block_cache_bytes: 64 << 20,
            open_files_max: 512,
            queue_bytes_max: 16 << 20,
            write_bytes_max: 32 << 20,
            pause: Duration::from_millis(10),
            faults: None,
        }
    }
}

impl EngineOptions {
    /// Small sizes, so that a test reaches every stage with little data.
    #[must_use]
    pub fn small() -> Self {
        Self {
            segment_bytes: 1 << 20,
            segments_live_max: 4,
            memtable_bytes: 1 << 20,
            block_cache_bytes: 1 << 20,
            pause: Duration::ZERO,
            ..Self::default()
        }
    }
}

/// What opening found.
#[derive(Clone, Debug, Default)]
pub struct OpenReport {
    /// The store was made by this call.
    pub created: bool,
    /// Tables in the registry.
    pub tables: usize,
    /// Commits found in the log.
    pub commits: u64,
    /// Rows that were put back into memory.
    pub rows_replayed: u64,
    /// The commit that was being written when the last process ended, and its file. It was never acknowledged.
    pub torn: Option<(u64, PathBuf)>,
    /// Folders of dropped or unfinished tables that were removed.
    pub folders_removed: usize,
    /// How long opening took.
    pub took: Duration,
}

/// Where a test can make a file operation fail.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Before a frame is written.
    LogWrite,
    /// Before a frame is synced.
    LogSync,
    /// Before a memtable is written to a table.
    Flush,
    /// After a tree's folder is made and before the registry names it.
    CreateTable,
    /// After the registry forgot a table and before its folder is deleted.
    DropTable,
    /// Before segments of the log are let go.
    Release,
}

/// Asked before each operation that a test may make fail.
#[doc(hidden)]
#[derive(Clone)]
pub struct FaultHook(pub Arc<dyn Fn(Fault) -> io::Result<()> + Send + Sync>);

impl FaultHook {
    pub(super) fn check(&self, fault: Fault) -> io::Result<()> {
        (self.0)(fault)
    }
}

impl fmt::Debug for FaultHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultHook")
    }
}
