//! The only file that names the crate `lsm-tree`.
//!
//! It is pinned to 3.1.10, because a few of the calls used here are public but undocumented, and because
//! this file fences what its source shows to be dangerous:
//!
//! - opening believes a manifest without checking it, and then deletes the tables that it does not name:
//!   [`Tree::open`] checks the manifest's checksum first;
//! - opening believes the number of sections that a table's end names, before it compares a checksum, and makes room for
//!   so many: [`Tree::open`] looks first whether they fit into the file;
//! - the number of level-0 runs is stored in one byte (K8);
//! - reads and inserts through its own methods wait behind the version lock, which flush and compaction hold
//!   through their fsyncs: everything here goes through a [`Cut`], which takes that lock only when it is made;
//! - old versions keep flushed memtables alive: flush and compaction pass the highest watermark. That is safe
//!   because readers hold all they need (K6), and a row is in a table only after it was visible.

use std::fmt;
use std::fs;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::FileExt;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use lsm_tree::compaction::{CompactionFilter, Factory, ItemAccessor, Leveled, Verdict, filter::Context};
use lsm_tree::config::{BlockSizePolicy, CompressionPolicy};
use lsm_tree::{
    AbstractTree, AnyTree, Cache, CompressionType, Config, DescriptorTable, InternalValue, SeqNo,
    SequenceNumberCounter, ValueType,
};

use super::disk::Fields;
use super::error::{EngineError, TreeError};
use super::pace::Pacer;

const TABLES_FOLDER: &str = "tables";
/// Compaction stops pausing above this many level-0 runs.
const L0_RUNS_HURRY: usize = 7;
const BLOCK_BYTES: u32 = 16 * 1_024;
/// Longest key that the table format can hold.
pub(super) const KEY_BYTES_MAX: usize = u16::MAX as usize;

/// Rows in key order, forwards and backwards.
pub(super) type RowIter =
    Box<dyn DoubleEndedIterator<Item = Result<(Bytes, Bytes), TreeError>> + Send + 'static>;

/// What all trees of a store share.
#[derive(Clone)]
pub(super) struct Shared {
    cache: Arc<Cache>,
    descriptors: Arc<DescriptorTable>,
    seqno: SequenceNumberCounter,
    compaction: Arc<Leveled>,
    pause: Duration,
    /// Set when the engine closes: compactions give up.
    stopping: Arc<AtomicBool>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(cache_bytes: u64, open_files_max: usize, table_bytes: u64, pause: Duration) -> Self {
        Self {
            cache: Arc::new(Cache::with_capacity_bytes(cache_bytes)),
            descriptors: Arc::new(DescriptorTable::new(open_files_max)),
            // Numbers begin at 1: lsm-tree reads 0 as "before everything".
            seqno: SequenceNumberCounter::new(1),
            compaction: Arc::new(Leveled::default().with_table_target_size(table_bytes)),
            pause,
            stopping: Arc::new(AtomicBool::new(false)),
        }
    }

    /// The number of the next group. Flushes take numbers too, so there are gaps.
    pub(super) fn next_seqno(&self) -> u64 {
        self.seqno.next()
    }

    /// No number up to this one will be given out again.
    pub(super) fn skip_seqno(&self, used: u64) {
        self.seqno.fetch_max(used + 1);
    }

    pub(super) fn seqno(&self) -> u64 {
        self.seqno.get()
    }

    pub(super) fn cached_bytes(&self) -> u64 {
        self.cache.size()
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub(super) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

/// Rows in memory, in order.
#[derive(Clone)]
pub(super) struct Memtable(Arc<lsm_tree::Memtable>);

impl Memtable {
    /// Adds a row, or the mark that its key is deleted; returns the bytes it takes, with overhead.
    pub(super) fn insert(&self, key: Bytes, value: Option<Bytes>, seqno: u64) -> u64 {
        let kind = if value.is_some() {
            ValueType::Value
        } else {
            ValueType::Tombstone
        };
        let row = InternalValue::from_components(key, value.unwrap_or_default(), seqno, kind);
        self.0.insert(row).0
    }

    pub(super) fn bytes(&self) -> u64 {
        self.0.size()
    }
}

/// Holds what can not be named outside of the crate: the tree's memtables and files at one moment.
type OpenRange = dyn Fn(Bound<&[u8]>, Bound<&[u8]>, SeqNo) -> RowIter + Send + Sync;

/// A memtable and the files below it, as they were at one moment. Files and memory live as long as it does.
pub(super) struct Cut {
    /// Grows with the version of the tree: of two cuts the one with the higher number is newer.
    pub(super) n: u64,
    pub(super) active: Memtable,
    open: Box<OpenRange>,
}

impl Cut {
    /// The rows between two bounds as of sequence number `visible`, exclusive.
    pub(super) fn range(&self, lower: Bound<&[u8]>, upper: Bound<&[u8]>, visible: u64) -> RowIter {
        (self.open)(lower, upper, visible)
    }
}

/// One table on disk.
pub(super) struct Tree {
    inner: lsm_tree::Tree,
    folder: PathBuf,
    cuts: AtomicU64,
    shared: Shared,
    /// Set when the table is dropped: compactions give up.
    pub(super) dropped: Arc<AtomicBool>,
    /// Level-0 runs, kept here so that writers need no lock to know.
    l0_runs: Arc<AtomicUsize>,
    gate: Arc<Gate>,
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl Tree {
    /// Opens the tree in a folder, or makes one there.
    pub(super) fn open(folder: &Path, name: &str, shared: &Shared) -> Result<Self, EngineError> {
        check_manifest(folder)?;
        check_contents(folder)?;
        let fail = |error: lsm_tree::Error| EngineError::Tree {
            table: name.to_owned(),
            path: damaged_table(folder).unwrap_or_else(|| folder.to_path_buf()),
            source: TreeError(Box::new(error)),
        };
        let dropped = Arc::new(AtomicBool::new(false));
        let l0_runs = Arc::new(AtomicUsize::new(0));
        let gate = Arc::new(Gate::default());
        let pace = Arc::new(CompactionPace {
            folder: folder.join(TABLES_FOLDER),
            pause: shared.pause,
            tree: AssertUnwindSafe(OnceLock::new()),
            stopping: Arc::clone(&shared.stopping),
            dropped: Arc::clone(&dropped),
            l0_runs: Arc::clone(&l0_runs),
            gate: Arc::clone(&gate),
        });
        let config = Config::new(folder, shared.seqno.clone(), SequenceNumberCounter::default())
            .use_cache(Arc::clone(&shared.cache))
            .use_descriptor_table(Some(Arc::clone(&shared.descriptors)))
            .data_block_size_policy(BlockSizePolicy::all(BLOCK_BYTES))
            .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4))
            .with_compaction_filter_factory(Some(Arc::clone(&pace) as Arc<dyn Factory>));
        let AnyTree::Standard(inner) = config.open().map_err(fail)? else {
            return Err(EngineError::damaged(folder, "it is a tree of another kind"));
        };
        let _ = pace.tree.set(inner.table_id_counter.clone());
        let (folder, shared) = (folder.to_path_buf(), shared.clone());
        let tree = Self {
            inner,
            folder,
            cuts: AtomicU64::new(1),
            shared,
            dropped,
            l0_runs,
            gate,
        };
        tree.count_runs();
        Ok(tree)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The highest sequence number in a table on disk; every row at or below it is there too (K3).
    pub(super) fn highest_persisted(&self) -> Option<u64> {
        self.inner.get_highest_persisted_seqno()
    }

    pub(super) fn l0_runs(&self) -> usize {
        self.l0_runs.load(Ordering::Relaxed)
    }

    fn count_runs(&self) {
        self.l0_runs.store(self.inner.l0_run_count(), Ordering::Relaxed);
    }

    pub(super) fn disk_bytes(&self) -> u64 {
        self.inner.disk_space()
    }

    /// Takes the present state. Waits while flush or compaction of this tree syncs its manifest.
    pub(super) fn cut(&self) -> Cut {
        let versions = self.inner.get_version_history_lock();
        let version = versions.latest_version();
        // Drawn under the lock, so that the number orders cuts as the versions were made.
        let n = self.cuts.fetch_add(1, Ordering::Relaxed);
        drop(versions);
        let active = Memtable(Arc::clone(&version.active_memtable));
        let open = Box::new(
            move |lower: Bound<&[u8]>, upper: Bound<&[u8]>, visible| -> RowIter {
                let rows = lsm_tree::Tree::create_internal_range::<&[u8], _>(
                    version.clone(),
                    &(lower, upper),
                    visible,
                    None,
                );
                Box::new(rows.map(|row| match row {
                    Ok(row) => Ok((row.key.user_key.into(), row.value.into())),
                    Err(error) => Err(TreeError(Box::new(error))),
                }))
            },
        );
        Cut { n, active, open }
    }

    /// Keeps compaction from taking the version lock, so that [`Self::rotate`] and [`Self::cut`] are quick.
    /// Waits while compaction has it.
    pub(super) fn hold_compaction(&self) -> impl Drop + use<'_> {
        self.gate.enter(User::Rotation);
        // A compaction that has just left the gate may still be about to let go of the lock.
        drop(self.inner.get_version_history_lock());
        GateHeld(&self.gate)
    }

    /// Puts an empty memtable in place of the active one, which is returned; `None` if that was empty.
    pub(super) fn rotate(&self) -> Option<Memtable> {
        self.inner.rotate_memtable().map(Memtable)
    }

    /// Writes a rotated memtable to tables and registers them, which makes them part of the tree for good.
    pub(super) fn flush(&self, sealed: &Memtable, hurry: impl Fn() -> bool) -> Result<(), TreeError> {
        let fail = |error: lsm_tree::Error| TreeError(Box::new(error));
        let files = &self.inner.table_id_counter;
        let mut pacer = Pacer::new(self.folder.join(TABLES_FOLDER), files.get(), self.shared.pause);
        let _lock = self.inner.get_flush_lock();
        let mut last: Option<lsm_tree::UserKey> = None;
        let newest = sealed.0.iter().filter_map(|row| {
            // The newest version of a key comes first; the others can be seen by no one who opens later. A deleted
            // key is written too: it hides what is in the files below.
            if last.as_ref().is_some_and(|key| *key == row.key.user_key) {
                return None;
            }
            last = Some(row.key.user_key.clone());
            let bytes = (row.key.user_key.len() + row.value.len()) as u64;
            Some(
                pacer
                    .spend(bytes, files.get(), &hurry)
                    .map(|()| row)
                    .map_err(lsm_tree::Error::Io),
            )
        });
        if let Some((tables, _)) = self.inner.flush_to_tables(newest).map_err(fail)? {
            self.inner
                .register_tables(&tables, None, None, &[sealed.0.id()], SeqNo::MAX)
                .map_err(fail)?;
        }
        self.count_runs();
        Ok(())
    }

    /// Does one step of compaction; says whether it changed anything.
    pub(super) fn compact(&self) -> Result<bool, TreeError> {
        let before = self.inner.current_version().id();
        // Before its first row is read, and again after its last, compaction holds the version lock.
        self.gate.enter(User::Compaction);
        let result = self.inner.compact(self.shared.compaction.clone(), SeqNo::MAX);
        self.gate.leave_compaction();
        self.count_runs();
        match result {
            Ok(()) => Ok(self.inner.current_version().id() != before),
            Err(_) if self.giving_up() => Ok(false),
            Err(error) => Err(TreeError(Box::new(error))),
        }
    }

    fn giving_up(&self) -> bool {
        self.shared.stopping() || self.dropped.load(Ordering::Acquire)
    }

    /// After a failed read: the first table file whose bytes do not fit their checksum.
    pub(super) fn find_damage(&self) -> Option<PathBuf> {
        let version = self.inner.current_version();
        let damaged = version
            .iter_tables()
            .find(|table| !hash_of(&table.path).is_ok_and(|sum| sum == table.checksum().into_u128()));
        damaged.map(|table| table.path.to_path_buf())
    }
}

/// The first table file of a tree that does not open whose bytes are not those that its manifest promises.
///
/// The manifest lists each table as `id u64 | kind of checksum u8 (0) | xxh3-128 of the file`, little-endian, and
/// [`check_manifest`] has proved it.
fn damaged_table(folder: &Path) -> Option<PathBuf> {
    let current = fs::read(folder.join("current")).ok()?;
    let version = u64::from_le_bytes(current.get(..8)?.try_into().ok()?);
    let manifest = fs::read(folder.join(format!("v{version}"))).ok()?;
    let lists = |entry: &[u8]| manifest.windows(entry.len()).any(|window| window == entry);
    fs::read_dir(folder.join(TABLES_FOLDER))
        .ok()?
        .flatten()
        .map(|file| file.path())
        .find(|path| {
            let id = path
                .file_name()
                .and_then(|name| name.to_str()?.parse::<u64>().ok());
            let Some(mut entry) = id.map(|id| [&id.to_le_bytes()[..], &[0]].concat()) else {
                return false;
            };
            let listed = lists(&entry);
            entry.extend(hash_of(path).unwrap_or_default().to_le_bytes());
            listed && !lists(&entry)
        })
}

/// Refuses tables with more sections than they have room for.
///
/// ```text
/// end of a table = "TOC!" | sections u32 | sections | trailer
/// trailer        = "SFA!" | version u8 | kind of checksum u8 | xxh3-128 of what begins with "TOC!" | where that begins u64 | its length u64
/// ```
fn check_contents(folder: &Path) -> Result<(), EngineError> {
    let tables = folder.join(TABLES_FOLDER);
    let names = match tables.try_exists() {
        Ok(false) => return Ok(()),
        _ => super::disk::names(&tables)?,
    };
    for path in names.iter().map(|name| tables.join(name)) {
        if !sections_fit(&path).map_err(EngineError::io("read the table", &path))? {
            let what = "it says that it has more sections than it has room for";
            return Err(EngineError::damaged(&path, what));
        }
    }
    Ok(())
}

/// True as well of what is no whole table: lsm-tree says what is wrong with it, or removes it.
fn sections_fit(path: &Path) -> io::Result<bool> {
    const TRAILER: usize = 4 + 1 + 1 + 16 + 8 + 8;
    let file = fs::File::open(path)?;
    let Some(end) = file.metadata()?.len().checked_sub(TRAILER as u64) else {
        return Ok(true);
    };
    let mut trailer = [0; TRAILER];
    file.read_exact_at(&mut trailer, end)?;
    let mut fields = Fields(&trailer);
    if fields.bytes(4) != Some(b"SFA!") {
        return Ok(true);
    }
    let begins = fields
        .bytes(1 + 1 + 16)
        .and_then(|_| fields.u64())
        .unwrap_or(u64::MAX);
    let Some(room) = end.checked_sub(begins).and_then(|bytes| bytes.checked_sub(8)) else {
        return Ok(true);
    };
    let mut head = [0; 8];
    file.read_exact_at(&mut head, begins)?;
    let mut fields = Fields(&head);
    let begins_well = fields.bytes(4) == Some(b"TOC!");
    // Each is longer than a byte.
    Ok(!begins_well || fields.u32().is_none_or(|sections| u64::from(sections) <= room))
}

fn hash_of(path: &Path) -> io::Result<u128> {
    let mut hash = HashWriter(xxhash_rust::xxh3::Xxh3Default::new());
    io::copy(&mut io::BufReader::new(fs::File::open(path)?), &mut hash)?;
    Ok(hash.0.digest128())
}

struct HashWriter(xxhash_rust::xxh3::Xxh3Default);

impl io::Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Compares the manifest that `current` names with the checksum that `current` carries.
///
/// ```text
/// current = version u64 | xxh3-128 of the file v<version> | kind u8 (0)
/// ```
fn check_manifest(folder: &Path) -> Result<(), EngineError> {
    let path = folder.join("current");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_new(folder)? => return Ok(()),
        Err(error) => {
            return Err(EngineError::Io {
                doing: "read",
                path,
                source: error,
            });
        }
    };
    let damaged = || EngineError::damaged(&path, "it does not name a manifest");
    let mut fields = Fields(&bytes);
    let version = fields.u64().ok_or_else(damaged)?;
    let sum = fields
        .bytes(16)
        .and_then(|b| b.try_into().ok())
        .map(u128::from_le_bytes)
        .ok_or_else(damaged)?;
    if fields.u8() != Some(0) || !fields.0.is_empty() {
        return Err(damaged());
    }
    let manifest = folder.join(format!("v{version}"));
    // Either file may be the damaged one, so both are named.
    let bytes = match fs::read(&manifest) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let what = format!(
                "it names the manifest `{}`, which is not there",
                manifest.display()
            );
            return Err(EngineError::damaged(&path, what));
        }
        Err(error) => return Err(EngineError::io("read the manifest", &manifest)(error)),
    };
    if xxhash_rust::xxh3::xxh3_128(&bytes) != sum {
        let what = format!("the manifest does not match its checksum in `{}`", path.display());
        return Err(EngineError::damaged(&manifest, what));
    }
    Ok(())
}

/// A folder that no tree was ever made in. Without this check a lost `current` would give an empty table.
fn is_new(folder: &Path) -> Result<bool, EngineError> {
    match fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(EngineError::Io {
            doing: "list",
            path: folder.to_path_buf(),
            source: error,
        }),
    }
}

/// Who may hold a tree's version lock for long: one at a time, and this says who.
///
/// Rotation holds up all writers while it waits for that lock, and compaction holds it through several fsyncs.
/// The lock itself can not be asked, but compaction makes our filter shortly before it lets go of the lock, and
/// ends it before it takes the lock again. (It shows the filter no deleted keys, so the first row is no sign.)
#[derive(Debug, Default)]
struct Gate {
    user: Mutex<Option<User>>,
    free: Condvar,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum User {
    Rotation,
    Compaction,
}

impl Gate {
    fn enter(&self, user: User) {
        let now = self.user.lock().unwrap_or_else(PoisonError::into_inner);
        let mut now = self
            .free
            .wait_while(now, |now| now.is_some())
            .unwrap_or_else(PoisonError::into_inner);
        *now = Some(user);
    }

    fn leave(&self) {
        *self.user.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.free.notify_all();
    }

    /// Lets go for compaction, which may do so twice.
    fn leave_compaction(&self) {
        let mut now = self.user.lock().unwrap_or_else(PoisonError::into_inner);
        if *now == Some(User::Compaction) {
            *now = None;
            self.free.notify_all();
        }
    }
}

struct GateHeld<'a>(&'a Gate);

impl Drop for GateHeld<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Paces compactions from the inside: a filter that keeps every row, and pauses.
struct CompactionPace {
    folder: PathBuf,
    pause: Duration,
    tree: AssertUnwindSafe<OnceLock<SequenceNumberCounter>>,
    stopping: Arc<AtomicBool>,
    dropped: Arc<AtomicBool>,
    l0_runs: Arc<AtomicUsize>,
    gate: Arc<Gate>,
}

impl Factory for CompactionPace {
    fn name(&self) -> &'static str {
        "pace"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        self.gate.leave_compaction();
        let files = self.tree.get().cloned().unwrap_or_default();
        Box::new(PacedCompaction {
            pacer: Pacer::new(self.folder.clone(), files.get(), self.pause),
            files,
            stopping: Arc::clone(&self.stopping),
            dropped: Arc::clone(&self.dropped),
            l0_runs: Arc::clone(&self.l0_runs),
            gate: Arc::clone(&self.gate),
        })
    }
}

struct PacedCompaction {
    pacer: Pacer,
    files: SequenceNumberCounter,
    stopping: Arc<AtomicBool>,
    dropped: Arc<AtomicBool>,
    l0_runs: Arc<AtomicUsize>,
    gate: Arc<Gate>,
}

impl CompactionFilter for PacedCompaction {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> lsm_tree::Result<Verdict> {
        if self.stopping.load(Ordering::Relaxed) || self.dropped.load(Ordering::Relaxed) {
            return Err(lsm_tree::Error::Io(io::ErrorKind::Interrupted.into()));
        }
        let bytes = item.key().len() + item.value()?.len();
        let behind = || self.l0_runs.load(Ordering::Relaxed) > L0_RUNS_HURRY;
        self.pacer.spend(bytes as u64, self.files.get(), behind)?;
        Ok(Verdict::Keep)
    }

    fn finish(self: Box<Self>) {
        // Next it takes the version lock to commit.
        self.gate.enter(User::Compaction);
    }
}
