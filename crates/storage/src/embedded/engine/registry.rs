//! Which tables exist: the file `tables`.
//!
//! ```text
//! magic u64 | format u32 | store id u64 | next table id u32 | count u32 | (id u32, name length u16, name)* | crc32c u32
//! ```
//!
//! The file is replaced in one step. A tree's folder is made before the registry names it, and the registry
//! forgets it before the folder is deleted, so a crash leaves at most a folder that nothing names, and the
//! next open deletes it. Numbers are never used twice: log rows of a dropped table must not reach a new one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::disk::{self, Fields};
use super::error::EngineError;

/// Name of the registry in a store's folder.
pub(super) const REGISTRY_FILE: &str = "tables";

const MAGIC: u64 = u64::from_le_bytes(*b"ANBRTABL");
const FORMAT: u32 = 1;

/// Longest name of a table, in bytes.
pub(super) const NAME_BYTES_MAX: usize = 1_024;

/// The tables of a store, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registry {
    /// Drawn at creation, and mixed into the log's checksums: files of two stores can not be mixed up.
    pub(super) store: u64,
    pub(super) next: u32,
    pub(super) tables: BTreeMap<u32, String>,
}

impl Registry {
    pub(super) fn new(store: u64) -> Self {
        Self {
            store,
            next: 1,
            tables: BTreeMap::new(),
        }
    }

    pub(super) fn path(folder: &Path) -> PathBuf {
        folder.join(REGISTRY_FILE)
    }

    pub(super) fn save(&self, folder: &Path) -> Result<(), EngineError> {
        disk::replace_file(&Self::path(folder), &self.encode())
    }

    pub(super) fn load(folder: &Path) -> Result<Self, EngineError> {
        let path = Self::path(folder);
        let bytes = fs::read(&path).map_err(EngineError::io("read", &path))?;
        Self::decode(&bytes, &path)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(MAGIC.to_le_bytes());
        out.extend(FORMAT.to_le_bytes());
        out.extend(self.store.to_le_bytes());
        out.extend(self.next.to_le_bytes());
        out.extend(u32::try_from(self.tables.len()).unwrap_or(u32::MAX).to_le_bytes());
        for (id, name) in &self.tables {
            out.extend(id.to_le_bytes());
            out.extend(u16::try_from(name.len()).unwrap_or(u16::MAX).to_le_bytes());
            out.extend(name.as_bytes());
        }
        out.extend(crc32c::crc32c(&out).to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8], path: &Path) -> Result<Self, EngineError> {
        let damaged = |what: &str| EngineError::damaged(path, what);
        let (body, crc) = bytes
            .split_last_chunk::<4>()
            .ok_or_else(|| damaged("it is too short"))?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return Err(damaged("its checksum does not match"));
        }
        let mut fields = Fields(body);
        let short = || damaged("it ends too early");
        if fields.u64().ok_or_else(short)? != MAGIC {
            return Err(damaged("it is not a table registry"));
        }
        let format = fields.u32().ok_or_else(short)?;
        if format != FORMAT {
            return Err(EngineError::Format {
                path: path.to_path_buf(),
                found: format,
                known: FORMAT,
            });
        }
        let store = fields.u64().ok_or_else(short)?;
        let next = fields.u32().ok_or_else(short)?;
        let count = fields.u32().ok_or_else(short)?;
        let mut tables = BTreeMap::new();
        for _ in 0..count {
            let id = fields.u32().ok_or_else(short)?;
            let length = fields.u16().ok_or_else(short)?;
            let name = fields.bytes(length.into()).ok_or_else(short)?;
            let name = std::str::from_utf8(name).map_err(|_| damaged("a name is not UTF-8"))?;
            if id >= next || tables.insert(id, name.to_owned()).is_some() {
                return Err(damaged("a table number is out of order"));
            }
        }
        if !fields.0.is_empty() {
            return Err(damaged("bytes follow the last table"));
        }
        Ok(Self { store, next, tables })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn registry(names: Vec<String>) -> Registry {
        let mut registry = Registry::new(7);
        for name in names {
            registry.tables.insert(registry.next, name);
            registry.next += 3;
        }
        registry
    }

    proptest! {
        #[test]
        fn roundtrip_registry(names in prop::collection::vec("[a-z0-9_]{0,40}", 0..20)) {
            let registry = registry(names);
            prop_assert_eq!(Registry::decode(&registry.encode(), Path::new("tables")).unwrap(), registry);
        }

        #[test]
        fn any_flipped_bit_is_refused(names in prop::collection::vec("[a-z]{0,8}", 0..6), at in any::<prop::sample::Index>()) {
            let mut bytes = registry(names).encode();
            let bit = at.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let error = Registry::decode(&bytes, Path::new("some/tables")).unwrap_err();
            prop_assert!(error.to_string().contains("some/tables"), "{}", error);
        }
    }
}
