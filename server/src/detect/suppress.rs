//! The partitions that were offered a little while ago, bounded, on the clock that is passed in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anabranch_model::{NamespaceName, PartitionKey};
use anabranch_split::planted::{Bug, planted};

type Key = (NamespaceName, PartitionKey);

#[derive(Debug)]
pub(super) struct Suppressed {
    /// Until when each is suppressed, on the clock's elapsed time.
    until: BTreeMap<Key, Duration>,
    /// The same, by time.
    order: BTreeSet<(Duration, Key)>,
    lasts: Duration,
    keys_max: usize,
}

impl Suppressed {
    pub(super) fn new(lasts: Duration, keys_max: usize) -> Self {
        Self {
            until: BTreeMap::new(),
            order: BTreeSet::new(),
            lasts,
            keys_max: keys_max.max(1),
        }
    }

    pub(super) fn holds(&self, key: &Key, now: Duration) -> bool {
        self.until
            .get(key)
            .is_some_and(|until| *until > now || planted(Bug::SuppressedForGood))
    }

    /// Suppresses a key from now on. Makes room by what has expired, then by what would expire next.
    pub(super) fn insert(&mut self, key: Key, now: Duration) {
        self.clear(&key);
        while let Some((until, _)) = self.order.first()
            && (*until <= now || self.until.len() >= self.keys_max)
        {
            if let Some((_, gone)) = self.order.pop_first() {
                self.until.remove(&gone);
            }
        }
        let until = now.saturating_add(self.lasts);
        self.order.insert((until, key.clone()));
        self.until.insert(key, until);
    }

    pub(super) fn clear(&mut self, key: &Key) {
        if let Some(until) = self.until.remove(key) {
            self.order.remove(&(until, key.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use anabranch_model::{SliceName, TimeSeriesId};

    use super::*;

    fn key(id: &str) -> Key {
        let partition = PartitionKey {
            slice: SliceName::new("all").unwrap(),
            time_series_id: TimeSeriesId::new(id).unwrap(),
            time_bucket: 0,
            event_bucket: 0,
        };
        (NamespaceName::new("ns").unwrap(), partition)
    }

    #[test]
    fn what_was_noted_expires_and_never_takes_more_room_than_it_may() {
        let at = Duration::from_secs;
        let mut suppressed = Suppressed::new(at(60), 2);
        suppressed.insert(key("a"), at(0));
        suppressed.insert(key("b"), at(1));
        assert!(suppressed.holds(&key("a"), at(59)));
        assert!(!suppressed.holds(&key("a"), at(60)));
        suppressed.insert(key("c"), at(2));
        assert!(!suppressed.holds(&key("a"), at(2)), "the oldest makes room");
        assert!(suppressed.holds(&key("b"), at(2)) && suppressed.holds(&key("c"), at(2)));
        suppressed.clear(&key("b"));
        assert!(!suppressed.holds(&key("b"), at(2)));
        assert_eq!((suppressed.until.len(), suppressed.order.len()), (1, 1));
    }
}
