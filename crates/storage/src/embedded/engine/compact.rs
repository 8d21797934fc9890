//! The compaction thread: merges the runs of one table after the other.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::error::{EngineError, fatal};
use super::stats::Counters;
use super::store::Store;
use super::view::Table;

const LOOK_AFTER: Duration = Duration::from_millis(500);

/// Runs until the engine stops.
pub(super) fn run(store: &Store) {
    while !store.shared.stopping() {
        store.compact.wait(LOOK_AFTER);
        while let Some(table) = next(store) {
            if store.shared.stopping() {
                break;
            }
            compact(store, &table);
        }
    }
}

/// The wanted table with the most level-0 runs: it is the first that would hold writers back.
fn next(store: &Store) -> Option<std::sync::Arc<Table>> {
    let tables = store.tables.load();
    let mut wanted = store
        .compact_wanted
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    wanted.retain(|id| {
        tables
            .get(id)
            .is_some_and(|table| !table.damaged.load(Ordering::Acquire))
    });
    let id = *wanted
        .iter()
        .max_by_key(|id| tables.get(id).map(|t| t.tree.l0_runs()))?;
    wanted.remove(&id);
    tables.get(&id).cloned()
}

fn compact(store: &Store, table: &Table) {
    loop {
        if store.shared.stopping() || table.is_dropped() {
            return;
        }
        match table.tree.compact() {
            Ok(true) => {
                table.refresh(&store.attic);
                store.attic.sweep();
                Counters::add(&store.counters.compactions, 1);
            }
            Ok(false) => return,
            Err(source) => {
                let damaged = table.tree.find_damage();
                let path = damaged
                    .clone()
                    .unwrap_or_else(|| table.tree.folder().to_path_buf());
                let error = EngineError::Tree {
                    table: table.name.clone(),
                    path,
                    source,
                };
                if damaged.is_none() {
                    fatal("compact", &error);
                }
                // Damage that was there before is no failure of writing: the table stays as it is, reads of
                // the damaged file are refused, and everything else is served.
                table.damaged.store(true, Ordering::Release);
                let error = anabranch_runtime::error_chain(&error);
                tracing::error!(
                    error,
                    "a damaged table is compacted no more: restore it from a copy"
                );
                return;
            }
        }
    }
}
