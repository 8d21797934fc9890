//! How far back the log must still reach: the file `log/low`.
//!
//! ```text
//! magic u64 | low u64 | files u64 | store u64 | crc32c u32
//! ```
//!
//! - K4: a segment is used again only after every row in it is in synced, registered tables *and* this file
//!   says so. `low` is the highest commit that the log need not have any more.
//!
//! `files` is how many segment files there were: one that vanished is missed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::embedded::engine::disk::{self, Fields};
use crate::embedded::engine::error::EngineError;

/// Name of the file in the log's folder.
pub(in super::super) const LOW_FILE: &str = "low";
const MAGIC: u64 = u64::from_le_bytes(*b"ANBRLOWM");

/// The contents of `log/low`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Low {
    pub(in super::super) low: u64,
    pub(in super::super) files: u64,
}

impl Low {
    pub(super) fn path(folder: &Path) -> PathBuf {
        folder.join(LOW_FILE)
    }

    pub(super) fn save(self, folder: &Path, store: u64) -> Result<(), EngineError> {
        let mut out = Vec::new();
        for field in [MAGIC, self.low, self.files, store] {
            out.extend(field.to_le_bytes());
        }
        out.extend(crc32c::crc32c(&out).to_le_bytes());
        disk::replace_file(&Self::path(folder), &out)
    }

    pub(super) fn load(folder: &Path, store: u64) -> Result<Self, EngineError> {
        let path = Self::path(folder);
        let bytes = fs::read(&path).map_err(EngineError::io("read", &path))?;
        let damaged = |what: &str| EngineError::damaged(&path, what);
        let mut fields = Fields(&bytes);
        let mut next = || fields.u64().ok_or_else(|| damaged("it is too short"));
        let (magic, low, files, owner) = (next()?, next()?, next()?, next()?);
        if bytes.len() != 36 || magic != MAGIC || fields.u32() != Some(crc32c::crc32c(&bytes[..32])) {
            return Err(damaged("its checksum does not match"));
        }
        if owner != store {
            return Err(damaged("it belongs to another store"));
        }
        Ok(Self { low, files })
    }
}
