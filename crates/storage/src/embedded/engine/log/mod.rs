//! The commit log: one for all tables.
//!
//! ```text
//! group ─▶ frame ─▶ segment in use ─full─▶ sealed segments ─flushed, `low` says so─▶ free segments ─▶ …
//! ```
//!
//! - K5: frame n+1 is written only after frame n is synced, and says so in `durable`.
//! - K4: see `low`.
//!
//! `frame` is the format of a commit, `segment` that of a file, `recover` reads all of it back.

mod frame;
mod low;
mod recover;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(super) use frame::{FrameHead, ROW_HEAD, decode_row, encode_row};
pub(super) use low::{LOW_FILE, Low};
pub(super) use recover::Recovered;
pub(super) use segment::SegmentFile;

use super::disk;
use super::error::EngineError;
use super::options::{Fault, FaultHook};
use super::pace::now;
use segment::Header;

/// Name of the log's folder in a store's folder.
pub(super) const LOG_FOLDER: &str = "log";
/// Size of the first file of a store and of those made in a hurry; full-size ones follow when they are needed.
const FIRST_SEGMENT_BYTES: u64 = 4 << 20;

/// Called with the file, head and payload of each frame, in order.
pub(super) type Visit<'a> = dyn FnMut(&Path, &FrameHead, &[u8]) -> Result<(), EngineError> + 'a;

/// A segment whose rows may not all be in tables yet.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) first: u64,
    /// Its last commit; of the segment in use, the last commit when it was begun or recovered.
    pub(super) last: u64,
    number: u64,
    file: SegmentFile,
}

/// All files of the log but the one in use.
#[derive(Debug)]
pub(super) struct Lists {
    pub(super) live: VecDeque<Live>,
    pub(super) free: Vec<SegmentFile>,
    /// How many files were ever made; also the name of the newest.
    pub(super) files: u64,
    /// How many segments this process has filled.
    pub(super) switched: u64,
}

/// The files of the log, as the threads share them.
#[derive(Debug)]
pub(super) struct Segments {
    folder: PathBuf,
    store: u64,
    segment_bytes: u64,
    lists: Mutex<Lists>,
    /// How many files this process began to make.
    drafts: AtomicU64,
    stored: Mutex<Low>,
}

impl Segments {
    pub(super) fn lists(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes another file, unless `go_on` says no. It is counted when it is there under its name: `low` must not
    /// count a file that a kill can still prevent.
    fn create(&self, bytes: u64, go_on: impl FnMut() -> bool) -> Result<Option<SegmentFile>, EngineError> {
        let draft = self.drafts.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join(segment::draft_name(draft));
        let Some(mut file) = SegmentFile::make(path, bytes, go_on)? else {
            return Ok(None);
        };
        {
            let mut lists = self.lists();
            file.rename(self.folder.join(segment::file_name(lists.files + 1)))?;
            lists.files += 1;
        }
        disk::sync_folder(&self.folder)?;
        Ok(Some(file))
    }

    /// Makes a file now, while a write waits for it.
    fn create_now(&self, bytes: u64) -> Result<SegmentFile, EngineError> {
        self.create(bytes, || true)?.ok_or(EngineError::Closed)
    }

    /// Adds one full-size file to the free ones, unless `go_on` says no.
    pub(super) fn make_spare(&self, go_on: impl FnMut() -> bool) -> Result<(), EngineError> {
        let file = self.create(self.segment_bytes, go_on)?;
        self.lists().free.extend(file);
        Ok(())
    }

    /// K4: lets go of every sealed segment whose last commit is at or below `low`.
    pub(super) fn release(&self, low: u64) -> Result<(), EngineError> {
        let (files, some) = {
            let lists = self.lists();
            (lists.files, lists.live.front().is_some_and(|l| l.last <= low))
        };
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        if !some && stored.files == files {
            return Ok(());
        }
        let next = Low {
            low: if some { low.max(stored.low) } else { stored.low },
            files,
        };
        if files > stored.files {
            // Their names must last before they are counted.
            disk::sync_folder(&self.folder)?;
        }
        next.save(&self.folder, self.store)?;
        *stored = next;
        let mut lists = self.lists();
        while lists.live.front().is_some_and(|l| l.last <= next.low) {
            if let Some(live) = lists.live.pop_front() {
                lists.free.push(live.file);
            }
        }
        Ok(())
    }
}

/// The end of the log, owned by the log thread.
#[derive(Debug)]
pub(super) struct Log {
    segments: Arc<Segments>,
    file: SegmentFile,
    header: Header,
    /// Where the next frame begins.
    at: u64,
    /// The last commit written, which is synced.
    commit: u64,
    chain: u64,
    next_number: u64,
    buffer: Vec<u8>,
    faults: Option<FaultHook>,
}

/// How long one append took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Appended {
    pub(super) commit: u64,
    pub(super) bytes: u64,
    pub(super) sync: Duration,
}

/// Makes the log of a new store: one segment, and `low`.
pub(super) fn create(folder: &Path, store: u64, segment_bytes: u64) -> Result<(), EngineError> {
    std::fs::create_dir_all(folder).map_err(EngineError::io("create folder", folder))?;
    let path = folder.join(segment::file_name(1));
    let bytes = segment_bytes.min(FIRST_SEGMENT_BYTES);
    let file = SegmentFile::make(path, bytes, || true)?.ok_or(EngineError::Closed)?;
    file.begin(
        Header {
            number: 1,
            first: 1,
            chain: store,
        },
        store,
    )?;
    Low { low: 0, files: 1 }.save(folder, store)
}

/// Reads the log of a store; `visit` is called with every frame that it must still have, in order.
pub(super) fn read(
    folder: &Path,
    store: u64,
    visit: &mut Visit<'_>,
) -> Result<(Recovered, Low), EngineError> {
    let low = Low::load(folder, store)?;
    Ok((recover::recover(folder, store, low, visit)?, low))
}

impl Log {
    /// Goes on behind what was read, in a new segment: the area behind a torn frame is never written again.
    pub(super) fn resume(
        folder: &Path,
        store: u64,
        segment_bytes: u64,
        (mut recovered, low): (Recovered, Low),
        faults: Option<FaultHook>,
    ) -> Result<(Self, Arc<Segments>), EngineError> {
        segment::remove_drafts(folder)?;
        // An empty last segment has the same first commit as the one begun here, which makes it free.
        let empty = recovered.lists.live.pop_back_if(|l| l.first > l.last);
        let segments = Arc::new(Segments {
            folder: folder.to_path_buf(),
            store,
            segment_bytes,
            lists: Mutex::new(recovered.lists),
            drafts: AtomicU64::new(0),
            stored: Mutex::new(low),
        });
        let first = segments.lists().free.pop();
        let file = match first {
            Some(file) if file.bytes >= 4 * frame::BLOCK as u64 => file,
            _ => segments.create_now(segment_bytes.min(FIRST_SEGMENT_BYTES))?,
        };
        let header = Header {
            number: recovered.next_number,
            first: recovered.commit + 1,
            chain: recovered.chain,
        };
        file.begin(header, store)?;
        if let Some(empty) = empty {
            segments.lists().free.push(empty.file);
        }
        let log = Self {
            segments: Arc::clone(&segments),
            file,
            header,
            at: frame::BLOCK as u64,
            commit: recovered.commit,
            chain: recovered.chain,
            next_number: recovered.next_number + 1,
            buffer: Vec::new(),
            faults,
        };
        Ok((log, segments))
    }

    /// Writes and syncs one group. `payload` is the rows, already encoded, in any number of pieces.
    pub(super) fn append(
        &mut self,
        seqno: u64,
        rows: u32,
        payload: &[impl AsRef<[u8]>],
    ) -> Result<Appended, EngineError> {
        let length: usize = payload.iter().map(|p| p.as_ref().len()).sum();
        let bytes = frame::frame_bytes(length) as u64;
        if self.at + bytes > self.file.bytes {
            self.switch(bytes)?;
        }
        let head = FrameHead {
            rows,
            commit: self.commit + 1,
            durable: self.commit,
            seqno,
            chain: self.chain,
        };
        let place = self.file.place(self.header.number, self.segments.store);
        let crc = frame::encode(place, self.at, &head, payload, &mut self.buffer);
        self.fault(Fault::LogWrite)?;
        self.file
            .file
            .write_all_at(&self.buffer, self.at)
            .map_err(EngineError::io("write", &self.file.path))?;
        let before = now();
        self.fault(Fault::LogSync)?;
        self.file
            .file
            .sync_data()
            .map_err(EngineError::io("sync", &self.file.path))?;
        let sync = before.elapsed();
        self.at += bytes;
        self.commit = head.commit;
        self.chain = frame::link(self.chain, head.commit, crc);
        if self.buffer.capacity() > 4 << 20 {
            self.buffer = Vec::new();
        }
        Ok(Appended {
            commit: head.commit,
            bytes,
            sync,
        })
    }

    /// How full the segment in use is, from 0 to 1.
    pub(super) fn fullness(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let share = self.at as f64 / self.file.bytes as f64;
        share
    }

    /// Seals the segment in use and begins another with room for `bytes`.
    fn switch(&mut self, bytes: u64) -> Result<(), EngineError> {
        let needed = bytes + frame::BLOCK as u64;
        let spare = {
            let mut lists = self.segments.lists();
            // The largest: the small ones made at the start are for stores that hardly write.
            let best = (0..lists.free.len()).max_by_key(|n| lists.free[*n].bytes);
            match best {
                Some(n) if lists.free[n].bytes >= needed => Some(lists.free.swap_remove(n)),
                _ => None,
            }
        };
        // Without a spare the write waits here for zeros: a small file, while a chore makes a large one.
        let file = match spare {
            Some(file) => file,
            None => {
                let small = self.segments.segment_bytes.min(FIRST_SEGMENT_BYTES);
                self.segments.create_now(small.max(needed))?
            }
        };
        let header = Header {
            number: self.next_number,
            first: self.commit + 1,
            chain: self.chain,
        };
        file.begin(header, self.segments.store)?;
        let sealed = Live {
            first: self.header.first,
            last: self.commit,
            number: self.header.number,
            file: std::mem::replace(&mut self.file, file),
        };
        let mut lists = self.segments.lists();
        if sealed.first > sealed.last {
            lists.free.push(sealed.file);
        } else {
            lists.live.push_back(sealed);
        }
        lists.switched += 1;
        drop(lists);
        self.header = header;
        self.next_number += 1;
        self.at = frame::BLOCK as u64;
        Ok(())
    }

    fn fault(&self, fault: Fault) -> Result<(), EngineError> {
        match &self.faults {
            None => Ok(()),
            Some(hook) => hook
                .check(fault)
                .map_err(EngineError::io("write", &self.file.path)),
        }
    }
}
