//! How a planner comes to know that a part of a slice can not change any more.
//!
//! - S4: a freeze counts only when every write that was admitted before it has ended. In the process that owns the store
//!   that is known; elsewhere it is waited for, on the waiting process's own elapsed time since it saw the stored freeze.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anabranch_catalog::{FreezeOutcome, Frozen, freeze};
use anabranch_model::{EventTime, NamespaceName, SliceName};
use anabranch_runtime::Clock;
use anabranch_split::Basis;
use anabranch_split::planted::{Bug, planted};
use anabranch_storage::{RecordStore, StoreError};
use async_trait::async_trait;

/// What became of asking for a freeze.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freeze {
    /// Nothing before this can change under this basis. It may be earlier or later than was asked for.
    Settled {
        /// Everything before this is immutable.
        before: EventTime,
        /// As long as this is the slice's.
        basis: Basis,
    },
    /// Not yet: ask again.
    Waiting,
    /// Nothing of the slice may be frozen at present.
    NotJustified,
    /// The slice is closed, dropped or not there.
    NotOpen,
}

impl Freeze {
    /// What a freeze means where it counts at once: the only process of a store has waited for its own writes.
    pub fn of_own(outcome: FreezeOutcome) -> Self {
        match outcome {
            FreezeOutcome::Frozen(frozen) => Self::Settled {
                before: frozen.before,
                basis: basis(&frozen),
            },
            FreezeOutcome::Opening => Self::Waiting,
            FreezeOutcome::NotOpen => Self::NotOpen,
            FreezeOutcome::NotJustified => Self::NotJustified,
        }
    }
}

fn basis(frozen: &Frozen) -> Basis {
    Basis {
        incarnation: frozen.incarnation,
        epoch: frozen.epoch,
    }
}

/// Freezes slices on behalf of a planner.
#[async_trait]
pub trait Freezer: fmt::Debug + Send + Sync + 'static {
    /// Freezes a slice up to `before`, as far as that is justified.
    async fn freeze(
        &self,
        namespace: &NamespaceName,
        slice: &SliceName,
        before: EventTime,
    ) -> Result<Freeze, StoreError>;
}

/// Freezes through the store, and waits until every server must go by it.
#[derive(Debug)]
pub struct TimedFreezer {
    records: Arc<dyn RecordStore>,
    clock: Arc<dyn Clock>,
    settle: Duration,
    seen: Mutex<BTreeMap<(NamespaceName, SliceName), Seen>>,
}

/// What was seen of one slice's freezes under one basis. At most one is waited for, so that a time that is asked for
/// again and again, a little later each time, is reached.
#[derive(Clone, Copy, Debug)]
struct Seen {
    basis: Basis,
    /// Settled, and since when.
    settled: Option<(EventTime, Duration)>,
    /// Stored, and since when that is known.
    waiting: Option<(EventTime, Duration)>,
}

impl TimedFreezer {
    /// A freezer that waits for `settle`: the lifetime of settings, the longest write and a margin.
    pub fn new(records: Arc<dyn RecordStore>, clock: Arc<dyn Clock>, settle: Duration) -> Self {
        Self {
            records,
            clock,
            settle,
            seen: Mutex::new(BTreeMap::new()),
        }
    }

    fn seen(&self, key: &(NamespaceName, SliceName)) -> Option<Seen> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(key).copied()
    }

    fn keep(&self, key: (NamespaceName, SliceName), state: Option<Seen>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match state {
            Some(state) => seen.insert(key, state),
            None => seen.remove(&key),
        };
    }
}

impl Seen {
    /// What is settled, if that is as much as is wanted, or was settled lately: the next freeze begins only some time
    /// after the last, so that the partitions of a slice share one.
    fn answer(&self, before: EventTime, elapsed: Duration, settle: Duration) -> Option<EventTime> {
        let (settled, at) = self.settled?;
        (settled >= before || elapsed.saturating_sub(at) < settle).then_some(settled)
    }
}

#[async_trait]
impl Freezer for TimedFreezer {
    async fn freeze(
        &self,
        namespace: &NamespaceName,
        slice: &SliceName,
        before: EventTime,
    ) -> Result<Freeze, StoreError> {
        let key = (namespace.clone(), slice.clone());
        let known = self.seen(&key);
        let elapsed = self.clock.elapsed();
        let answer = known.and_then(|seen| seen.answer(before, elapsed, self.settle));
        let ask = match known.and_then(|seen| seen.waiting) {
            Some((waiting, _)) => waiting,
            // All that is justified, for the other partitions of the slice too.
            None => answer.unwrap_or(EventTime::from_micros(i64::MAX)),
        };
        let now = EventTime::from_micros(self.clock.unix_micros());
        // Asked even when the answer is known: the slice may have been opened.
        let frozen = match freeze(&*self.records, namespace, slice, ask, now).await? {
            FreezeOutcome::Frozen(frozen) => frozen,
            FreezeOutcome::Opening => return Ok(Freeze::Waiting),
            FreezeOutcome::NotJustified => return Ok(Freeze::NotJustified),
            FreezeOutcome::NotOpen => {
                self.keep(key, None);
                return Ok(Freeze::NotOpen);
            }
        };
        // After the answer of the store: only then was the value seen.
        let elapsed = self.clock.elapsed();
        let basis = basis(&frozen);
        let mut seen = known.filter(|seen| seen.basis == basis).unwrap_or(Seen {
            basis,
            settled: None,
            waiting: None,
        });
        let answer = seen.answer(before, elapsed, self.settle);
        if seen.waiting.is_none() && answer.is_none() {
            seen.waiting = Some((frozen.before, elapsed));
        }
        if let Some((waiting, since)) = seen.waiting
            && (elapsed.saturating_sub(since) >= self.settle || planted(Bug::FreezeNotSettled))
        {
            seen.settled = Some((waiting, elapsed));
            seen.waiting = None;
        }
        self.keep(key, Some(seen));
        Ok(match seen.settled {
            Some((settled, _)) if settled >= before || seen.waiting.is_none() => Freeze::Settled {
                before: settled,
                basis,
            },
            _ => Freeze::Waiting,
        })
    }
}

#[cfg(test)]
mod tests;
