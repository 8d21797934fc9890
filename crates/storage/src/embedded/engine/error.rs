//! Why the engine could not do what it was asked, and the one way in which it gives up.
//!
//! - K10: a storage error while running ends the process. After a failed write or sync nobody knows what
//!   the disk holds; opening again, which checks everything, is the only safe next step.
//!
//! Damage found while opening or reading is returned, with the name of the file, because nothing was
//! changed by finding it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::TableId;

/// Why the engine could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The operating system refused a file operation.
    #[error("could not {doing} `{}`", path.display())]
    Io {
        /// What was tried, as a verb phrase.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Stored bytes break their own rules: stop, and restore or tell an operator.
    #[error("`{}` is damaged: {what}", path.display())]
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// Which rule is broken.
        what: String,
    },
    /// The files of one table can not be read.
    #[error("table `{table}` can not be read from `{}`", path.display())]
    Tree {
        /// The table's name.
        table: String,
        /// The damaged file when it could be found, else the table's folder.
        path: PathBuf,
        /// What the table reader said.
        #[source]
        source: TreeError,
    },
    /// Another process, or another engine of this process, has the folder.
    #[error("`{}` is in use by another process", path.display())]
    Locked {
        /// The store's folder.
        path: PathBuf,
    },
    /// The folder holds files, but not those of a store.
    #[error("`{}` is not empty and is not a store: it has no file `tables`", path.display())]
    NotAStore {
        /// The folder.
        path: PathBuf,
    },
    /// The store was written by a version of this program that uses another format.
    #[error("`{}` has format {found}, this program reads format {known}", path.display())]
    Format {
        /// The file that carries the format number.
        path: PathBuf,
        /// Its number.
        found: u32,
        /// The number that this program reads.
        known: u32,
    },
    /// No table has this number, or it was dropped.
    #[error("table {0} does not exist")]
    UnknownTable(TableId),
    /// A row or a name that can not be stored. Sending it again can not help.
    #[error("refused: {0}")]
    Invalid(&'static str),
    /// One request is larger than a group may be.
    #[error("a write of {bytes} bytes is above the limit of {bytes_max}")]
    TooLarge {
        /// Size of the refused request.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// The queue before the log is full: reserve room and send it again.
    #[error("the write queue is full")]
    Busy,
    /// The engine was closed.
    #[error("the engine is closed")]
    Closed,
}

/// What the table reader said.
#[derive(Debug)]
pub struct TreeError(pub(super) Box<dyn std::error::Error + Send + Sync>);

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for TreeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl EngineError {
    /// An operating system error, with what was tried on which path.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { doing, path, source }
    }

    pub(super) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_path_buf(),
            what: what.into(),
        }
    }
}

/// K10: says what happened and ends the process, without unwinding.
///
/// This is the only place where the engine ends a process.
#[cold]
pub(super) fn fatal(doing: &str, error: &dyn std::error::Error) -> ! {
    let chain = anabranch_runtime::error_chain(error);
    tracing::error!(doing, error = %chain, "storage failed: the process ends here and must open the store again");
    std::process::abort()
}

/// Ends the process when a closure fails.
pub(super) fn or_die<T>(doing: &str, result: Result<T, EngineError>) -> T {
    result.unwrap_or_else(|error| fatal(doing, &error))
}
