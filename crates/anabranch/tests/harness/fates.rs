//! What is known of the events of one time series, one byte an event: what a reader must find, may find, and must not.
//!
//! `acked ⊆ returned ⊆ acked ∪ unknown`. Event `n` is the `n`th of its series ([`super::made`]).

use std::ops::Range;
use std::sync::Mutex;

/// What is known of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was never sent.
    Unsent,
    /// Sent, and nothing certain was heard: it may be there or not.
    Unknown,
    /// Acknowledged as durable, or seen since: it must be there.
    There,
    /// A read that would have shown it if it were ever to come did not: it must never come.
    Gone,
}

/// Those of a series, from event 0 on; what is not listed was never sent.
#[derive(Debug, Default)]
pub(crate) struct Fates(Vec<Fate>);

/// Those of every series.
pub(crate) type Known = Vec<Mutex<Fates>>;

/// Those of so many series.
pub(crate) fn known(series: u64) -> Known {
    (0..series).map(|_| Mutex::default()).collect()
}

impl Fates {
    /// Events that may have been sent, and those before them.
    pub(crate) fn len(&self) -> u64 {
        self.0.len() as u64
    }

    pub(crate) fn of(&self, n: u64) -> Fate {
        let listed = usize::try_from(n).ok().and_then(|n| self.0.get(n));
        listed.copied().unwrap_or(Fate::Unsent)
    }

    /// The event is about to be sent, for the first time.
    pub(crate) fn send(&mut self, n: u64) {
        let n = usize::try_from(n).unwrap();
        if self.0.len() <= n {
            self.0.resize(n + 1, Fate::Unsent);
        }
        assert_eq!(
            self.0[n],
            Fate::Unsent,
            "event {n} is sent for the first time twice"
        );
        self.0[n] = Fate::Unknown;
    }

    /// The events from those that were sent up to this one are never sent.
    pub(crate) fn pass_over(&mut self, to: u64) {
        self.0.resize(usize::try_from(to).unwrap(), Fate::Unsent);
    }

    /// It was acknowledged as durable.
    pub(crate) fn acked(&mut self, n: u64) {
        self.0[usize::try_from(n).unwrap()] = Fate::There;
    }

    /// The events of a range that must be there.
    pub(crate) fn there(&self, range: Range<u64>) -> Vec<u64> {
        let range = range.start..range.end.min(self.0.len() as u64);
        range.filter(|n| self.of(*n) == Fate::There).collect()
    }

    /// Events of which nothing certain is known.
    pub(crate) fn in_doubt(&self) -> u64 {
        self.0.iter().filter(|fate| **fate == Fate::Unknown).count() as u64
    }

    /// Holds what a read returned of a range against what is known, and learns from it: what it showed stays there.
    /// `before` are those that had to be there when it began. Returns how many of the unknown were found.
    pub(crate) fn check(
        &mut self,
        returned: &[u64],
        before: &[u64],
        range: Range<u64>,
    ) -> Result<u64, String> {
        let mut found = 0;
        for &n in returned {
            if !range.contains(&n) {
                return Err(format!("event {n} is outside of what was asked for, {range:?}"));
            }
            match self.of(n) {
                Fate::Unsent => return Err(format!("event {n} was never sent")),
                Fate::Gone => return Err(format!("event {n} was gone after an earlier restart")),
                Fate::There => {}
                Fate::Unknown => {
                    found += 1;
                    self.acked(n);
                }
            }
        }
        let mut sorted = returned.to_vec();
        sorted.sort_unstable();
        match before.iter().find(|n| sorted.binary_search(n).is_err()) {
            Some(lost) => Err(format!("acked event {lost} is not on a read that began later")),
            None => Ok(found),
        }
    }

    /// What is still unknown was not there when it had to show, and must never come.
    pub(crate) fn give_up_unknown(&mut self) {
        for fate in &mut self.0 {
            if *fate == Fate::Unknown {
                *fate = Fate::Gone;
            }
        }
    }
}
