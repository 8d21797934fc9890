//! The thread for what can wait: spare segments of the log, and the files of dropped tables.
//!
//! Both hand the disk work in small steps with pauses, so that commits find it idle.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::disk;
use super::error::or_die;
use super::store::Store;
use super::view::Table;
use super::writer::SPARE_FROM;

const LOOK_AFTER: Duration = Duration::from_millis(200);
const SPARES_MAX: u64 = 3;

/// Runs until the engine stops.
pub(super) fn run(store: &Store) {
    while !store.shared.stopping() {
        store.chores.wait(LOOK_AFTER);
        make_spares(store);
        delete_dropped(store);
    }
}

/// Keeps filled segments ready, as many as the store has shown to need.
fn make_spares(store: &Store) {
    loop {
        let wanted = {
            let lists = store.segments.lists();
            let needed = lists.switched + u64::from(store.fullness.load(Ordering::Relaxed) > SPARE_FROM);
            let ready = lists
                .free
                .iter()
                .filter(|f| f.bytes >= store.options.segment_bytes)
                .count() as u64;
            needed.min(SPARES_MAX) > ready
        };
        if !wanted || store.shared.stopping() {
            return;
        }
        let made = store.segments.make_spare(|| {
            std::thread::sleep(store.options.pause);
            !store.shared.stopping()
        });
        or_die("make a log segment", made);
    }
}

/// Deletes the files of dropped tables that no one reads any more.
fn delete_dropped(store: &Store) {
    let gone: Vec<Arc<Table>> = {
        let mut dropped = store.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        let (gone, wait) = dropped.drain(..).partition(|table| Arc::strong_count(table) == 1);
        *dropped = wait;
        gone
    };
    for table in gone {
        let folder = table.tree.folder().to_path_buf();
        drop(table);
        // One file at a time with pauses: the file system may tell the disk of each (discard).
        for name in disk::names(&folder.join("tables")).unwrap_or_default() {
            let _ = std::fs::remove_file(folder.join("tables").join(name));
            std::thread::sleep(store.options.pause / 10);
        }
        or_die("delete a dropped table", disk::remove_folder(&folder));
    }
}
