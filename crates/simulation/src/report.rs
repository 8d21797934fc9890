//! What a run came to.

use std::fmt;

/// How often things happened: a world in which nothing happens proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events that were acked.
    pub acked: u64,
    /// Events of which nobody knows whether they are stored.
    pub unsure: u64,
    /// Events that were only ever refused.
    pub rejected: u64,
    /// Walks that came to their end.
    pub walks: u64,
    /// Pages that were read.
    pub pages: u64,
    /// Pages of which at least a part came from targets.
    pub pages_diverted: u64,
    /// Events that were read back at once after their ack.
    pub read_back: u64,
    /// Seals, openings and changes of limits that went through.
    pub admin: u64,
    /// Times that operators wrote into what they sealed or opened.
    pub operator_writes: u64,
    /// Splits that an operator invalidated or sent round again.
    pub operated: u64,
    /// Processes that were killed.
    pub kills: u64,
    /// Processes that were paused.
    pub pauses: u64,
    /// Targets that lost events.
    pub damaged: u64,
    /// Audits of the whole store.
    pub audits: u64,
    /// Targets that were compared with their original.
    pub targets_compared: u64,
    /// Records that are served at the end.
    pub served: u64,
    /// Of those, with a boundary inside of their partition.
    pub served_in_part: u64,
    /// Records at the end.
    pub records: u64,
    /// Records that were quarantined at the end.
    pub quarantined: u64,
    /// Generations that were begun.
    pub generations: u64,
    /// Worlds in which all that was wide came to be split.
    pub healed: u64,
}

impl Counts {
    /// Both together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            acked: self.acked + other.acked,
            unsure: self.unsure + other.unsure,
            rejected: self.rejected + other.rejected,
            walks: self.walks + other.walks,
            pages: self.pages + other.pages,
            pages_diverted: self.pages_diverted + other.pages_diverted,
            read_back: self.read_back + other.read_back,
            admin: self.admin + other.admin,
            operator_writes: self.operator_writes + other.operator_writes,
            operated: self.operated + other.operated,
            kills: self.kills + other.kills,
            pauses: self.pauses + other.pauses,
            damaged: self.damaged + other.damaged,
            audits: self.audits + other.audits,
            targets_compared: self.targets_compared + other.targets_compared,
            served: self.served + other.served,
            served_in_part: self.served_in_part + other.served_in_part,
            records: self.records + other.records,
            quarantined: self.quarantined + other.quarantined,
            generations: self.generations + other.generations,
            healed: self.healed + other.healed,
        }
    }
}

/// A world in which every check held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Of everything that happened, in order.
    pub trace_hash: u64,
    /// How much that was.
    pub notes: u64,
    /// How often things happened.
    pub counts: Counts,
    /// What happened, if that was asked for.
    pub trace: Vec<String>,
}

/// A check that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The world's seed: it fails again.
    pub seed: u64,
    /// What is wrong.
    pub what: String,
    /// What happened until then, if that was asked for.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: {}", self.seed, self.what)
    }
}

impl std::error::Error for Failure {}
