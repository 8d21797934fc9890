//! The format versions that are read, and what differs between them.

use std::fmt;

/// A format version, the first part of a component's file name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Cassandra 4.0 and later, and 5.0 in its default compatibility mode.
    Nb,
    /// Cassandra 5.0, BIG indexes.
    Oa,
    /// Cassandra 5.0, BTI indexes.
    Da,
}

impl Version {
    /// The version of this name, when it is written with this kind of index.
    pub fn parse(version: &str, index: &str) -> Option<Self> {
        match (version, index) {
            ("nb", "big") => Some(Self::Nb),
            ("oa", "big") => Some(Self::Oa),
            ("da", "bti") => Some(Self::Da),
            _ => None,
        }
    }

    /// Deletion times are unsigned and live until 2106, and "no deletion" takes one byte.
    pub(crate) fn has_unsigned_deletion_times(self) -> bool {
        self >= Self::Oa
    }

    /// `Statistics.db` holds the covered slice with its types, and the first and last key.
    pub(crate) fn has_key_range(self) -> bool {
        self >= Self::Oa
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nb => "nb",
            Self::Oa => "oa",
            Self::Da => "da",
        })
    }
}
