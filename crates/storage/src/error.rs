//! Why a store could not do what it was asked, and what the caller should do about it.

use std::error::Error;

/// Any error, owned.
pub type BoxError = Box<dyn Error + Send + Sync + 'static>;

/// What the caller should do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Fix the request; sending it again can not help.
    Invalid,
    /// What was named is not there.
    NotFound,
    /// Too much at once: wait a little and send the same request again.
    Overloaded,
    /// Wait and send the same request again.
    Unavailable,
    /// It may have happened or not: read, or repeat what is safe to repeat.
    Unknown,
    /// Stored bytes break their own rules: stop and tell an operator.
    Corrupt,
}

/// An error of a library that names its causes itself, as one text: its chain would name each of them again.
#[cfg(feature = "cassandra")]
pub(crate) fn as_text(error: &dyn std::fmt::Display) -> BoxError {
    error.to_string().into()
}

/// Why a store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The table was never created, or has been dropped.
    #[error("table `{table}` does not exist")]
    NoTable {
        /// The table.
        table: String,
    },
    /// A stored row can not be what this program wrote.
    #[error("stored {what} can not be read: {reason}")]
    Corrupt {
        /// What was read, with its place.
        what: String,
        /// Which rule it breaks.
        reason: String,
    },
    /// The store has more waiting than it takes.
    #[error("store has too many writes waiting")]
    Overloaded,
    /// The store did not answer.
    #[error("store did not answer while {doing}")]
    Unavailable {
        /// What was being done.
        doing: &'static str,
        /// The cause.
        #[source]
        source: BoxError,
    },
    /// The store did not say whether it happened.
    #[error("store did not say whether it finished {doing}")]
    Unknown {
        /// What was being done.
        doing: &'static str,
        /// The cause.
        #[source]
        source: BoxError,
    },
    /// The store will not do it, however often it is asked: a right is missing, or a name is taken.
    #[error("store refused {doing}: {reason}")]
    Refused {
        /// What was being done.
        doing: &'static str,
        /// What it said, and what to do where that is known.
        reason: String,
    },
    /// The store can not be opened as asked.
    #[error("store can not be opened: {reason}")]
    Open {
        /// What is in the way, and what to do.
        reason: String,
        /// The cause.
        #[source]
        source: Option<BoxError>,
    },
}

impl StoreError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoTable { .. } => ErrorKind::NotFound,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Overloaded => ErrorKind::Overloaded,
            Self::Unavailable { .. } => ErrorKind::Unavailable,
            Self::Unknown { .. } => ErrorKind::Unknown,
            Self::Refused { .. } | Self::Open { .. } => ErrorKind::Invalid,
        }
    }
}
