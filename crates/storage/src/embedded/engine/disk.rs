//! Small file operations with the syncs that make them last.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::error::EngineError;

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> Result<(), EngineError> {
    File::open(folder)
        .and_then(|f| f.sync_all())
        .map_err(EngineError::io("sync folder", folder))
}

/// Replaces a file in one step: after a crash it is the old one or the new one, whole.
pub(super) fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), EngineError> {
    let unfinished = path.with_extension("tmp");
    let write = || -> io::Result<()> {
        let mut file = File::create(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(EngineError::io("write", &unfinished))?;
    fs::rename(&unfinished, path).map_err(EngineError::io("rename into", path))?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}

/// Removes a folder and everything in it. A folder that is not there is as good as removed.
pub(super) fn remove_folder(folder: &Path) -> Result<(), EngineError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(EngineError::Io {
            doing: "remove folder",
            path: folder.to_path_buf(),
            source: error,
        }),
        _ => Ok(()),
    }
}

/// The names in a folder.
pub(super) fn names(folder: &Path) -> Result<Vec<String>, EngineError> {
    let read = || -> io::Result<Vec<String>> {
        fs::read_dir(folder)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    };
    read().map_err(EngineError::io("list folder", folder))
}

/// Reads little-endian numbers from the front of a slice; `None` when it is too short.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.bytes(1).map(|b| b[0])
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.bytes(2)?.try_into().ok().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.bytes(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.bytes(8)?.try_into().ok().map(u64::from_le_bytes)
    }
}
