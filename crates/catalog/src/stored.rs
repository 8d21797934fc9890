//! What the records of a namespace hold, and in which bytes.
//!
//! Each record is an enum of versions (`{"v1": {…}}`); bytes of every version ever written are kept in
//! this file's tests.
//!
//! - W2: a slice's partition settings are written once, into `creating` of the namespace's record and
//!   from there into the slice's own, and never changed.

use anabranch_model::{EventTime, NamespaceName, NamespaceSettings, TimeSlice};
use anabranch_storage::{RecordKey, StoreError};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NamespaceRecord {
    /// What it is set to.
    pub settings: NamespaceSettings,
    /// Grows when `settings` change; the record's own version also moves for the other fields.
    pub revision: u64,
    /// Tells apart namespaces that had the same name one after the other.
    pub incarnation: u64,
    /// When it was created.
    pub created: EventTime,
    /// When its settings changed last.
    pub updated: EventTime,
    /// No event before this is accepted any more. The one place where a seal is kept.
    #[serde(default)]
    pub sealed_before: Option<EventTime>,
    /// Since when `sealed_before` is what it is: what it seals counts as immutable only some time later.
    #[serde(default)]
    pub sealed_since: Option<EventTime>,
    /// Since when it is being deleted.
    #[serde(default)]
    pub deleting_since: Option<EventTime>,
    /// The slices that were cut last. Those without a record of their own are still to be made.
    #[serde(default)]
    pub creating: Option<Creation>,
}

/// Slices that are being made: stored before their tables, so that two servers never cut one time twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Creation {
    /// The keeper that makes them.
    pub owner: u64,
    /// Since when; another keeper takes over when this is long ago.
    pub since: EventTime,
    /// The slices.
    pub slices: Vec<TimeSlice>,
}

/// A time slice. Stored after its table is there, and kept after the table is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceRecord {
    /// The slice. Its `sealed_before` is not stored here: it follows from the namespace's.
    pub slice: TimeSlice,
    /// [`NamespaceRecord::incarnation`] of the namespace that it belongs to.
    pub incarnation: u64,
    /// When it was closed.
    #[serde(default)]
    pub closed: Option<EventTime>,
    /// Who makes its table of targets, where several keepers share a store.
    #[serde(default)]
    pub wide_table_maker: Option<Maker>,
}

/// A keeper that makes a table, so that two never make one at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maker {
    /// The keeper.
    pub owner: u64,
    /// Since when, by its own clock. To others it only tells this claim from another one.
    pub since: EventTime,
}

/// An id that is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockRecord {
    /// What the operator gave as the reason.
    pub reason: String,
    /// When it was blocked.
    pub since: EventTime,
    /// [`NamespaceRecord::incarnation`] of the namespace that it belongs to.
    pub incarnation: u64,
}

impl NamespaceRecord {
    /// Where it is kept.
    pub fn key(namespace: &NamespaceName) -> RecordKey {
        RecordKey::Namespace {
            namespace: namespace.clone(),
        }
    }

    /// A namespace that was just created.
    pub fn new(settings: NamespaceSettings, incarnation: u64, now: EventTime) -> Self {
        Self {
            settings,
            revision: 1,
            incarnation,
            created: now,
            updated: now,
            sealed_before: None,
            sealed_since: None,
            deleting_since: None,
            creating: None,
        }
    }
}

impl SliceRecord {
    /// A slice whose table was just made.
    pub fn new(slice: TimeSlice, incarnation: u64) -> Self {
        Self {
            slice,
            incarnation,
            closed: None,
            wide_table_maker: None,
        }
    }
}

#[derive(Serialize, Deserialize)]
enum Versioned<T> {
    #[serde(rename = "v1")]
    V1(T),
}

/// A record that can be stored.
pub trait Stored: Clone + Serialize + DeserializeOwned {
    /// What it is, in an error.
    const WHAT: &'static str;

    /// The record's bytes.
    ///
    /// # Errors
    /// `Corrupt` when it can not be written as JSON.
    fn encode(&self) -> Result<Bytes, StoreError> {
        serde_json::to_vec(&Versioned::V1(self.clone()))
            .map(Bytes::from)
            .map_err(|error| damaged(Self::WHAT, &error))
    }

    /// The record of stored bytes, of any version.
    ///
    /// # Errors
    /// `Corrupt` for bytes that can not be what this program wrote.
    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let Versioned::V1(record) =
            serde_json::from_slice(bytes).map_err(|error| damaged(Self::WHAT, &error))?;
        Ok(record)
    }
}

fn damaged(what: &str, error: &serde_json::Error) -> StoreError {
    StoreError::Corrupt {
        what: what.to_owned(),
        reason: error.to_string(),
    }
}

impl Stored for NamespaceRecord {
    const WHAT: &'static str = "namespace record";
}

impl Stored for SliceRecord {
    const WHAT: &'static str = "time slice record";
}

impl Stored for BlockRecord {
    const WHAT: &'static str = "blocked id record";
}

#[cfg(test)]
mod tests;
