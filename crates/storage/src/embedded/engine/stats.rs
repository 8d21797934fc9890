//! Numbers that say how the engine is doing.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the buckets of [`EngineStats::sync_latency`], in microseconds; one more bucket follows.
pub const SYNC_BUCKETS_MICROS: [u64; 10] = [
    250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000,
];

/// A copy of the engine's numbers.
#[derive(Clone, Debug, Default)]
pub struct EngineStats {
    /// Groups committed by this process.
    pub commits: u64,
    /// Rows committed by this process.
    pub rows: u64,
    /// Bytes written to the log and synced.
    pub synced_bytes: u64,
    /// How many syncs of the log took how long; bounds in [`SYNC_BUCKETS_MICROS`].
    pub sync_latency: [u64; 11],
    /// Sum of the same, in seconds.
    pub sync_seconds: f64,
    /// The last sync of the log.
    pub sync_last: Duration,
    /// Sealed segments whose rows are not all in tables.
    pub segments_live: usize,
    /// Segments ready for use.
    pub segments_free: usize,
    /// Rows in memory, with overhead.
    pub memtable_bytes: u64,
    /// Level-0 runs of the table that has most of them.
    pub l0_runs_max: usize,
    /// How long writers were held back.
    pub held_back_seconds: f64,
    /// Memtables written to tables.
    pub flushes: u64,
    /// Compactions that changed a tree.
    pub compactions: u64,
    /// Tables that exist.
    pub tables: usize,
    /// Bytes of table files.
    pub table_bytes: u64,
    /// Bytes in the block cache.
    pub block_cache_bytes: u64,
    /// Compare-and-sets that were applied, and that met another value.
    pub compared: (u64, u64),
}

/// The counters behind it.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) commits: AtomicU64,
    pub(super) rows: AtomicU64,
    pub(super) synced_bytes: AtomicU64,
    sync_latency: [AtomicU64; 11],
    sync_micros: AtomicU64,
    sync_last_micros: AtomicU64,
    pub(super) held_back_micros: AtomicU64,
    pub(super) flushes: AtomicU64,
    pub(super) compactions: AtomicU64,
    pub(super) cas_applied: AtomicU64,
    pub(super) cas_conflicts: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Relaxed);
    }

    pub(super) fn synced(&self, bytes: u64, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = SYNC_BUCKETS_MICROS
            .iter()
            .position(|b| micros <= *b)
            .unwrap_or(SYNC_BUCKETS_MICROS.len());
        Self::add(&self.sync_latency[bucket], 1);
        Self::add(&self.sync_micros, micros);
        self.sync_last_micros.store(micros, Relaxed);
        Self::add(&self.synced_bytes, bytes);
    }

    pub(super) fn copy(&self) -> EngineStats {
        let seconds = |c: &AtomicU64| Duration::from_micros(c.load(Relaxed)).as_secs_f64();
        EngineStats {
            commits: self.commits.load(Relaxed),
            rows: self.rows.load(Relaxed),
            synced_bytes: self.synced_bytes.load(Relaxed),
            sync_latency: std::array::from_fn(|n| self.sync_latency[n].load(Relaxed)),
            sync_seconds: seconds(&self.sync_micros),
            sync_last: Duration::from_micros(self.sync_last_micros.load(Relaxed)),
            held_back_seconds: seconds(&self.held_back_micros),
            flushes: self.flushes.load(Relaxed),
            compactions: self.compactions.load(Relaxed),
            compared: (self.cas_applied.load(Relaxed), self.cas_conflicts.load(Relaxed)),
            ..EngineStats::default()
        }
    }
}
