//! Making and opening a store.
//!
//! ```text
//! make:  sibling folder, whole and synced ─▶ rename into place
//! open:  LOCK ─▶ registry ─▶ remove unnamed trees ─▶ trees ─▶ log, replayed ─▶ new segment ─▶ threads
//! ```
//!
//! A store that appears under its name is complete, so a process that ends in the first second leaves either
//! nothing, or a sibling that the next open removes.
//!
//! Replaying twice changes nothing: same key, same sequence number, same value.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::disk;
use super::error::EngineError;
use super::lock::FolderLock;
use super::log::{self, LOG_FOLDER, Log};
use super::options::{EngineOptions, OpenReport};
use super::pace::now;
use super::registry::{REGISTRY_FILE, Registry};
use super::store::{Parts, Store, TREES_FOLDER, Tables};
use super::tree::{Shared, Tree};
use super::view::Table;
use super::writer::Run;
use super::{TableId, apply};

/// Target size of the files that compaction writes.
const TABLE_BYTES: u64 = 64 << 20;

/// Opens the store in a folder; makes one if the folder is missing or empty.
pub(super) fn open(folder: &Path, options: EngineOptions) -> Result<(Store, Log, OpenReport), EngineError> {
    let since = now();
    let mut report = OpenReport::default();
    remove_unfinished(folder)?;
    let made = if is_missing_or_empty(folder)? {
        make(folder, &options)?
    } else {
        None
    };
    report.created = made.is_some();
    if !Registry::path(folder).exists() {
        return Err(EngineError::NotAStore {
            path: folder.to_path_buf(),
        });
    }
    let lock = Arc::new(match made {
        Some(lock) => lock,
        None => FolderLock::take(folder)?,
    });
    let log_folder = folder.join(LOG_FOLDER);
    // Written by a process that ended before it could rename them.
    for unfinished in [Registry::path(folder), log_folder.join(log::LOW_FILE)] {
        let _ = fs::remove_file(unfinished.with_extension("tmp"));
    }

    let registry = Registry::load(folder)?;
    let trees = folder.join(TREES_FOLDER);
    report.folders_removed = remove_unnamed(&trees, &registry)?;
    report.tables = registry.tables.len();
    let shared = Shared::new(
        options.block_cache_bytes,
        options.open_files_max,
        TABLE_BYTES,
        options.pause,
    );
    let mut tables = Tables::new();
    for (id, name) in &registry.tables {
        let path = trees.join(id.to_string());
        if !path.join("current").exists() {
            return Err(EngineError::damaged(&path.join("current"), "the file is missing"));
        }
        let tree = Tree::open(&path, name, &shared)?;
        if let Some(seqno) = tree.highest_persisted() {
            shared.skip_seqno(seqno);
        }
        tables.insert(
            *id,
            Arc::new(Table::new(TableId(*id), name.clone(), tree, Arc::clone(&lock))),
        );
    }

    let mut replay = Replay::new(&tables, &shared);
    let read = log::read(&log_folder, registry.store, &mut |path, head, payload| {
        replay.frame(path, head, payload)
    })?;
    report.commits = replay.commits;
    report.rows_replayed = replay.rows;
    report.torn.clone_from(&read.0.torn);
    if let Some((commit, file)) = &report.torn {
        tracing::warn!(commit, file = %file.display(), "cut a commit that was never acknowledged");
    }
    let commit = read.0.commit;
    let faults = options.faults.clone();
    let (log, segments) = Log::resume(&log_folder, registry.store, options.segment_bytes, read, faults)?;
    let store = Store::new(Parts {
        folder: folder.to_path_buf(),
        options,
        shared,
        segments,
        tables,
        registry,
        commit,
        lock,
    });
    report.took = since.elapsed();
    Ok((store, log, report))
}

/// Puts the rows of the log that are in no table yet back into memory.
struct Replay<'a> {
    tables: &'a Tables,
    shared: &'a Shared,
    persisted: BTreeMap<u32, u64>,
    commits: u64,
    rows: u64,
}

impl<'a> Replay<'a> {
    fn new(tables: &'a Tables, shared: &'a Shared) -> Self {
        let persisted = tables
            .iter()
            .filter_map(|(id, table)| Some((*id, table.tree.highest_persisted()?)))
            .collect();
        Self {
            tables,
            shared,
            persisted,
            commits: 0,
            rows: 0,
        }
    }

    fn frame(&mut self, path: &Path, head: &log::FrameHead, payload: &[u8]) -> Result<(), EngineError> {
        self.commits += 1;
        self.shared.skip_seqno(head.seqno);
        let mut rest = payload;
        let mut rows = 0;
        while !rest.is_empty() {
            // Rows are sorted by table: take all of one table together.
            let start = rest;
            let mut table = None;
            loop {
                let mut next = rest;
                match log::decode_row(&mut next) {
                    Some(row) if *table.get_or_insert(row.table) == row.table => {
                        rest = next;
                        rows += 1;
                    }
                    Some(_) => break,
                    None if rest.is_empty() => break,
                    None => {
                        let what = format!("commit {} holds a row that can not be read", head.commit);
                        return Err(EngineError::damaged(path, what));
                    }
                }
            }
            let Some(id) = table else { break };
            let run = &start[..start.len() - rest.len()];
            self.run(id, run, head);
        }
        if rows != head.rows {
            let what = format!(
                "commit {} holds {rows} rows and was written with {}",
                head.commit, head.rows
            );
            return Err(EngineError::damaged(path, what));
        }
        Ok(())
    }

    fn run(&mut self, id: u32, encoded: &[u8], head: &log::FrameHead) {
        // A table that is not there was dropped after this commit.
        let Some(table) = self.tables.get(&id) else { return };
        if self
            .persisted
            .get(&id)
            .is_some_and(|highest| head.seqno <= *highest)
        {
            return;
        }
        let run = Run::decode(TableId(id), Bytes::copy_from_slice(encoded));
        self.rows += run.rows.len() as u64;
        apply::insert(table, &run, head.seqno, head.commit);
    }
}

fn is_missing_or_empty(folder: &Path) -> Result<bool, EngineError> {
    match fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(EngineError::Io {
            doing: "list folder",
            path: folder.to_path_buf(),
            source: error,
        }),
    }
}

/// Makes a store beside its place and moves it there; `None` if someone else was quicker.
fn make(folder: &Path, options: &EngineOptions) -> Result<Option<FolderLock>, EngineError> {
    let (parent, prefix) = sibling(folder);
    fs::create_dir_all(&parent).map_err(EngineError::io("create folder", &parent))?;
    // The standard library's hash keys come from the system's randomness.
    let store = std::hash::RandomState::new().build_hasher().finish();
    let beside = parent.join(format!("{prefix}{}-{store:016x}", std::process::id()));
    fs::create_dir(&beside).map_err(EngineError::io("create folder", &beside))?;
    let lock = FolderLock::take(&beside)?;
    let trees = beside.join(TREES_FOLDER);
    fs::create_dir(&trees).map_err(EngineError::io("create folder", &trees))?;
    log::create(&beside.join(LOG_FOLDER), store, options.segment_bytes)?;
    Registry::new(store).save(&beside)?;
    disk::sync_folder(&beside)?;
    match fs::rename(&beside, folder) {
        Ok(()) => {}
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
            ) =>
        {
            disk::remove_folder(&beside)?;
            return Ok(None);
        }
        Err(error) => {
            return Err(EngineError::Io {
                doing: "move the new store to",
                path: folder.to_path_buf(),
                source: error,
            });
        }
    }
    disk::sync_folder(&parent)?;
    // The lock is on the file, which moved with the folder.
    Ok(Some(lock))
}

/// Removes what processes left that ended while they made this store.
fn remove_unfinished(folder: &Path) -> Result<(), EngineError> {
    let (parent, prefix) = sibling(folder);
    if !parent.is_dir() {
        return Ok(());
    }
    for name in disk::names(&parent)?.iter().filter(|n| n.starts_with(&prefix)) {
        let leftover = parent.join(name);
        // Someone may be making it right now.
        if FolderLock::take(&leftover).is_ok() {
            disk::remove_folder(&leftover)?;
        }
    }
    Ok(())
}

fn sibling(folder: &Path) -> (PathBuf, String) {
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    (parent, format!(".{name}.creating-"))
}

/// Removes the folders of dropped tables and of tables that were never finished. Their numbers may be given
/// out again only in the second case, so it must happen before.
fn remove_unnamed(trees: &Path, registry: &Registry) -> Result<usize, EngineError> {
    if !trees.is_dir() {
        return Err(EngineError::damaged(
            trees,
            format!("the folder is missing, `{REGISTRY_FILE}` is there"),
        ));
    }
    let mut removed = 0;
    for name in disk::names(trees)? {
        let Ok(id) = name.parse::<u32>() else { continue };
        if !registry.tables.contains_key(&id) {
            disk::remove_folder(&trees.join(name))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// What replay left in memory pins old segments: flushed early, so that restarts do not pile them up.
pub(super) fn settle(store: &Store) {
    if store.buffered.load(Ordering::Relaxed) > store.options.memtable_bytes {
        store.flush.ring();
    }
}
