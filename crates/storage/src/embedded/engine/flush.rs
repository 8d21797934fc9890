//! The flush thread: memtables to tables, log segments to the free list.
//!
//! - K3: the memtables of a table are flushed in order, one at a time, so the highest sequence number on disk
//!   says that all rows below are there too.
//! - K4: see `log/low`.
//! - K8: a table with a hundred level-0 runs is not flushed before compaction has merged some.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::apply::L0_RUNS_MAX;
use super::error::{EngineError, fatal, or_die};
use super::options::Fault;
use super::pace::now;
use super::stats::Counters;
use super::store::Store;
use super::view::Table;

/// How often the thread looks around without being asked.
const LOOK_AFTER: Duration = Duration::from_millis(200);
/// How long a flush waits for readers of the old memtable, so that it is freed here.
const FREE_WITHIN: Duration = Duration::from_millis(50);

/// Runs until the engine stops.
pub(super) fn run(store: &Store) {
    while !store.shared.stopping() {
        store.flush.wait(LOOK_AFTER);
        loop {
            let tables = choose(store);
            if tables.is_empty() || store.shared.stopping() {
                break;
            }
            for table in tables {
                if store.shared.stopping() {
                    break;
                }
                flush(store, &table);
            }
            release(store);
        }
        release(store);
        store.attic.sweep();
    }
}

/// Which tables to flush now: the largest when memory is full, and all that pin old segments of the log.
fn choose(store: &Store) -> Vec<Arc<Table>> {
    let tables = store.tables.load();
    let mut chosen = Vec::new();
    let budget = store.options.memtable_bytes;
    let mut active = store.active.load(Ordering::Relaxed);
    if active > budget {
        let mut by_size: Vec<_> = tables.values().map(|t| (t.active_bytes(), t)).collect();
        by_size.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        for (bytes, table) in by_size {
            if active <= budget / 2 || bytes == 0 {
                break;
            }
            active = active.saturating_sub(bytes);
            chosen.push(Arc::clone(table));
        }
    }
    let lists = store.segments.lists();
    if lists.live.len() > store.options.segments_live_max {
        // Half of them at once: flushing a thousand small tables for one segment at a time would never end.
        let keep_from = lists.live.get(lists.live.len() / 2).map_or(0, |l| l.first);
        let pins = |t: &Table| (1..keep_from).contains(&t.first_commit.load(Ordering::Acquire));
        chosen.extend(tables.values().filter(|t| pins(t)).cloned());
        chosen.sort_by_key(|t| t.id);
        chosen.dedup_by_key(|t| t.id);
    }
    chosen
}

fn flush(store: &Store, table: &Arc<Table>) {
    while table.tree.l0_runs() >= L0_RUNS_MAX {
        if store.shared.stopping() || table.is_dropped() {
            return;
        }
        store.want_compaction(table.id);
        std::thread::sleep(Duration::from_millis(10));
    }
    if table.is_dropped() {
        return;
    }
    or_die("flush", store.fault(Fault::Flush));
    // Waits here, not under `apply`, while compaction syncs its manifest.
    let compaction_waits = table.tree.hold_compaction();
    let sealed = {
        let _groups_wait = store.apply.lock().unwrap_or_else(PoisonError::into_inner);
        if table.is_dropped() {
            return;
        }
        let sealed = table.tree.rotate();
        table.refresh(&store.attic);
        table.first_commit.store(0, Ordering::Release);
        sealed
    };
    drop(compaction_waits);
    let Some(sealed) = sealed else { return };
    let bytes = sealed.bytes();
    store.active.fetch_sub(bytes, Ordering::Relaxed);
    // The next memtable is full before this one is written: no more pauses.
    let behind =
        || store.active.load(Ordering::Relaxed) > store.options.memtable_bytes || store.shared.stopping();
    if let Err(source) = table.tree.flush(&sealed, behind) {
        let path = table.tree.folder().to_path_buf();
        fatal(
            "flush",
            &EngineError::Tree {
                table: table.name.clone(),
                path,
                source,
            },
        );
    }
    table.refresh(&store.attic);
    drop(sealed);
    let since = now();
    while store.attic.sweep() && since.elapsed() < FREE_WITHIN {
        std::thread::sleep(Duration::from_millis(1));
    }
    store.buffered.fetch_sub(bytes, Ordering::Relaxed);
    Counters::add(&store.counters.flushes, 1);
    store.want_compaction(table.id);
}

/// K4: only here, between flushes, so no sealed memtable holds rows that are in no table yet.
fn release(store: &Store) {
    // First the applied commit, then the tables: a row of a later commit pins nothing that is let go here.
    let applied = store.applied.load(Ordering::Acquire);
    let tables = store.tables.load();
    let pinned = tables
        .values()
        .map(|t| t.first_commit.load(Ordering::Acquire))
        .filter(|c| *c != 0)
        .min();
    let low = pinned.map_or(applied, |first| applied.min(first - 1));
    let release = || {
        store.fault(Fault::Release)?;
        store.segments.release(low)
    };
    or_die("release log segments", release());
}
