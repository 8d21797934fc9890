//! The files of the log.
//!
//! ```text
//! segment file = header block | frames …                 written with zeros and synced before first use
//! header       = magic u64 | number u64 | first commit u64 | chain u64 | file bytes u64 | store u64 | crc32c u32
//! ```
//!
//! Pre-written, because an fdatasync that changes neither size nor extents of a file does not wait for the
//! file system's journal. It is a draft until it is whole, and has no name of the log before. A file's name says nothing; its header's `number` orders the segments. A segment
//! ends where the next one's `first commit` says. The header is synced before the first frame is written, so a
//! blank header followed by a frame is damage.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frame::{BLOCK, Place, SECTOR};
use crate::embedded::engine::disk::{self, Fields};
use crate::embedded::engine::error::EngineError;
use crate::embedded::engine::pace::start_writing;

const MAGIC: u64 = u64::from_le_bytes(*b"ANBRSEGM");
const HEADER: usize = 52;
const DRAFT: &str = ".draft";

/// One file of the log, in use or not.
#[derive(Clone, Debug)]
pub(in super::super) struct SegmentFile {
    pub(in super::super) path: PathBuf,
    pub(super) file: Arc<File>,
    /// Length of the file, a multiple of the block size.
    pub(in super::super) bytes: u64,
}

/// What a segment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) number: u64,
    /// The commit of its first frame: one more than the last of the segment before.
    pub(super) first: u64,
    /// The link of the frame before its first.
    pub(super) chain: u64,
}

impl SegmentFile {
    /// Makes a new file full of zeros and syncs it; its name is not synced yet. `go_on` is asked after each MiB, and may
    /// pause: when it says no, the file is removed again and there is none.
    pub(super) fn make(
        path: PathBuf,
        bytes: u64,
        mut go_on: impl FnMut() -> bool,
    ) -> Result<Option<Self>, EngineError> {
        let bytes = bytes.next_multiple_of(BLOCK as u64);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .map_err(EngineError::io("create", &path))?;
        let zeros = vec![0; 1 << 20];
        let mut at = 0;
        while at < bytes {
            let step = (bytes - at).min(zeros.len() as u64);
            #[expect(clippy::cast_possible_truncation, reason = "at most one MiB")]
            file.write_all_at(&zeros[..step as usize], at)
                .map_err(EngineError::io("write", &path))?;
            // In steps, so that the disk's queue stays short for the commits that run beside this.
            start_writing(&file, at).map_err(EngineError::io("write", &path))?;
            at += step;
            if !go_on() {
                std::fs::remove_file(&path).map_err(EngineError::io("remove", &path))?;
                return Ok(None);
            }
        }
        file.sync_all().map_err(EngineError::io("sync", &path))?;
        Ok(Some(Self {
            path,
            file: Arc::new(file),
            bytes,
        }))
    }

    pub(super) fn rename(&mut self, to: PathBuf) -> Result<(), EngineError> {
        std::fs::rename(&self.path, &to).map_err(EngineError::io("rename into", &to))?;
        self.path = to;
        Ok(())
    }

    pub(super) fn open(path: &Path) -> Result<Self, EngineError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(EngineError::io("open", path))?;
        let bytes = file
            .metadata()
            .map_err(EngineError::io("read size of", path))?
            .len();
        Ok(Self {
            path: path.to_path_buf(),
            file: Arc::new(file),
            bytes: bytes / BLOCK as u64 * BLOCK as u64,
        })
    }

    /// Fills `out` from byte `at`; the caller stays inside the file.
    pub(super) fn read(&self, at: u64, out: &mut [u8]) -> Result<(), EngineError> {
        self.file
            .read_exact_at(out, at)
            .map_err(EngineError::io("read", &self.path))
    }

    /// Begins a new use of this file. Durable on return.
    pub(super) fn begin(&self, header: Header, store: u64) -> Result<(), EngineError> {
        let mut block = vec![0; BLOCK];
        let fields = [
            MAGIC,
            header.number,
            header.first,
            header.chain,
            self.bytes,
            store,
        ];
        for (to, field) in block.chunks_exact_mut(8).zip(fields) {
            to.copy_from_slice(&field.to_le_bytes());
        }
        let crc = crc32c::crc32c(&block[..HEADER - 4]);
        block[HEADER - 4..HEADER].copy_from_slice(&crc.to_le_bytes());
        self.file
            .write_all_at(&block, 0)
            .map_err(EngineError::io("write", &self.path))?;
        self.file.sync_data().map_err(EngineError::io("sync", &self.path))
    }

    /// Reads the header; `None` for a file that was never used.
    pub(super) fn header(&self, store: u64) -> Result<Option<Header>, EngineError> {
        if self.bytes < 2 * BLOCK as u64 {
            // The process ended while it made this file; no frame fits, so none was ever written.
            return Ok(None);
        }
        let mut block = vec![0; 2 * BLOCK];
        self.read(0, &mut block)?;
        if block[..SECTOR].iter().all(|b| *b == 0) {
            if block[BLOCK..].iter().any(|b| *b != 0) {
                return Err(EngineError::damaged(
                    &self.path,
                    "its header is gone, but commits follow it",
                ));
            }
            return Ok(None);
        }
        let damaged = |what: &str| EngineError::damaged(&self.path, what);
        let crc = crc32c::crc32c(&block[..HEADER - 4]);
        let mut fields = Fields(&block[..HEADER]);
        let mut next = || fields.u64().ok_or_else(|| damaged("its header is too short"));
        let (magic, number, first, chain, bytes, owner) =
            (next()?, next()?, next()?, next()?, next()?, next()?);
        if magic != MAGIC || fields.u32() != Some(crc) {
            return Err(damaged("its header does not match its checksum"));
        }
        if owner != store {
            return Err(damaged("it belongs to another store"));
        }
        if bytes != self.bytes {
            return Err(EngineError::damaged(
                &self.path,
                format!("it is {} bytes long and was made with {bytes}", self.bytes),
            ));
        }
        Ok(Some(Header { number, first, chain }))
    }

    pub(super) fn place(&self, number: u64, store: u64) -> Place {
        Place {
            store,
            segment: number,
        }
    }
}

/// The name of the n-th file of the log.
pub(super) fn file_name(n: u64) -> String {
    format!("{n:08}.seg")
}

/// The name of the n-th file that a process makes, until it is whole.
pub(super) fn draft_name(n: u64) -> String {
    format!("{n:08}{DRAFT}")
}

/// Removes what a process that ended left unfinished.
pub(super) fn remove_drafts(folder: &Path) -> Result<(), EngineError> {
    for name in disk::names(folder)?.iter().filter(|name| name.ends_with(DRAFT)) {
        let path = folder.join(name);
        std::fs::remove_file(&path).map_err(EngineError::io("remove", &path))?;
    }
    Ok(())
}

/// The number in a file name of the log.
pub(super) fn file_number(name: &str) -> Option<u64> {
    name.strip_suffix(".seg")?.parse().ok()
}
