//! Names of keyspaces and tables, made of checked parts only.
//!
//! ```text
//! <keyspace>                                   what all namespaces share: records, and which tables there are
//! <keyspace>_<namespace>                       the events of a namespace whose name fits as it is
//! <keyspace>_<what fits of it>__<20 of a hash>  of one that does not: too long, `-`, upper case, `__`
//! ```
//!
//! Every name is a [`CqlName`]: lower-case letters, digits and `_`, so that it needs no quotes and no byte of a
//! user's can end it. Two namespaces never share a keyspace: a plain name has no `__`, and the hash is 100 bits of
//! SHA-256. Cassandra takes 48 characters.

use std::fmt;

use anabranch_model::NamespaceName;
use sha2::{Digest, Sha256};

use crate::events::{TableKind, TableName};

/// Longest name of a keyspace or table.
pub const CQL_NAME_BYTES_MAX: usize = 48;
/// Longest [`KeyspaceName`].
pub const KEYSPACE_BYTES_MAX: usize = 16;
/// Characters of a hash in a name, 5 bits each.
const HASH_CHARACTERS: usize = 20;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The keyspace of everything that namespaces share, and the beginning of the names of all others: 1 to 16 of
/// `a-z 0-9`, starting with a letter. Without `_`, so that no two of them begin alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyspaceName(String);

impl Default for KeyspaceName {
    fn default() -> Self {
        Self("anabranch".to_owned())
    }
}

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no name of a keyspace: use 1 to 16 of a-z and 0-9, starting with a letter")]
pub struct InvalidKeyspaceName {
    /// The name as it came.
    pub name: String,
}

impl KeyspaceName {
    /// Checks a name.
    ///
    /// # Errors
    /// When it has other characters, or too many.
    pub fn new(name: &str) -> Result<Self, InvalidKeyspaceName> {
        let fits = name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let starts = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        if starts && fits && name.len() <= KEYSPACE_BYTES_MAX {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidKeyspaceName {
                name: name.to_owned(),
            })
        }
    }

    /// The keyspace of what namespaces share.
    pub(super) fn shared(&self) -> CqlName {
        CqlName(self.0.clone())
    }

    /// The keyspace of a namespace's events.
    pub(super) fn of_namespace(&self, namespace: &NamespaceName) -> CqlName {
        let name = namespace.as_str();
        let plain = name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        let room = CQL_NAME_BYTES_MAX - self.0.len() - 1;
        if plain && name.len() <= room && !name.contains("__") {
            return CqlName(format!("{}_{name}", self.0));
        }
        // What an operator may recognise it by.
        let shown: String = name
            .chars()
            .take(room - 2 - HASH_CHARACTERS)
            .map(|one| match one.to_ascii_lowercase() {
                one @ ('a'..='z' | '0'..='9') => one,
                _ => '_',
            })
            .collect();
        CqlName(format!("{}_{shown}__{}", self.0, hash(name.as_bytes())))
    }
}

impl fmt::Display for KeyspaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn hash(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let bits = |at: usize| (0..5).fold(0, |number, bit| number << 1 | bit_of(&digest, at * 5 + bit));
    (0..HASH_CHARACTERS)
        .filter_map(|at| ALPHABET.get(bits(at)))
        .map(|character| char::from(*character))
        .collect()
}

fn bit_of(bytes: &[u8], at: usize) -> usize {
    let byte = bytes.get(at / 8).copied().unwrap_or_default();
    usize::from(byte >> (7 - at % 8) & 1)
}

/// A name that stands in a statement as it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct CqlName(String);

impl CqlName {
    /// The name as text, to be bound where the schema is asked.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CqlName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A table with its keyspace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct CqlTable {
    pub(super) keyspace: CqlName,
    pub(super) table: CqlName,
}

impl CqlTable {
    /// The table of a slice.
    pub(super) fn of(keyspace: &KeyspaceName, table: &TableName) -> Self {
        // A slice's name has only characters that fit (`SliceName`).
        let name = match table.kind {
            TableKind::Data => format!("data_{}", table.slice),
            TableKind::Wide => format!("wide_data_{}", table.slice),
        };
        Self {
            keyspace: keyspace.of_namespace(&table.namespace),
            table: CqlName(name),
        }
    }

    /// A table of the shared keyspace.
    pub(super) fn shared(keyspace: &KeyspaceName, table: &'static str) -> Self {
        Self {
            keyspace: keyspace.shared(),
            table: CqlName(table.to_owned()),
        }
    }
}

impl fmt::Display for CqlTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.keyspace, self.table)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn of(namespace: &str) -> String {
        let keyspace = KeyspaceName::new("anabranch").unwrap();
        let namespace = NamespaceName::new(namespace).unwrap();
        keyspace.of_namespace(&namespace).to_string()
    }

    #[test]
    fn names_are_kept_where_they_fit() {
        assert_eq!(of("kafka_history"), "anabranch_kafka_history");
        assert_eq!(of(&"n".repeat(38)).len(), 48);
    }

    #[test]
    fn names_that_do_not_fit_get_a_hash_and_stay_apart() {
        // Part of the stored format.
        assert_eq!(
            of("Kafka-History"),
            "anabranch_kafka_history__punf3vce2dg2ysrkmhpf"
        );
        let others = [
            "a-b",
            "a_b",
            "A_b",
            "a__b",
            "a-B",
            "a--b",
            &"n".repeat(38),
            &"n".repeat(39),
            &"n".repeat(48),
        ];
        let made: BTreeSet<String> = others.iter().map(|name| of(name)).collect();
        assert_eq!(made.len(), others.len());
        assert!(made.iter().all(|name| name.len() <= CQL_NAME_BYTES_MAX));
    }

    #[test]
    fn keyspaces_are_plain_words() {
        assert!(KeyspaceName::new("a1").is_ok());
        for name in ["", "1a", "A", "a_b", "a-b", "a;b", "é", "abcdefghijklmnopq"] {
            assert!(KeyspaceName::new(name).is_err(), "{name}");
        }
    }
}
