//! Opens time again: what was immutable takes writes once more.
//!
//! ```text
//! 1  each slice touched   a new epoch, `opening_since`        nothing of it is frozen, no split of it served
//! 2  shared store         wait                                until nobody reads by the old epoch
//! 3  the namespace        the setting                         what is frozen still refuses
//! 4  each slice touched   `frozen_before` back, not opening   only now is it written to
//! ```
//!
//! - W3, R2: between the last read of a split and the first write behind it lies the wait.
//! - Stopped anywhere, nothing is lost: what is frozen only refuses. The keeper ends an opening that has
//!   stood too long, by what settings and seal justify at that time.
//! - A mark is told by its epoch. Whoever finds its mark gone (another opening, a keeper that took this one for
//!   dead) marks again and waits again before it takes the freeze back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anabranch_catalog::{
    LoadedNamespace, NamespaceRecord, change_slice, justified, read_namespace, read_slice, store_slice,
};
use anabranch_model::{EventTime, NamespaceName, SliceName, SliceState, TimeInterval, TimeSlice};
use anabranch_split::planted::{Bug, planted};
use tracing::{info, warn};

use super::Keeping;
use super::seen::{Seen, Wait, What};
use crate::errors::{Reason, ServiceError};
use crate::namespaces::{NamespaceInfo, Namespaces};

/// How far the clocks of servers may be apart when it is decided which slices a raised limit opens.
const SKEW: Duration = Duration::from_secs(60);
/// Rounds of marking what was made, or marked by others, in between.
const ROUNDS_MAX: usize = 8;

/// What an opening stores in the namespace's record.
pub(super) type Change = Box<dyn Fn(&mut NamespaceRecord) -> Result<(), ServiceError> + Send + Sync>;

/// What an opening came to.
#[derive(Debug)]
pub(super) struct OpenedTime {
    /// The namespace with the change.
    pub info: NamespaceInfo,
    /// The slices that it touched.
    pub slices: BTreeSet<SliceName>,
}

/// A change that opens time: the record before and after it.
#[derive(Debug)]
pub(super) struct Opening<'a> {
    before: &'a NamespaceRecord,
    after: NamespaceRecord,
}

/// How far a slice has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It was marked, and this is its epoch since.
    Marked(u64),
    /// It is open, or gone.
    Done,
}

impl<'a> Opening<'a> {
    /// What a change makes of a namespace as it was read.
    pub(super) fn new(from: &'a LoadedNamespace, change: &Change) -> Result<Self, ServiceError> {
        let mut after = from.record.clone();
        change(&mut after)?;
        Ok(Self {
            before: &from.record,
            after,
        })
    }

    /// The times that it makes mutable again; empty when there are none.
    pub(super) fn opened(&self, now: EventTime) -> TimeInterval {
        let (before, after) = (self.before, &self.after);
        let unsealed = TimeInterval {
            start: after.sealed_before.unwrap_or(TimeInterval::ALL.start),
            end: before.sealed_before.unwrap_or(TimeInterval::ALL.start),
        };
        let by_limit = opened_by_limit(before.settings.accept_limit, after.settings.accept_limit, now);
        match (unsealed.is_empty(), by_limit.is_empty()) {
            (false, false) => TimeInterval {
                start: unsealed.start.min(by_limit.start),
                end: unsealed.end.max(by_limit.end),
            },
            (false, true) => unsealed,
            (true, _) => by_limit,
        }
    }

    /// True for a slice that it opens, and for one that is frozen further than anything justifies: a clock
    /// was wrong when that was done, and an operator who opens time wants that back too.
    pub(super) fn touches(&self, slice: &TimeSlice, now: EventTime) -> bool {
        let too_far = |frozen: EventTime| {
            self.justified(now)
                .is_none_or(|justified| frozen > justified.saturating_add(SKEW))
        };
        slice.state != SliceState::Dropped
            && (!slice.interval.intersection(&self.opened(now)).is_empty()
                || slice.frozen_before.is_some_and(too_far))
    }

    /// How far a slice that it touches may stay frozen.
    fn frozen_at_most(&self, now: EventTime) -> Option<EventTime> {
        let opened = self.opened(now);
        if opened.is_empty() {
            self.justified(now)
        } else {
            self.justified(now).min(Some(opened.start))
        }
    }

    fn justified(&self, now: EventTime) -> Option<EventTime> {
        justified(&self.after.settings, self.after.sealed_before, now)
    }
}

impl Keeping {
    /// Stores a change that opens time, in the four steps above.
    pub(super) async fn open(
        &self,
        from: &LoadedNamespace,
        change: &Change,
    ) -> Result<OpenedTime, ServiceError> {
        let opening = Opening::new(from, change)?;
        let mut steps = BTreeMap::new();
        self.mark_opening(from, &opening, &mut steps).await?;
        let stored = self.namespaces.store_change(from, |record| change(record)).await;
        let info = match stored {
            Ok(info) => info,
            Err(error) => {
                // Nothing of it was stored, and the wait is over: the slices need not wait for the keeper.
                if error.reason == Reason::NamespaceChanged {
                    self.give_up(from, &steps).await;
                }
                return Err(error);
            }
        };
        for _ in 0..ROUNDS_MAX {
            // What was cut before the setting was stored, and what lost its mark.
            self.mark_opening(from, &opening, &mut steps).await?;
            let ended = self.unfreeze(from, &opening, &mut steps).await?;
            self.namespaces.changed_slices(&from.name).await?;
            if ended {
                let slices = steps.into_keys().collect();
                return Ok(OpenedTime { info, slices });
            }
        }
        Err(Namespaces::changed_error(&from.name))
    }

    /// Steps 1 and 2: marks every slice that is touched and does not bear this opening's mark.
    async fn mark_opening(
        &self,
        from: &LoadedNamespace,
        opening: &Opening<'_>,
        steps: &mut BTreeMap<SliceName, Step>,
    ) -> Result<(), ServiceError> {
        let loaded = self.namespaces.load_for_change(&from.name).await?;
        if loaded.record.incarnation != from.record.incarnation {
            return Err(self.namespaces.not_found(&from.name));
        }
        let now = self.now();
        let (mut marked_any, mut was_frozen) = (false, false);
        for slice in loaded.slices.iter().map(|loaded| &loaded.record.slice) {
            let done = match steps.get(&slice.name) {
                Some(Step::Done) => true,
                Some(Step::Marked(epoch)) => slice.epoch == *epoch && slice.opening_since.is_some(),
                None => !opening.touches(slice, now),
            };
            if done {
                continue;
            }
            let marked = change_slice(
                &*self.store.records,
                &from.name,
                &slice.name,
                from.record.incarnation,
                |record| {
                    record.slice.epoch += u64::from(!planted(Bug::OpeningKeepsEpoch));
                    record.slice.opening_since = Some(now);
                },
            )
            .await?;
            if let Some(marked) = marked {
                let marked = marked.record.slice;
                marked_any = true;
                was_frozen |= marked.frozen_before.is_some();
                steps.insert(marked.name, Step::Marked(marked.epoch));
            }
        }
        if marked_any {
            self.namespaces.changed_slices(&from.name).await?;
        }
        // Of what was not frozen nothing was split, and what was split before it was opened the last time
        // has not been served since.
        if was_frozen && self.settings.shared_store && !planted(Bug::OpeningDoesNotWait) {
            self.clock().sleep(self.settings.settle).await;
        }
        Ok(())
    }

    /// Step 4. True when every slice is open.
    async fn unfreeze(
        &self,
        from: &LoadedNamespace,
        opening: &Opening<'_>,
        steps: &mut BTreeMap<SliceName, Step>,
    ) -> Result<bool, ServiceError> {
        let frozen_at_most = opening.frozen_at_most(self.now());
        for (name, step) in steps.iter_mut() {
            let Step::Marked(epoch) = *step else {
                continue;
            };
            let mut ours = false;
            let found = change_slice(
                &*self.store.records,
                &from.name,
                name,
                from.record.incarnation,
                |record| {
                    ours = record.slice.epoch == epoch && record.slice.opening_since.is_some();
                    if ours {
                        end_opening(&mut record.slice, frozen_at_most);
                    }
                },
            )
            .await?;
            if ours || found.is_none() {
                *step = Step::Done;
            }
        }
        Ok(steps.values().all(|step| *step == Step::Done))
    }

    /// Ends an opening that was not stored, as far as that goes; the keeper does the rest.
    async fn give_up(&self, from: &LoadedNamespace, steps: &BTreeMap<SliceName, Step>) {
        for (slice, step) in steps {
            let Step::Marked(epoch) = *step else {
                continue;
            };
            if let Err(error) = self.end_unknown(&from.name, slice, epoch).await {
                warn!(namespace = %from.name, %slice, %error, "opening could not be taken back yet");
            }
        }
        self.namespaces.note_change(&from.name);
    }

    /// Ends the openings of a namespace that have stood so long that whoever began them must be gone, or
    /// must look again.
    pub(super) async fn end_interrupted(
        &self,
        known: &LoadedNamespace,
        now: EventTime,
        seen: &mut Seen,
    ) -> Result<(), ServiceError> {
        let long = self.settings.settle.saturating_mul(2);
        let mut ended = false;
        for slice in known.slices.iter().map(|loaded| &loaded.record.slice) {
            let Some(since) = slice.opening_since else {
                continue;
            };
            let wait = Wait {
                namespace: known.name.clone(),
                slice: slice.name.clone(),
                what: What::Opening {
                    incarnation: known.record.incarnation,
                    epoch: slice.epoch,
                },
            };
            let stood = seen.stood(wait, self.clock().elapsed());
            // The clock that wrote `since` is this one where nobody else uses the store.
            let by_own_clock = !self.settings.shared_store && now >= since.saturating_add(long);
            if stood >= long || by_own_clock {
                self.end_unknown(&known.name, &slice.name, slice.epoch).await?;
                info!(namespace = %known.name, slice = %slice.name, "an opening that had stopped half-way was ended");
                ended = true;
            }
        }
        if ended {
            self.namespaces.changed_slices(&known.name).await?;
        }
        Ok(())
    }

    /// Ends an opening of which nobody knows whether its setting was stored: what the settings justify now
    /// stays frozen.
    async fn end_unknown(
        &self,
        namespace: &NamespaceName,
        slice: &SliceName,
        epoch: u64,
    ) -> Result<(), ServiceError> {
        let records = &*self.store.records;
        for _ in 0..ROUNDS_MAX {
            // The slice first, then the namespace, as in a freeze. An opening that stores its setting only
            // after this finds its mark gone, and marks again.
            let Some(found) = read_slice(records, namespace, slice).await? else {
                return Ok(());
            };
            let Some((of, _)) = read_namespace(records, namespace).await? else {
                return Ok(());
            };
            let mut record = found.record;
            if record.slice.epoch != epoch
                || record.slice.opening_since.is_none()
                || record.incarnation != of.incarnation
            {
                return Ok(());
            }
            let frozen_at_most = justified(&of.settings, of.sealed_before, self.now());
            end_opening(&mut record.slice, frozen_at_most);
            if store_slice(records, namespace, found.version, &record)
                .await?
                .is_some()
            {
                return Ok(());
            }
        }
        Err(Namespaces::changed_error(namespace))
    }
}

fn end_opening(slice: &mut TimeSlice, frozen_at_most: Option<EventTime>) {
    slice.opening_since = None;
    slice.frozen_before = slice
        .frozen_before
        .min(frozen_at_most)
        .filter(|frozen| *frozen > slice.interval.start);
}

/// The times that a raised accept limit opens; empty when it was not raised.
fn opened_by_limit(old: Duration, new: Duration, now: EventTime) -> TimeInterval {
    let closed = TimeInterval { start: now, end: now };
    // Zero accepts any time.
    if old.is_zero() || (!new.is_zero() && new <= old) {
        return closed;
    }
    let start = if new.is_zero() {
        TimeInterval::ALL.start
    } else {
        now.saturating_sub(new).saturating_sub(SKEW)
    };
    TimeInterval {
        start,
        end: now.saturating_sub(old).saturating_add(SKEW),
    }
}

#[cfg(test)]
mod tests;
