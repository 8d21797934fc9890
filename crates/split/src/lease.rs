//! Leases without a clock that two machines would have to share.
//!
//! A worker that holds a lease moves its record's version, at the latest every third of the lease of its own time. Another
//! worker takes over when the version has stood still for the lease's length *on its own clock since it first saw it*.
//! So a wall clock that is an hour off neither steals a lease nor keeps one alive. A lease that was taken over too
//! early does no harm: the fence in the record decides who may go on (S5).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::planted::{Bug, planted};

/// Who is at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// The worker; drawn at random when its process starts.
    pub owner: u64,
}

/// What a process has seen of others' leases.
#[derive(Debug)]
pub struct LeaseWatch<K> {
    length: Duration,
    seen: BTreeMap<K, (u64, Duration)>,
}

impl<K: Ord + Clone> LeaseWatch<K> {
    /// Leases lapse when nothing moves for `length`. Zero where no other process can be at it: the owner of a lease
    /// that is not one's own is dead.
    pub fn new(length: Duration) -> Self {
        Self {
            length,
            seen: BTreeMap::new(),
        }
    }

    /// True when a record, which stands at `version` at `elapsed`, has not moved for the length of a lease.
    pub fn lapsed(&mut self, key: &K, version: u64, elapsed: Duration) -> bool {
        let seen = self.seen.entry(key.clone()).or_insert((version, elapsed));
        if seen.0 != version {
            *seen = (version, elapsed);
        }
        elapsed.saturating_sub(seen.1) >= self.length && !planted(Bug::LeaseNeverLapses)
    }

    /// Forgets a record that nobody is at any more.
    pub fn forget(&mut self, key: &K) {
        self.seen.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_lease_lapses_when_its_record_stands_still_and_not_before() {
        let at = Duration::from_secs;
        let mut watch = LeaseWatch::new(at(10));
        assert!(!watch.lapsed(&"r", 1, at(100)));
        assert!(!watch.lapsed(&"r", 1, at(109)));
        assert!(!watch.lapsed(&"r", 2, at(111)), "it moved");
        assert!(!watch.lapsed(&"r", 2, at(120)));
        assert!(watch.lapsed(&"r", 2, at(121)));
        watch.forget(&"r");
        assert!(!watch.lapsed(&"r", 2, at(122)));
    }

    #[test]
    fn the_only_process_of_a_store_waits_for_no_one() {
        assert!(LeaseWatch::new(Duration::ZERO).lapsed(&1, 1, Duration::ZERO));
    }

    proptest! {
        /// Against the plain definition: how long ago did it first stand at the version at which it stands now?
        #[test]
        fn a_lease_lapses_exactly_when_the_version_stood_still_for_its_length(
            length in 0u64..20, looks in proptest::collection::vec((0u64..10, any::<bool>()), 1..60),
        ) {
            let mut watch = LeaseWatch::new(Duration::from_secs(length));
            let (mut now, mut version, mut since) = (0, 0, None);
            for (later, moved) in looks {
                now += later;
                if moved {
                    version += 1;
                    since = None;
                }
                let since = *since.get_or_insert(now);
                prop_assert_eq!(watch.lapsed(&0, version, Duration::from_secs(now)), now - since >= length);
            }
        }

        #[test]
        fn records_are_watched_each_on_its_own(moves in proptest::collection::vec(0u8..3, 1..40)) {
            let mut together = LeaseWatch::new(Duration::from_secs(5));
            let mut alone = [0, 1, 2].map(|_| LeaseWatch::new(Duration::from_secs(5)));
            let mut versions = [0; 3];
            for (second, moved) in (0u64..).zip(moves) {
                versions[usize::from(moved)] += 1;
                for (key, version) in versions.iter().enumerate() {
                    let elapsed = Duration::from_secs(second);
                    prop_assert_eq!(
                        together.lapsed(&key, *version, elapsed),
                        alone[key].lapsed(&key, *version, elapsed)
                    );
                }
            }
        }
    }
}
