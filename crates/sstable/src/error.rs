//! What can be wrong with an SSTable: always which file, and where in it.

use std::io;
use std::path::Path;
use std::sync::Arc;

/// Why an SSTable could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SstableError {
    /// A component that must be there is not.
    #[error("{file} is missing: {why}")]
    Missing {
        /// The component as it would be named.
        file: Arc<str>,
        /// Who asked for it.
        why: &'static str,
    },
    /// The bytes of a file break the rules of its format.
    #[error("{file} is damaged at byte {offset}: {what}")]
    Damaged {
        /// The damaged file.
        file: Arc<str>,
        /// Where in it.
        offset: u64,
        /// Which rule is broken.
        what: String,
    },
    /// The checksums are right and the content is not.
    #[error("{file} is malformed at byte {position} of its uncompressed data: {what}")]
    Malformed {
        /// The data file.
        file: Arc<str>,
        /// Where in it, counted in uncompressed bytes.
        position: u64,
        /// Which rule is broken.
        what: String,
    },
    /// A format, type, compressor or partitioner that this reader does not know.
    #[error("{file}: {what} is not supported")]
    Unsupported {
        /// The file that names it.
        file: Arc<str>,
        /// What is not supported.
        what: String,
    },
    /// What describes the table does not describe it, or describes another.
    #[error("{file} is not the schema of these SSTables: {what}")]
    Schema {
        /// The file with the schema.
        file: Arc<str>,
        /// What is wrong with it.
        what: String,
    },
    /// The folder does not hold one SSTable, or the path does not name one.
    #[error("{path}: {what}")]
    NotATable {
        /// The path as given.
        path: String,
        /// What was found instead.
        what: String,
    },
    /// The file system failed.
    #[error("{file} could not be read at byte {offset}")]
    Io {
        /// The file that was being read.
        file: Arc<str>,
        /// Where in it.
        offset: u64,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// The reader was used after it had failed.
    #[error("{file}: reading stopped at an earlier error")]
    Stopped {
        /// The data file.
        file: Arc<str>,
    },
    /// The output could not be written.
    #[error("the output could not be written")]
    Output {
        /// What the writer said.
        #[source]
        source: io::Error,
    },
}

impl SstableError {
    /// The path does not name what is wanted of it.
    pub(crate) fn not_a_table(path: &Path, what: impl Into<String>) -> Self {
        Self::NotATable {
            path: path.display().to_string(),
            what: what.into(),
        }
    }
}

/// What every fallible function here returns.
pub type Result<T, E = SstableError> = std::result::Result<T, E>;
