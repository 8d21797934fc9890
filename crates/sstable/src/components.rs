//! The files of one SSTable: how they are named, and where their bytes come from.
//!
//! A table is read through [`Components`], so that it may lie in a folder, in memory, or elsewhere. Only
//! sequential reads are asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};

use crate::error::{Result, SstableError};
use crate::version::Version;

/// A component that a sequential read uses. Index and filter files are not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// The partitions.
    Data,
    /// Compressor, chunk length and chunk offsets of compressed data.
    CompressionInfo,
    /// Chunk checksums of uncompressed data.
    Crc,
    /// The checksum of the whole data file.
    Digest,
    /// Statistics, and the schema the data was written with.
    Statistics,
    /// Which components there are.
    Toc,
}

impl Component {
    /// Every component, in the order of their names.
    pub const ALL: [Self; 6] = [
        Self::Data,
        Self::CompressionInfo,
        Self::Crc,
        Self::Digest,
        Self::Statistics,
        Self::Toc,
    ];

    /// The last part of the component's file name.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Data => "Data.db",
            Self::CompressionInfo => "CompressionInfo.db",
            Self::Crc => "CRC.db",
            Self::Digest => "Digest.crc32",
            Self::Statistics => "Statistics.db",
            Self::Toc => "TOC.txt",
        }
    }
}

/// What the file names of one SSTable have in common: `nb-1-big`, `da-3h5p_0t01_3ntdm2sm2tu0k2cjor-bti`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Descriptor {
    /// The format version.
    pub version: Version,
    /// A number or a time-ordered id: opaque here.
    pub generation: String,
}

impl Descriptor {
    /// The descriptor in the name of any component, or `None` when the name is no component's.
    fn split(name: &str) -> Option<(&str, &str, &str, &str)> {
        let mut parts = name.splitn(4, '-');
        let found = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let short = found.0.len() == 2 && !found.1.is_empty() && found.2.len() == 3;
        short.then_some(found)
    }

    /// The file name of a component.
    pub fn file_name(&self, component: Component) -> String {
        format!("{self}-{}", component.suffix())
    }
}

impl fmt::Display for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let index = match self.version {
            Version::Nb | Version::Oa => "big",
            Version::Da => "bti",
        };
        write!(f, "{}-{}-{index}", self.version, self.generation)
    }
}

/// A component's bytes, front to back.
pub struct Stream {
    /// How many bytes there are.
    pub length: u64,
    /// The bytes.
    pub bytes: Box<dyn Read + Send>,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// The components of one SSTable.
pub trait Components: fmt::Debug + Send + Sync {
    /// Which SSTable this is.
    fn descriptor(&self) -> &Descriptor;
    /// The component as errors shall name it.
    fn name(&self, component: Component) -> String;
    /// The component from its first byte, or `None` when there is none.
    fn open(&self, component: Component) -> io::Result<Option<Stream>>;
}

/// An SSTable in a folder of the file system.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
    descriptor: Descriptor,
}

impl Folder {
    /// The SSTable that `path` names: one of its files, or a folder that holds no other SSTable.
    pub fn open(path: &Path) -> Result<Self> {
        let not_a_table = |what: &str| SstableError::not_a_table(path, what);
        if path.is_dir() {
            let mut tables = Self::list(path)?;
            return match (tables.pop(), tables.pop()) {
                (Some(table), None) => Ok(table),
                (Some(last), Some(before)) => Err(not_a_table(&format!(
                    "holds several SSTables, among them {} and {}: name the Data.db of one",
                    before.descriptor, last.descriptor
                ))),
                _ => Err(Self::none_in(path)),
            };
        }
        if !path.is_file() {
            return Err(not_a_table("is neither a file nor a folder"));
        }
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let folder = path.parent().unwrap_or(Path::new(""));
        match Descriptor::split(name) {
            Some((version, generation, index, _)) => Self::of(folder, version, generation, index),
            None => Err(not_a_table("is not named like a component of an SSTable")),
        }
    }

    /// Every SSTable of a folder, by generation; other files are passed over.
    pub fn list(folder: &Path) -> Result<Vec<Self>> {
        let io = |source| SstableError::Io {
            file: folder.display().to_string().into(),
            offset: 0,
            source,
        };
        let mut found = BTreeSet::new();
        for entry in std::fs::read_dir(folder).map_err(io)? {
            let name = entry.map_err(io)?.file_name();
            let parts = name.to_str().and_then(Descriptor::split);
            if let Some((version, generation, index, component)) = parts {
                // Any component counts, so that a table without its Data.db is noticed.
                let known = Component::ALL.iter().any(|known| known.suffix() == component);
                if known {
                    found.insert((generation.to_owned(), version.to_owned(), index.to_owned()));
                }
            }
        }
        let tables = found.iter();
        tables
            .map(|(generation, version, index)| Self::of(folder, version, generation, index))
            .collect()
    }

    fn of(folder: &Path, version: &str, generation: &str, index: &str) -> Result<Self> {
        let Some(known) = Version::parse(version, index) else {
            let stem = folder.join(format!("{version}-{generation}-{index}"));
            return Err(SstableError::Unsupported {
                file: stem.display().to_string().into(),
                what: format!("format `{version}` with `{index}` indexes"),
            });
        };
        let generation = generation.to_owned();
        Ok(Self {
            path: folder.to_owned(),
            descriptor: Descriptor {
                version: known,
                generation,
            },
        })
    }

    /// What is wrong with a folder without SSTables.
    pub(crate) fn none_in(folder: &Path) -> SstableError {
        SstableError::not_a_table(folder, "holds no SSTable")
    }

    fn path_of(&self, component: Component) -> PathBuf {
        self.path.join(self.descriptor.file_name(component))
    }
}

impl Components for Folder {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn name(&self, component: Component) -> String {
        self.path_of(component).display().to_string()
    }

    fn open(&self, component: Component) -> io::Result<Option<Stream>> {
        let file = match File::open(self.path_of(component)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let length = file.metadata()?.len();
        Ok(Some(Stream {
            length,
            bytes: Box::new(io::BufReader::with_capacity(256 << 10, file)),
        }))
    }
}

/// An SSTable held in memory.
#[derive(Clone, Debug)]
pub struct InMemory {
    /// Which SSTable this is.
    pub descriptor: Descriptor,
    /// Its components.
    pub components: BTreeMap<Component, Bytes>,
}

impl InMemory {
    /// Copies another table's components into memory.
    pub fn copy(from: &dyn Components) -> io::Result<Self> {
        let mut components = BTreeMap::new();
        for component in Component::ALL {
            if let Some(mut stream) = from.open(component)? {
                let mut bytes = Vec::new();
                stream.bytes.read_to_end(&mut bytes)?;
                components.insert(component, bytes.into());
            }
        }
        Ok(Self {
            descriptor: from.descriptor().clone(),
            components,
        })
    }
}

impl Components for InMemory {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn name(&self, component: Component) -> String {
        self.descriptor.file_name(component)
    }

    fn open(&self, component: Component) -> io::Result<Option<Stream>> {
        Ok(self.components.get(&component).map(|bytes| Stream {
            length: bytes.len() as u64,
            bytes: Box::new(bytes.clone().reader()),
        }))
    }
}
