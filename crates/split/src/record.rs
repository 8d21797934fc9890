//! The split record: what has happened to one partition. One value under one version, changed only by compare-and-set.
//!
//! - S3: at most one generation is served: [`SplitRecord::serving`] is one value.
//! - A generation under way and the one that is served are apart, so a split stays served while the next is made.
//! - What a newer version wrote, or nobody did, is told apart from a record and never written over
//!   ([`UnreadableRecord`]).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anabranch_model::{EventTime, PartitionKey};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::checksum::Checksum;
use crate::lease::Lease;
use crate::state::SplitState;
use crate::strategy::Aim;
use crate::survey::Survey;
use crate::target::Target;

/// What a split rests on: when one of these is not that of the slice any more, its events may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Basis {
    /// Of the namespace: it may have been deleted and made again.
    pub incarnation: u64,
    /// Of the slice: it grows before something immutable may change again.
    pub epoch: u64,
}

/// What is to be done in one generation. Never changed once it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitPlan {
    /// What it rests on.
    pub basis: Basis,
    /// The targets of the served generation stay, and those below are added. Their events are those from the served
    /// boundary on.
    pub extends: bool,
    /// Every event before this is in the targets, and none after it.
    pub boundary: EventTime,
    /// The targets to write, in event order.
    pub targets: Vec<Target>,
    /// There had to be fewer targets, and so larger ones, than aimed at.
    pub capped: bool,
    /// Version of the checksums.
    pub checksum_version: u8,
}

/// What a survey goes over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SurveyTask {
    /// What it rests on.
    pub basis: Basis,
    /// Only what comes from the served boundary on is surveyed.
    pub extends: bool,
    /// What comes before this is surveyed.
    pub boundary: EventTime,
    /// What it aims at: kept, so that the plan does not depend on who ends it.
    pub aim: Aim,
    /// How far it has come.
    pub survey: Survey,
}

/// How far a copy has come: targets are written newest first, each in the store's order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Copied {
    /// Targets that are written whole.
    pub targets: u32,
    /// Rows written so far, for people.
    pub checksum_rows: u64,
    /// Bytes written so far, for people.
    pub bytes: u64,
}

/// A generation that reads may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serving {
    /// The generation that completed last.
    pub generation: u32,
    /// What it rests on.
    pub basis: Basis,
    /// Every event before this is in the targets; later ones are in the original alone.
    pub boundary: EventTime,
    /// In event order.
    pub targets: Vec<Target>,
    /// Since when it is served.
    pub since: EventTime,
}

impl Serving {
    /// What all targets hold.
    pub fn total(&self) -> Checksum {
        total(&self.targets)
    }
}

/// What targets hold together, in the store's own order.
pub fn total(targets: &[Target]) -> Checksum {
    let newest_first = targets.iter().rev().map(|target| &target.checksum);
    newest_first.fold(Checksum::default(), |sum, part| sum.then(part))
}

/// Target buckets that no read is to use any more, to be removed when every filter, cache and running request must
/// have let go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retiring {
    /// Their event buckets in the wide table.
    pub event_buckets: Vec<u32>,
}

/// Why an attempt is where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum SplitReason {
    /// Nothing of the partition is immutable yet.
    Mutable,
    /// What is immutable is too little so far; more comes.
    TooLittleYet,
    /// Too small to be divided.
    Small,
    /// What was read back is not what was surveyed.
    ChecksumMismatch,
    /// The store failed.
    StoreFailed,
    /// The slice may change again: it was unsealed, or a limit was raised.
    EpochChanged,
    /// A target could not be read, or held something else than was proved.
    TargetDamaged,
    /// A read through the targets differed from the original.
    CompareMismatch,
    /// An operator asked for it.
    Operator,
    /// The slice was closed or dropped.
    SliceGone,
    /// No more generations fit into the wide table.
    GenerationsExhausted,
}

impl SplitReason {
    /// As it is written on the wire, in logs and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mutable => "MUTABLE",
            Self::TooLittleYet => "TOO_LITTLE_YET",
            Self::Small => "SMALL",
            Self::ChecksumMismatch => "CHECKSUM_MISMATCH",
            Self::StoreFailed => "STORE_FAILED",
            Self::EpochChanged => "EPOCH_CHANGED",
            Self::TargetDamaged => "TARGET_DAMAGED",
            Self::CompareMismatch => "COMPARE_MISMATCH",
            Self::Operator => "OPERATOR",
            Self::SliceGone => "SLICE_GONE",
            Self::GenerationsExhausted => "GENERATIONS_EXHAUSTED",
        }
    }
}

/// What splitting was worth, measured by `compare`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gain {
    /// Reads made both ways.
    pub reads: u64,
    /// Time that the originals took, in microseconds.
    pub original_micros: u64,
    /// Time that the targets took.
    pub targets_micros: u64,
}

/// What has happened to one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitRecord {
    /// The partition.
    pub partition: PartitionKey,
    /// The last generation that was begun; 0 before the first.
    pub generation: u32,
    /// Where that generation stands.
    pub state: SplitState,
    /// Grows with every claim: who holds an older one is out (S5).
    pub fence: u64,
    /// Failures in a row.
    pub attempts: u32,
    /// Why it is where it is, if there is something to say.
    pub reason: Option<SplitReason>,
    /// In words, for people.
    #[serde(default)]
    pub detail: String,
    /// Bytes that the detecting read had read.
    pub detected_bytes: u64,
    /// When it was detected first.
    pub created: EventTime,
    /// When it changed last.
    pub updated: EventTime,
    /// What reads may use.
    pub serving: Option<Serving>,
    /// What is to be removed.
    pub retiring: Vec<Retiring>,
    /// What it is worth, if that was measured.
    #[serde(default)]
    pub gain: Option<Gain>,
}

/// How failures are tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Wait after the first failure; doubled by each further one.
    pub wait: Duration,
    /// Longest wait.
    pub wait_max: Duration,
    /// Failures in a row after which it is quarantined.
    pub attempts_max: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            wait: Duration::from_secs(10),
            wait_max: Duration::from_secs(3_600),
            attempts_max: 6,
        }
    }
}

impl RetryPolicy {
    /// The wait after so many failures in a row, at least 1; `None` when it is to be quarantined.
    pub fn wait(&self, attempts: u32) -> Option<Duration> {
        let doublings = attempts.saturating_sub(1).min(20);
        (attempts < self.attempts_max).then(|| self.wait.saturating_mul(1 << doublings).min(self.wait_max))
    }
}

/// Bytes of a page of a worker's scan: smaller after each failure.
pub fn page_bytes(attempts: u32) -> usize {
    const PAGE_BYTES: usize = 1 << 20;
    (PAGE_BYTES >> attempts.min(4)).max(64 << 10)
}

/// The newest format that is written and read here.
pub const RECORD_FORMAT: u64 = 1;

#[derive(Serialize, Deserialize)]
enum Versioned {
    #[serde(rename = "v1")]
    V1(Box<SplitRecord>),
}

/// Bytes that can not be read as a split record. Whoever meets them leaves them as they are: written again by this
/// version, they would lose what it does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableRecord {
    /// A newer version of this program wrote it.
    #[error("split record is of format v{format}, and this version reads up to v{RECORD_FORMAT}")]
    NewerFormat {
        /// Its format.
        format: u64,
    },
    /// It breaks the rules of its format. One more field does, too: whatever is added makes a new format.
    #[error("split record is damaged: {reason}")]
    Damaged {
        /// How.
        reason: String,
    },
}

impl UnreadableRecord {
    /// All that [`Self::as_str`] says.
    pub const REASONS: [&str; 2] = ["NEWER_FORMAT", "DAMAGED"];

    /// As it is written on the wire and in metrics.
    pub fn as_str(&self) -> &'static str {
        let [newer, damaged] = Self::REASONS;
        match self {
            Self::NewerFormat { .. } => newer,
            Self::Damaged { .. } => damaged,
        }
    }

    /// What is wrong with bytes that could not be read.
    fn of(bytes: &[u8], error: &serde_json::Error) -> Self {
        type Formats = BTreeMap<String, IgnoredAny>;
        let formats = serde_json::from_slice::<Formats>(bytes).unwrap_or_default();
        let mut names = formats.keys();
        let format = match (names.next(), names.next()) {
            (Some(name), None) => name.strip_prefix('v').and_then(|number| number.parse().ok()),
            _ => None,
        };
        match format.filter(|format| *format > RECORD_FORMAT) {
            Some(format) => Self::NewerFormat { format },
            None => Self::damaged(error),
        }
    }

    /// A record that is damaged in some way.
    pub fn damaged(reason: impl fmt::Display) -> Self {
        Self::Damaged {
            reason: reason.to_string(),
        }
    }
}

impl SplitRecord {
    /// A record of a partition that was detected just now.
    pub fn detected(partition: PartitionKey, bytes: u64, now: EventTime) -> Self {
        Self {
            partition,
            generation: 0,
            state: SplitState::Detected,
            fence: 0,
            attempts: 0,
            reason: None,
            detail: String::new(),
            detected_bytes: bytes,
            created: now,
            updated: now,
            serving: None,
            retiring: Vec::new(),
            gain: None,
        }
    }

    /// The stored bytes: JSON, an enum of versions.
    ///
    /// # Errors
    /// Never in practice: the record has no map with keys that are not text.
    pub fn encode(&self) -> Result<Vec<u8>, UnreadableRecord> {
        serde_json::to_vec(&Versioned::V1(Box::new(self.clone()))).map_err(UnreadableRecord::damaged)
    }

    /// The record of stored bytes.
    ///
    /// # Errors
    /// When the bytes are not a record of a known format, with nothing in it that the format does not have.
    pub fn decode(bytes: &[u8]) -> Result<Self, UnreadableRecord> {
        let read = serde_json::from_slice(bytes);
        let Versioned::V1(record) = read.map_err(|error| UnreadableRecord::of(bytes, &error))?;
        Ok(*record)
    }

    /// The lease of whoever is at it.
    pub fn lease(&self) -> Option<Lease> {
        match &self.state {
            SplitState::Planning { lease, .. }
            | SplitState::Splitting { lease, .. }
            | SplitState::Verifying { lease, .. } => Some(*lease),
            _ => None,
        }
    }

    /// The plan of the generation under way.
    pub fn plan(&self) -> Option<&SplitPlan> {
        match &self.state {
            SplitState::Planned { plan }
            | SplitState::Splitting { plan, .. }
            | SplitState::Verifying { plan, .. } => Some(plan),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
