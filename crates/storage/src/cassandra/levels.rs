//! How many replicas answer for events: as the namespace asks, and together no weaker than the store is set to, unless it
//! asks for one.
//!
//! | asked for | write | read |
//! |---|---|---|
//! | `ONE`, `LOCAL_ONE` | that | that |
//! | `LOCAL_QUORUM` | the store's | the store's; `LOCAL_QUORUM` where that is EACH_QUORUM, which is for writes |
//! | `QUORUM` | that, or EACH_QUORUM where that is the store's | that |
//! | `EACH_QUORUM` | that | as `LOCAL_QUORUM` |
//! | `ALL` | that | that |
//!
//! - W1: of what is not asked to be content with one replica, the replicas of a write and those of a read have one in
//!   common. Which levels go together is the namespace's to check (`anabranch_model::NamespaceSettings`); that the
//!   store's floor keeps them together is tested here.
//! - Targets of splits, records and walks over partitions are always at the store's own.

use anabranch_model::Consistency as Asked;
use scylla::statement::Consistency;

use super::settings::StoreConsistency;

/// What a store is set to, as the least of what is asked of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Levels(pub(super) StoreConsistency);

impl Levels {
    /// At which events are appended.
    pub(super) fn append(self, asked: Asked) -> Consistency {
        match (asked, self.0) {
            (Asked::One, _) => Consistency::One,
            (Asked::LocalOne, _) => Consistency::LocalOne,
            (Asked::All, _) => Consistency::All,
            (Asked::EachQuorum, _) | (_, StoreConsistency::EachQuorum) => Consistency::EachQuorum,
            (Asked::Quorum, _) | (_, StoreConsistency::Quorum) => Consistency::Quorum,
            (Asked::LocalQuorum, StoreConsistency::LocalQuorum) => Consistency::LocalQuorum,
        }
    }

    /// At which events are read.
    pub(super) fn scan(self, asked: Asked) -> Consistency {
        match (asked, self.0) {
            (Asked::One, _) => Consistency::One,
            (Asked::LocalOne, _) => Consistency::LocalOne,
            (Asked::All, _) => Consistency::All,
            (Asked::Quorum, _) | (_, StoreConsistency::Quorum) => Consistency::Quorum,
            (Asked::LocalQuorum | Asked::EachQuorum, _) => Consistency::LocalQuorum,
        }
    }
}

#[cfg(test)]
mod tests {
    use anabranch_model::NamespaceSettings;

    use super::*;

    const ASKED: [Asked; 6] = [
        Asked::One,
        Asked::LocalOne,
        Asked::LocalQuorum,
        Asked::Quorum,
        Asked::EachQuorum,
        Asked::All,
    ];
    const STORES: [StoreConsistency; 3] = [
        StoreConsistency::LocalQuorum,
        StoreConsistency::Quorum,
        StoreConsistency::EachQuorum,
    ];

    fn asked(level: Consistency) -> Asked {
        match level {
            Consistency::One => Asked::One,
            Consistency::LocalOne => Asked::LocalOne,
            Consistency::LocalQuorum => Asked::LocalQuorum,
            Consistency::Quorum => Asked::Quorum,
            Consistency::EachQuorum => Asked::EachQuorum,
            Consistency::All => Asked::All,
            other => panic!("{other} is never used"),
        }
    }

    #[test]
    fn what_sees_each_other_does_so_over_every_store() {
        for store in STORES.map(Levels) {
            for write in ASKED {
                let settings = NamespaceSettings {
                    write_consistency: write,
                    ..NamespaceSettings::default()
                };
                let append = asked(store.append(settings.append_consistency()));
                let survey = asked(store.scan(settings.survey_consistency()));
                assert!(
                    append.is_seen_at(survey),
                    "{store:?} {write:?}: {append:?} {survey:?}"
                );
                for read in ASKED.into_iter().filter(|read| write.is_seen_at(*read)) {
                    let (append, scan) = (asked(store.append(write)), asked(store.scan(read)));
                    assert!(append.is_seen_at(scan), "{store:?} {write:?} {read:?}");
                }
            }
        }
    }

    #[test]
    fn the_store_is_the_floor_and_one_replica_is_asked_for() {
        let quorum = Levels(StoreConsistency::Quorum);
        assert_eq!(quorum.append(Asked::LocalQuorum), Consistency::Quorum);
        assert_eq!(quorum.scan(Asked::LocalQuorum), Consistency::Quorum);
        assert_eq!(quorum.append(Asked::LocalOne), Consistency::LocalOne);
        assert_eq!(quorum.scan(Asked::One), Consistency::One);
        let each = Levels(StoreConsistency::EachQuorum);
        assert_eq!(each.append(Asked::LocalQuorum), Consistency::EachQuorum);
        assert_eq!(each.scan(Asked::LocalQuorum), Consistency::LocalQuorum);
    }
}
