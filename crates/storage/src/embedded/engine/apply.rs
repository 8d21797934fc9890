//! The apply thread: puts durable groups into memtables, makes them visible, answers.
//!
//! - K2: a group enters under the lock `apply`, and memtables rotate only under it.
//! - K7: nothing here frees a memtable or waits for `lsm-tree`'s version lock.
//!
//! It also slows writers down before memory or level 0 grow without bound, a little at a time.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::pace::now;
use super::stats::Counters;
use super::store::Store;
use super::view::Table;
use super::writer::{Group, Run};

/// Above this many level-0 runs each group waits a millisecond.
const L0_RUNS_SLOW: usize = 20;
/// At this many, groups wait until compaction has caught up (K8).
pub(super) const L0_RUNS_MAX: usize = 100;
/// Memtables may reach this many times their budget before groups wait.
const BUDGETS_MAX: u64 = 3;

/// Runs until the log thread has ended.
pub(super) fn run(store: &Store, groups: &Receiver<Group>) {
    while let Ok(group) = groups.recv() {
        if group.commit != 0 {
            hold_back(store, &group.runs);
            enter(store, &group);
        }
        for answer in group.answers {
            answer.give();
        }
    }
}

fn enter(store: &Store, group: &Group) {
    let mut added = 0;
    let rotation_waits = store.apply.lock().unwrap_or_else(PoisonError::into_inner);
    let tables = store.tables.load();
    for run in group.runs.iter() {
        // A table that was dropped since: its rows are not wanted any more.
        if let Some(table) = tables.get(&run.table.0) {
            added += insert(table, run, group.seqno, group.commit);
        }
    }
    store.buffered.fetch_add(added, Ordering::Relaxed);
    let active = store.active.fetch_add(added, Ordering::Relaxed) + added;
    store.applied.store(group.commit, Ordering::Release);
    store.visible.store(group.seqno + 1, Ordering::Release);
    drop(rotation_waits);
    if active > store.options.memtable_bytes {
        store.flush.ring();
    }
}

/// Adds a run to its table's active memtable; returns the bytes it takes there.
pub(super) fn insert(table: &Arc<Table>, run: &Run, seqno: u64, commit: u64) -> u64 {
    // The first commit is noted before the row is there, so that the log is never let go too early (K4).
    let _ = table
        .first_commit
        .compare_exchange(0, commit, Ordering::AcqRel, Ordering::Acquire);
    let view = table.view();
    run.rows
        .iter()
        .map(|(key, value)| view.0.active.insert(key.clone(), value.clone(), seqno))
        .sum()
}

fn hold_back(store: &Store, runs: &[Run]) {
    let tables = store.tables.load_full();
    let budget = store.options.memtable_bytes.saturating_mul(BUDGETS_MAX);
    let runs_max = || {
        runs.iter()
            .filter_map(|r| tables.get(&r.table.0))
            .map(|t| t.tree.l0_runs())
            .max()
            .unwrap_or(0)
    };
    let full = || store.buffered.load(Ordering::Relaxed) > budget || runs_max() >= L0_RUNS_MAX;
    let slow = runs_max() > L0_RUNS_SLOW;
    if !slow && !full() {
        return;
    }
    let since = now();
    if slow {
        std::thread::sleep(Duration::from_millis(1));
    }
    // A closing engine applies what is queued while flush and compaction still run; only one that is closed
    // from inside an answer ends them first.
    while full() && !store.shared.stopping() {
        store.flush.ring();
        std::thread::sleep(Duration::from_millis(1));
    }
    let micros = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
    Counters::add(&store.counters.held_back_micros, micros);
}
