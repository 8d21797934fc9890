//! One process, one engine a folder.
//!
//! - K9: `lsm-tree` has no lock of its own, and opening a tree deletes every file that its manifest does not
//!   name. A second opener would delete what a running compaction has just written. So the lock is held
//!   until flush and compaction have ended and no snapshot is left.

use std::fs::{File, OpenOptions};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::error::EngineError;

/// Name of the lock file in a store's folder.
pub(super) const LOCK_FILE: &str = "LOCK";

/// The right to use a store's folder, for as long as it lives.
#[derive(Debug)]
pub(super) struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Takes the lock, or says that someone else has it.
    pub(super) fn take(folder: &Path) -> Result<Self, EngineError> {
        let path = folder.join(LOCK_FILE);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(EngineError::io("open", &path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(EngineError::Locked {
                path: folder.to_path_buf(),
            }),
            Err(errno) => Err(EngineError::Io {
                doing: "lock",
                path,
                source: errno.into(),
            }),
        }
    }
}
