//! One SSTable: what it says of itself, and the way to read it.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use crate::chunks::Chunks;
use crate::components::{Component, Components, Descriptor, Folder};
use crate::cql::Schema;
use crate::decode::Decoder;
use crate::error::{Result, SstableError};
use crate::reader::Reader;
use crate::snapshot;
use crate::statistics::{self, Statistics};

/// More than the names of any SSTable's components take.
const TOC_BYTES_MAX: u64 = 1 << 20;

/// An SSTable whose components are there and whose statistics have been read.
#[derive(Clone, Debug)]
pub struct Table {
    components: Arc<dyn Components>,
    statistics: Statistics,
    schema: Schema,
}

impl Table {
    /// Opens the SSTable that `path` names: one of its files, or a folder that holds no other SSTable.
    pub fn open(path: &Path) -> Result<Self> {
        Self::with(Arc::new(Folder::open(path)?))
    }

    /// Opens the SSTable that `path` names, or every SSTable of a folder, in the order of their generations as text. There is
    /// none only in the snapshot of a table that had none.
    ///
    /// # Errors
    /// Besides those of each SSTable: when the folder is a snapshot, and its `manifest.json` lists others than these.
    pub fn open_all(path: &Path) -> Result<Vec<Self>> {
        if !path.is_dir() {
            return Ok(vec![Self::open(path)?]);
        }
        let found = Folder::list(path)?;
        let has_manifest = snapshot::check_manifest(path, &found)?;
        if found.is_empty() && !has_manifest {
            return Err(Folder::none_in(path));
        }
        found
            .into_iter()
            .map(|table| Self::with(Arc::new(table)))
            .collect()
    }

    /// Opens an SSTable wherever its components are.
    pub fn with(components: Arc<dyn Components>) -> Result<Self> {
        check_contents(&*components)?;
        let (statistics, schema) = statistics::read(&*components)?;
        Ok(Self {
            components,
            statistics,
            schema,
        })
    }

    /// Format version and generation.
    pub fn descriptor(&self) -> &Descriptor {
        self.components.descriptor()
    }

    /// What the writer counted.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// What it was written with.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// A component's file name, as errors have it.
    pub fn file(&self, component: Component) -> String {
        self.components.name(component)
    }

    /// Starts a pass over the data.
    pub fn read(&self) -> Result<Reader> {
        let decoder = Decoder::new(self.descriptor().version, self.schema.clone());
        Reader::open(&*self.components, decoder, self.statistics.clone())
    }

    /// Bytes of the data file, uncompressed, and how they are compressed.
    pub(crate) fn data(&self) -> Result<(u64, String)> {
        let chunks = Chunks::open(&*self.components)?;
        Ok((chunks.uncompressed_length(), chunks.compression()))
    }
}

/// When there is a table of contents, it must agree on the components that are read.
fn check_contents(components: &dyn Components) -> Result<()> {
    let file: Arc<str> = components.name(Component::Toc).into();
    let io = |source| SstableError::Io {
        file: file.clone(),
        offset: 0,
        source,
    };
    let Some(stream) = components.open(Component::Toc).map_err(io)? else {
        return Ok(());
    };
    let mut text = String::new();
    stream
        .bytes
        .take(TOC_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(io)?;
    let damaged = |what| SstableError::Damaged {
        file: file.clone(),
        offset: 0,
        what,
    };
    if !text.ends_with('\n') {
        return Err(damaged("it is empty, or ends in the middle of a line".into()));
    }
    let listed: BTreeSet<&str> = text.lines().collect();
    for component in Component::ALL {
        let is_there = match component {
            Component::Toc => true,
            other => components.open(other).map_err(io)?.is_some(),
        };
        match (listed.contains(component.suffix()), is_there) {
            (true, false) => {
                let file = components.name(component).into();
                return Err(SstableError::Missing {
                    file,
                    why: "TOC.txt lists it",
                });
            }
            (false, true) => return Err(damaged(format!("it does not list {}", component.suffix()))),
            _ => {}
        }
    }
    Ok(())
}
