//! What the engine's threads share.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::TableId;
use super::disk;
use super::error::{EngineError, fatal};
use super::lock::FolderLock;
use super::log::Segments;
use super::options::{EngineOptions, Fault};
use super::queue::Queue;
use super::registry::{NAME_BYTES_MAX, Registry};
use super::stats::{Counters, EngineStats};
use super::tree::{Shared, Tree};
use super::view::{Attic, Table};

/// Name of the folder of trees in a store's folder.
pub(super) const TREES_FOLDER: &str = "trees";

/// The open tables, by number.
pub(super) type Tables = BTreeMap<u32, Arc<Table>>;

pub(super) struct Store {
    pub(super) folder: PathBuf,
    pub(super) options: EngineOptions,
    pub(super) shared: Shared,
    pub(super) queue: Queue,
    pub(super) segments: Arc<Segments>,
    pub(super) tables: ArcSwap<Tables>,
    /// The same by name: a read looks tables up by the hundred.
    pub(super) names: ArcSwap<HashMap<String, TableId>>,
    registry: Mutex<Registry>,
    /// Held while a group enters the memtables and while a memtable is rotated, so that a group is wholly in
    /// one memtable of each table (K2).
    pub(super) apply: Mutex<()>,
    /// Every row with a lower sequence number can be read.
    pub(super) visible: AtomicU64,
    /// The last commit whose rows are in memtables.
    pub(super) applied: AtomicU64,
    /// Bytes in memtables, and of them those in active ones.
    pub(super) buffered: AtomicU64,
    pub(super) active: AtomicU64,
    /// Share of the segment in use that is written, in thousandths.
    pub(super) fullness: AtomicU64,
    pub(super) attic: Attic,
    pub(super) flush: Bell,
    pub(super) chores: Bell,
    pub(super) compact: Bell,
    pub(super) compact_wanted: Mutex<BTreeSet<u32>>,
    /// Dropped tables whose files are still there.
    pub(super) dropped: Mutex<Vec<Arc<Table>>>,
    pub(super) counters: Counters,
    pub(super) lock: Arc<FolderLock>,
}

/// The parts of a store that opening made.
pub(super) struct Parts {
    pub(super) folder: PathBuf,
    pub(super) options: EngineOptions,
    pub(super) shared: Shared,
    pub(super) segments: Arc<Segments>,
    pub(super) tables: Tables,
    pub(super) registry: Registry,
    pub(super) commit: u64,
    pub(super) lock: Arc<FolderLock>,
}

fn names_of(tables: &Tables) -> HashMap<String, TableId> {
    tables
        .values()
        .map(|table| (table.name.clone(), table.id))
        .collect()
}

impl Store {
    pub(super) fn new(parts: Parts) -> Self {
        let buffered = parts.tables.values().map(|t| t.active_bytes()).sum();
        Self {
            queue: Queue::new(parts.options.queue_bytes_max),
            visible: AtomicU64::new(parts.shared.seqno()),
            applied: AtomicU64::new(parts.commit),
            buffered: AtomicU64::new(buffered),
            active: AtomicU64::new(buffered),
            fullness: AtomicU64::new(0),
            compact_wanted: Mutex::new(parts.tables.keys().copied().collect()),
            folder: parts.folder,
            options: parts.options,
            shared: parts.shared,
            segments: parts.segments,
            names: ArcSwap::from_pointee(names_of(&parts.tables)),
            tables: ArcSwap::from_pointee(parts.tables),
            registry: Mutex::new(parts.registry),
            apply: Mutex::default(),
            attic: Attic::default(),
            flush: Bell::default(),
            chores: Bell::default(),
            compact: Bell::default(),
            dropped: Mutex::default(),
            counters: Counters::default(),
            lock: parts.lock,
        }
    }

    pub(super) fn table(&self, id: TableId) -> Result<Arc<Table>, EngineError> {
        self.tables
            .load()
            .get(&id.0)
            .cloned()
            .ok_or(EngineError::UnknownTable(id))
    }

    /// Tree first, then the registry, then writes: what the registry names is always there.
    pub(super) fn create_table(&self, name: &str) -> Result<TableId, EngineError> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(EngineError::Invalid("a table name must have 1 to 1024 bytes"));
        }
        let mut registry = self.registry();
        if let Some((id, _)) = registry.tables.iter().find(|(_, n)| *n == name) {
            return Ok(TableId(*id));
        }
        if self.shared.stopping() {
            return Err(EngineError::Closed);
        }
        let mut next = registry.clone();
        let id = TableId(next.next);
        next.next = next
            .next
            .checked_add(1)
            .ok_or(EngineError::Invalid("no table numbers are left"))?;
        next.tables.insert(id.0, name.to_owned());
        let trees = self.folder.join(TREES_FOLDER);
        let make = || -> Result<Tree, EngineError> {
            let tree = Tree::open(&trees.join(id.0.to_string()), name, &self.shared)?;
            disk::sync_folder(&trees)?;
            self.fault(Fault::CreateTable)?;
            next.save(&self.folder)?;
            Ok(tree)
        };
        // K10: whether the registry on disk names the table is not known after an error.
        let tree = make().unwrap_or_else(|error| fatal("create table", &error));
        *registry = next;
        let table = Arc::new(Table::new(id, name.to_owned(), tree, Arc::clone(&self.lock)));
        self.change_tables(|tables| {
            tables.insert(id.0, table);
        });
        Ok(id)
    }

    /// Registry first, then the files, which go when the last reader has gone.
    pub(super) fn drop_table(&self, name: &str) -> Result<(), EngineError> {
        let mut registry = self.registry();
        let Some(id) = registry
            .tables
            .iter()
            .find(|(_, n)| *n == name)
            .map(|(id, _)| *id)
        else {
            return Ok(());
        };
        if self.shared.stopping() {
            return Err(EngineError::Closed);
        }
        let mut next = registry.clone();
        next.tables.remove(&id);
        let save = || -> Result<(), EngineError> {
            next.save(&self.folder)?;
            self.fault(Fault::DropTable)
        };
        save().unwrap_or_else(|error| fatal("drop table", &error));
        *registry = next;
        let mut gone = None;
        {
            // No group is half way in, so what the table holds in memory is known and counts no more.
            let _groups_wait = self.apply.lock().unwrap_or_else(PoisonError::into_inner);
            self.change_tables(|tables| gone = tables.remove(&id));
            let bytes = gone.as_ref().map_or(0, |table| table.active_bytes());
            self.active.fetch_sub(bytes, Ordering::Relaxed);
            self.buffered.fetch_sub(bytes, Ordering::Relaxed);
            if let Some(table) = &gone {
                table.tree.dropped.store(true, Ordering::Release);
            }
        }
        if let Some(table) = gone {
            self.dropped
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(table);
        }
        drop(registry);
        self.chores.ring();
        Ok(())
    }

    /// Only called under the registry's lock, so no change is lost.
    fn change_tables(&self, change: impl FnOnce(&mut Tables)) {
        let mut tables = Tables::clone(&self.tables.load());
        change(&mut tables);
        self.names.store(Arc::new(names_of(&tables)));
        self.tables.store(Arc::new(tables));
    }

    pub(super) fn want_compaction(&self, id: TableId) {
        self.compact_wanted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.0);
        self.compact.ring();
    }

    /// K10 for faults that a test asked for: they look like errors of the operation that follows.
    pub(super) fn fault(&self, fault: Fault) -> Result<(), EngineError> {
        match &self.options.faults {
            None => Ok(()),
            Some(hook) => hook.check(fault).map_err(EngineError::io("use", &self.folder)),
        }
    }

    pub(super) fn stats(&self) -> EngineStats {
        let tables = self.tables.load();
        let lists = self.segments.lists();
        EngineStats {
            segments_live: lists.live.len(),
            segments_free: lists.free.len(),
            memtable_bytes: self.buffered.load(Ordering::Relaxed),
            l0_runs_max: tables.values().map(|t| t.tree.l0_runs()).max().unwrap_or(0),
            tables: tables.len(),
            table_bytes: tables.values().map(|t| t.tree.disk_bytes()).sum(),
            block_cache_bytes: self.shared.cached_bytes(),
            ..self.counters.copy()
        }
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes a background thread.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    pub(super) fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.heard.notify_all();
    }

    /// Waits until someone rings, or for so long.
    pub(super) fn wait(&self, limit: Duration) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut rung, _) = self
            .heard
            .wait_timeout_while(rung, limit, |rung| !*rung)
            .unwrap_or_else(PoisonError::into_inner);
        *rung = false;
    }
}
