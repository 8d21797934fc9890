//! The committed SSTables, and what a table is compared with.

#![allow(dead_code, reason = "each test uses parts of it")]

use std::path::{Path, PathBuf};

pub(crate) mod committed;
pub(crate) mod damage;
pub(crate) mod dumps;
pub(crate) mod json;
pub(crate) mod select;

/// The folder of SSTables: one folder for each, with its components and what `sstabledump` says of it.
pub(crate) fn fixtures() -> PathBuf {
    match std::env::var_os("SSTABLE_FIXTURES") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"),
    }
}

/// The folders of all SSTables.
pub(crate) fn tables() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(fixtures()).unwrap();
    let mut folders: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    assert!(!folders.is_empty(), "{} holds no SSTables", fixtures().display());
    folders
}
