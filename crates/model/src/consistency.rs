//! How many replicas a namespace's writes and reads ask for, and which of these see each other.
//!
//! - W1: what was acked is seen by every read that is not content with one replica.
//! - S2: what is surveyed to be split has a replica in common with every write that was acked, also with those of before
//!   a change.

use serde::{Deserialize, Serialize};

use crate::namespace::{InvalidSetting, NamespaceSettings, Rollout};

/// How many replicas must answer, on Cassandra.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Consistency {
    /// One replica.
    One,
    /// One replica of the local data centre.
    LocalOne,
    /// A majority of the local data centre.
    #[default]
    LocalQuorum,
    /// A majority of all replicas.
    Quorum,
    /// A majority in every data centre.
    EachQuorum,
    /// Every replica.
    All,
}

impl Consistency {
    /// True when one replica is enough: what was acked so may be read later only, when the others have it.
    pub fn is_eventual(self) -> bool {
        matches!(self, Self::One | Self::LocalOne)
    }

    /// The least at which a read sees everything that was acked at this one: some replica has part in both. Of what is
    /// eventual there is no such level; then it is the usual one.
    pub fn seen_at(self) -> Self {
        match self {
            Self::Quorum => Self::Quorum,
            Self::One | Self::LocalOne | Self::LocalQuorum | Self::EachQuorum | Self::All => {
                Self::LocalQuorum
            }
        }
    }

    /// True when a read at `read` sees everything that was acked at this one.
    pub fn is_seen_at(self, read: Self) -> bool {
        match (self, read) {
            (Self::All, _) | (_, Self::All) => true,
            (Self::One | Self::LocalOne, _) | (_, Self::One | Self::LocalOne | Self::EachQuorum) => false,
            (Self::EachQuorum, Self::LocalQuorum | Self::Quorum) => true,
            (Self::LocalQuorum | Self::Quorum, _) => self == read,
        }
    }

    /// As it is written on the wire and in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::One => "ONE",
            Self::LocalOne => "LOCAL_ONE",
            Self::LocalQuorum => "LOCAL_QUORUM",
            Self::Quorum => "QUORUM",
            Self::EachQuorum => "EACH_QUORUM",
            Self::All => "ALL",
        }
    }
}

impl NamespaceSettings {
    /// At which events are appended. What may be split is on a majority when it is acked, or a survey could miss it: here
    /// as well as in [`Self::check`], which settings that were stored by an earlier version have not gone through.
    pub fn append_consistency(&self) -> Consistency {
        if self.write_consistency.is_eventual() && self.wide_partition.rollout >= Rollout::Split {
            Consistency::LocalQuorum
        } else {
            self.write_consistency
        }
    }

    /// At which originals are read to answer a request: as is set where that sees what was acked, or is not meant to.
    /// While answers are compared with those of targets, what one replica happens to have is no answer.
    pub fn scan_consistency(&self) -> Consistency {
        let read = self.read_consistency;
        let eventual = read.is_eventual() && self.wide_partition.rollout != Rollout::Compare;
        let append = self.append_consistency();
        if eventual || append.is_eventual() || append.is_seen_at(read) {
            read
        } else {
            append.seen_at()
        }
    }

    /// At which originals are read to be surveyed, copied or measured: everything that was acked is seen.
    pub fn survey_consistency(&self) -> Consistency {
        self.append_consistency().seen_at()
    }

    /// What holds between settings and those before them: whoever surveys a partition to split it sees what was acked
    /// under either.
    pub fn check_change(&self, before: &Self) -> Result<(), InvalidSetting> {
        let rollout = self.wide_partition.rollout;
        let acked = before.append_consistency();
        if rollout < Rollout::Split || acked.is_seen_at(self.survey_consistency()) {
            return Ok(());
        }
        Err(InvalidSetting {
            field: "consistency.write",
            value: format!("{}, after {}", self.write_consistency.as_str(), acked.as_str()),
            reason: "a split could leave out what was acked before: set wide_partition.rollout to OFF or DETECT first, change \
                     this, run a full repair of the namespace's keyspace, then set the rollout again",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(write: Consistency, read: Consistency, rollout: Rollout) -> NamespaceSettings {
        let mut settings = NamespaceSettings {
            write_consistency: write,
            read_consistency: read,
            ..NamespaceSettings::default()
        };
        settings.wide_partition.rollout = rollout;
        settings
    }

    const LEVELS: [Consistency; 6] = [
        Consistency::One,
        Consistency::LocalOne,
        Consistency::LocalQuorum,
        Consistency::Quorum,
        Consistency::EachQuorum,
        Consistency::All,
    ];

    /// Replicas of each of two data centres with three each; the first one is here. All that a level may be content with.
    fn answers(level: Consistency) -> Vec<[u32; 2]> {
        let mut all = Vec::new();
        for here in 0..=3 {
            for there in 0..=3 {
                let enough = match level {
                    Consistency::One => here + there >= 1,
                    Consistency::LocalOne => here >= 1,
                    Consistency::LocalQuorum => here >= 2,
                    Consistency::Quorum => here + there >= 4,
                    Consistency::EachQuorum => here >= 2 && there >= 2,
                    Consistency::All => here + there == 6,
                };
                if enough {
                    all.push([here, there]);
                }
            }
        }
        all
    }

    /// True when each read has a replica in common with each write.
    fn overlap(write: Consistency, read: Consistency) -> bool {
        answers(write).iter().all(|took| {
            answers(read)
                .iter()
                .all(|answered| (0..2).any(|place| took[place] + answered[place] > 3))
        })
    }

    #[test]
    fn a_level_that_sees_another_has_a_replica_in_common_with_it() {
        for (write, read) in LEVELS.iter().flat_map(|write| LEVELS.map(|read| (*write, read))) {
            // EACH_QUORUM is for writes, and not every store reads at it.
            let sees = read != Consistency::EachQuorum && overlap(write, read);
            assert_eq!(
                write.is_seen_at(read),
                sees || write == Consistency::All,
                "{write:?} {read:?}"
            );
        }
    }

    #[test]
    fn a_survey_sees_what_was_acked_wherever_something_may_be_split() {
        for rollout in [
            Rollout::Off,
            Rollout::Detect,
            Rollout::Split,
            Rollout::Compare,
            Rollout::Serve,
        ] {
            for (write, read) in LEVELS.iter().flat_map(|write| LEVELS.map(|read| (*write, read))) {
                let settings = at(write, read, rollout);
                let (append, survey) = (settings.append_consistency(), settings.survey_consistency());
                let scan = settings.scan_consistency();
                assert!(
                    rollout < Rollout::Split || overlap(append, survey),
                    "{settings:?}"
                );
                assert!(
                    rollout != Rollout::Compare || overlap(append, scan),
                    "{settings:?}"
                );
                assert!(
                    overlap(append, scan) || append.is_eventual() || scan.is_eventual(),
                    "W1: {settings:?}"
                );
                if settings.check().is_ok() {
                    assert_eq!(append, write, "what is checked is used as it is");
                    assert!(scan == read || rollout == Rollout::Compare, "{settings:?}");
                }
            }
        }
    }

    #[test]
    fn consistencies_that_do_not_go_together_are_named() {
        use Consistency::{All, EachQuorum, LocalOne, LocalQuorum, One, Quorum};
        let broken = |write, read, rollout| {
            let broken = at(write, read, rollout).check().err().unwrap_or_default();
            broken.iter().map(|broken| broken.field).collect::<Vec<_>>()
        };
        let fits: [&str; 0] = [];
        assert_eq!(broken(LocalOne, LocalOne, Rollout::Serve), ["consistency.write"]);
        assert_eq!(broken(One, LocalQuorum, Rollout::Split), ["consistency.write"]);
        assert_eq!(broken(LocalOne, LocalOne, Rollout::Detect), fits);
        assert_eq!(
            broken(LocalQuorum, EachQuorum, Rollout::Serve),
            ["consistency.read"]
        );
        assert_eq!(broken(Quorum, LocalQuorum, Rollout::Serve), ["consistency.read"]);
        assert_eq!(broken(LocalQuorum, Quorum, Rollout::Serve), ["consistency.read"]);
        assert_eq!(broken(Quorum, Quorum, Rollout::Serve), fits);
        assert_eq!(broken(EachQuorum, LocalQuorum, Rollout::Serve), fits);
        assert_eq!(broken(All, LocalOne, Rollout::Serve), fits);
        assert_eq!(broken(LocalQuorum, LocalOne, Rollout::Compare), fits);
    }

    #[test]
    fn levels_that_do_not_see_each_other_do_not_change_under_splits() {
        use Consistency::{EachQuorum, LocalOne, LocalQuorum, Quorum};
        let split = |write, read| at(write, read, Rollout::Serve);
        let holds = |before: NamespaceSettings, after: NamespaceSettings| after.check_change(&before).is_ok();
        assert!(holds(
            split(LocalQuorum, LocalQuorum),
            split(EachQuorum, LocalQuorum)
        ));
        assert!(holds(
            split(EachQuorum, LocalQuorum),
            split(LocalQuorum, LocalQuorum)
        ));
        assert!(holds(split(EachQuorum, LocalQuorum), split(Quorum, Quorum)));
        assert!(!holds(split(Quorum, Quorum), split(LocalQuorum, LocalQuorum)));
        assert!(!holds(split(LocalQuorum, LocalQuorum), split(Quorum, Quorum)));
        // What one replica alone may have, and splits in the same breath.
        let one = at(LocalOne, LocalOne, Rollout::Detect);
        assert!(!holds(one.clone(), split(LocalQuorum, LocalQuorum)));
        assert!(holds(one, at(LocalQuorum, LocalQuorum, Rollout::Detect)));
        assert!(holds(
            at(Quorum, Quorum, Rollout::Off),
            at(LocalQuorum, LocalQuorum, Rollout::Off)
        ));
        // To stop splits is never refused.
        assert!(holds(split(Quorum, Quorum), at(Quorum, Quorum, Rollout::Off)));
    }
}
