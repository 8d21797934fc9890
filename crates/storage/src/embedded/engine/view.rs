//! What readers and writers of a table go through, so that neither ever waits for flush or compaction.
//!
//! ```text
//! table ─▶ view (swapped) = active memtable + sealed memtable + files, held alive
//! ```
//!
//! - K6: a reader loads the view first and the sequence number after. The other way round, a flush between
//!   the two may already have dropped the version of a row that the smaller number needs.
//! - K7: readers and the apply thread never free a memtable and never take `lsm-tree`'s version lock. A view
//!   that was replaced goes to the [`Attic`], and only the background threads take it from there.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::TableId;
use super::lock::FolderLock;
use super::tree::{Cut, Tree};

/// One table, open.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) id: TableId,
    pub(super) name: String,
    pub(super) tree: Tree,
    view: ArcSwap<View>,
    replace: Mutex<()>,
    /// First commit with rows in the active memtable, 0 when it is empty. The log must reach back to it.
    pub(super) first_commit: AtomicU64,
    /// Set when compaction met a damaged file.
    pub(super) damaged: AtomicBool,
    /// Snapshots keep the folder locked: their files must not be deleted by the next opener.
    _lock: Arc<FolderLock>,
}

/// The state of a table at one moment.
pub(super) struct View(pub(super) Cut);

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "View({})", self.0.n)
    }
}

impl Table {
    pub(super) fn new(id: TableId, name: String, tree: Tree, lock: Arc<FolderLock>) -> Self {
        let view = ArcSwap::from_pointee(View(tree.cut()));
        Self {
            id,
            name,
            tree,
            view,
            replace: Mutex::default(),
            first_commit: AtomicU64::new(0),
            damaged: AtomicBool::new(false),
            _lock: lock,
        }
    }

    pub(super) fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Bytes in the active memtable.
    pub(super) fn active_bytes(&self) -> u64 {
        self.view.load().0.active.bytes()
    }

    /// Makes the tree's present state the view, unless a newer one is there already.
    pub(super) fn refresh(&self, attic: &Attic) {
        let next = Arc::new(View(self.tree.cut()));
        let one_at_a_time = self.replace.lock().unwrap_or_else(PoisonError::into_inner);
        let old = if next.0.n > self.view.load().0.n {
            self.view.swap(next)
        } else {
            next
        };
        drop(one_at_a_time);
        attic.put(old);
    }

    pub(super) fn is_dropped(&self) -> bool {
        self.tree.dropped.load(Ordering::Acquire)
    }
}

/// Views that were replaced and may still have readers.
#[derive(Debug, Default)]
pub(super) struct Attic(Mutex<Vec<Arc<View>>>);

impl Attic {
    fn put(&self, view: Arc<View>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(view);
    }

    /// Frees what no one reads any more; says whether anything is left.
    pub(super) fn sweep(&self) -> bool {
        let mut unused = Vec::new();
        let left = {
            let mut views = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let mut n = 0;
            while n < views.len() {
                // No new reader can come: the view is in no table any more.
                if Arc::strong_count(&views[n]) == 1 {
                    unused.push(views.swap_remove(n));
                } else {
                    n += 1;
                }
            }
            !views.is_empty()
        };
        drop(unused);
        left
    }
}
