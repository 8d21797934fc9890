//! Names and ids, each built by a constructor that checks it; inner code trusts them.
//!
//! Limits are in bytes of UTF-8. They keep a whole key far below what either store accepts.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest namespace name, in bytes.
pub const NAMESPACE_NAME_BYTES_MAX: usize = 48;
/// Longest time series id, in bytes.
pub const TIME_SERIES_ID_BYTES_MAX: usize = 1_024;
/// Longest event id, in bytes.
pub const EVENT_ID_BYTES_MAX: usize = 256;
/// Longest event item key, in bytes.
pub const ITEM_KEY_BYTES_MAX: usize = 256;
/// Longest event item value, in bytes.
pub const ITEM_VALUE_BYTES_MAX: usize = 1 << 20;
/// Most items in one event.
pub const EVENT_ITEMS_MAX: usize = 1_024;
/// Most bytes in one event, keys and values together.
pub const EVENT_BYTES_MAX: usize = 4 << 20;

/// Why a name or id was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidName {
    /// It has no bytes.
    #[error("{what} must not be empty")]
    Empty {
        /// What was being named.
        what: &'static str,
    },
    /// It has more bytes than may be stored.
    #[error("{what} has {bytes} bytes, at most {bytes_max} are allowed")]
    TooLong {
        /// What was being named.
        what: &'static str,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        bytes_max: usize,
    },
    /// It holds a character outside the allowed set.
    #[error("{what} `{name}` may hold only {allowed}")]
    Characters {
        /// What was being named.
        what: &'static str,
        /// The name as it came.
        name: String,
        /// The allowed set, in words.
        allowed: &'static str,
    },
}

fn check_length(what: &'static str, name: &str, bytes_max: usize) -> Result<(), InvalidName> {
    match name.len() {
        0 => Err(InvalidName::Empty { what }),
        bytes if bytes > bytes_max => Err(InvalidName::TooLong {
            what,
            bytes,
            bytes_max,
        }),
        _ => Ok(()),
    }
}

fn check_namespace(name: &str) -> Result<(), InvalidName> {
    check_length("namespace name", name, NAMESPACE_NAME_BYTES_MAX)?;
    let first_fits = name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    let rest_fits = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if first_fits && rest_fits {
        return Ok(());
    }
    Err(InvalidName::Characters {
        what: "namespace name",
        name: name.to_owned(),
        allowed: "ASCII letters, digits, `_` and `-`, starting with a letter or digit",
    })
}

fn check_slice(name: &str) -> Result<(), InvalidName> {
    check_length("time slice name", name, 16)?;
    if name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    {
        return Ok(());
    }
    Err(InvalidName::Characters {
        what: "time slice name",
        name: name.to_owned(),
        allowed: "lower-case ASCII letters, digits and `_`",
    })
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks a name and keeps it.
            pub fn new(name: impl Into<Arc<str>>) -> Result<Self, InvalidName> {
                let name = name.into();
                let check: fn(&str) -> Result<(), InvalidName> = $check;
                check(&name)?;
                Ok(Self(name))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The name's bytes, which is what order compares.
            pub fn as_bytes(&self) -> &[u8] {
                self.0.as_bytes()
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(name: String) -> Result<Self, InvalidName> {
                Self::new(name)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    };
}

name!(
    /// Name of a namespace: 1 to 48 of `A-Z a-z 0-9 _ -`, starting with a letter or digit.
    NamespaceName,
    check_namespace
);
name!(
    /// The entity that events belong to: 1 to 1,024 bytes of UTF-8.
    TimeSeriesId,
    |name| check_length("time_series_id", name, TIME_SERIES_ID_BYTES_MAX)
);
name!(
    /// What tells apart the events of one id at one time: 1 to 256 bytes of UTF-8.
    EventId,
    |name| check_length("event_id", name, EVENT_ID_BYTES_MAX)
);
name!(
    /// Key of an item in an event: 1 to 256 bytes of UTF-8.
    ItemKey,
    |name| check_length("event_item_key", name, ITEM_KEY_BYTES_MAX)
);
name!(
    /// Name of a time slice, made from its start by [`crate::layout::slice_at`]: `20260328`,
    /// `20260328_04`, or `all`.
    SliceName,
    check_slice
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_once_and_say_what_is_wrong() {
        assert!(NamespaceName::new("kafka-history_2").is_ok());
        assert_eq!(
            NamespaceName::new("").unwrap_err().to_string(),
            "namespace name must not be empty"
        );
        assert!(NamespaceName::new("_x").is_err());
        assert!(NamespaceName::new("a/b").is_err());
        assert!(NamespaceName::new("é").is_err());
        assert!(NamespaceName::new("n".repeat(49)).is_err());
        assert!(TimeSeriesId::new("x".repeat(TIME_SERIES_ID_BYTES_MAX)).is_ok());
        assert_eq!(
            TimeSeriesId::new("x".repeat(TIME_SERIES_ID_BYTES_MAX + 1))
                .unwrap_err()
                .to_string(),
            "time_series_id has 1025 bytes, at most 1024 are allowed"
        );
        assert!(TimeSeriesId::new("any\0thing, ünïcode").is_ok());
    }

    #[test]
    fn stored_names_are_checked_when_they_are_read_back() {
        assert!(serde_json::from_str::<NamespaceName>("\"a b\"").is_err());
        assert_eq!(
            serde_json::from_str::<NamespaceName>("\"ab\"").unwrap().as_str(),
            "ab"
        );
    }
}
