//! What Cassandra puts beside the SSTables of a snapshot, and the list of them: `manifest.json`.
//!
//! ```json
//! {"files":["nb-1-big-Data.db",".by_v/nb-2-big-Data.db"],"created_at":"2026-11-24T10:48:00Z","expires_at":null}
//! ```
//!
//! Cassandra's `SnapshotManifest` writes it. Of that only `files` is read: the `Data.db` of each SSTable of the table, and those
//! of its secondary indexes, which lie in folders of their own and are not read here. A node with several data folders lists
//! the SSTables of all of them in the first.
//!
//! - E2: an SSTable that a snapshot has lost, or that came into it later, is named.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::components::{Component, Components, Folder};
use crate::error::{Result, SstableError};

const MANIFEST: &str = "manifest.json";

/// Whether the folder has a manifest: then that must list these SSTables, and no other.
pub(crate) fn check_manifest(folder: &Path, found: &[Folder]) -> Result<bool> {
    let file = folder.join(MANIFEST);
    let Some(text) = read(&file)? else {
        return Ok(false);
    };
    let damaged = |what| SstableError::Damaged {
        file: shown(&file),
        offset: 0,
        what,
    };
    let listed = listed(&text).map_err(damaged)?;
    let found = found
        .iter()
        .map(|table| table.descriptor().file_name(Component::Data));
    let found: BTreeSet<String> = found.collect();
    if let Some(missing) = listed.difference(&found).next() {
        return Err(SstableError::Missing {
            file: shown(&folder.join(missing)),
            why: "manifest.json lists it",
        });
    }
    match found.difference(&listed).next() {
        Some(unlisted) => Err(damaged(format!("it does not list {unlisted}"))),
        None => Ok(true),
    }
}

/// The files of the folder itself.
fn listed(text: &str) -> Result<BTreeSet<String>, String> {
    let manifest: Value = serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))?;
    let files = manifest.get("files").and_then(Value::as_array);
    let files = files.ok_or("it has no list of files")?;
    let names = files
        .iter()
        .map(|name| name.as_str().ok_or("a file that it lists has no name"));
    let names: Vec<&str> = names.collect::<Result<_, _>>()?;
    let own = names.into_iter().filter(|name| !name.contains('/'));
    Ok(own.map(str::to_owned).collect())
}

/// The text of a file, if it is there.
pub(crate) fn read(file: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SstableError::Io {
            file: shown(file),
            offset: 0,
            source,
        }),
    }
}

/// A path as errors have it.
pub(crate) fn shown(path: &Path) -> Arc<str> {
    path.display().to_string().into()
}
