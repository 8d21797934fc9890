//! The oracle: every event that was ever sent, and what its writers were told.
//!
//! - Acked: it has to be found, by everyone, from then on (W1).
//! - Unsure (an error that does not say): it may be found, or be found later, or never.
//! - Rejected each time: it is never found.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anabranch_model::{Event, EventKey, EventRecord, EventTime, TimeSeriesId};

use crate::dice::Dice;

/// What its writers were told of an event.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) event: Arc<Event>,
    pub(crate) acked: bool,
    /// It may have been stored.
    pub(crate) unsure: bool,
}

impl Known {
    /// It may be found.
    pub(crate) fn possible(&self) -> bool {
        self.acked || self.unsure
    }
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Acked,
    Rejected,
    Unsure,
}

/// Every event of a world.
#[derive(Debug, Default)]
pub(crate) struct Model(Mutex<BTreeMap<TimeSeriesId, BTreeMap<EventKey, Known>>>);

impl Model {
    /// A write sets out: from now on its events may be found.
    pub(crate) fn sent(&self, records: &[EventRecord]) {
        let mut ids = self.ids();
        for record in records {
            let events = ids.entry(record.time_series_id.clone()).or_default();
            events.entry(record.event.key.clone()).or_insert_with(|| Known {
                event: Arc::new(record.event.clone()),
                acked: false,
                unsure: false,
            });
        }
    }

    /// The write of these events is under way: whoever reads now may find them.
    pub(crate) fn under_way(&self, records: &[EventRecord]) -> Vec<bool> {
        let mut ids = self.ids();
        let mut before = Vec::with_capacity(records.len());
        for record in records {
            let known = ids
                .get_mut(&record.time_series_id)
                .and_then(|events| events.get_mut(&record.event.key));
            if let Some(known) = known {
                before.push(known.unsure);
                known.unsure = true;
            } else {
                before.push(false);
            }
        }
        before
    }

    /// What became of a write; `before` is what [`Self::under_way`] gave.
    pub(crate) fn told(&self, records: &[EventRecord], before: &[bool], told: Told) {
        let mut ids = self.ids();
        for (record, before) in records.iter().zip(before) {
            let known = ids
                .get_mut(&record.time_series_id)
                .and_then(|events| events.get_mut(&record.event.key));
            let Some(known) = known else { continue };
            match told {
                Told::Acked => known.acked = true,
                Told::Rejected => known.unsure = *before,
                Told::Unsure => {}
            }
        }
    }

    /// An event, if it was ever sent.
    pub(crate) fn get(&self, id: &TimeSeriesId, key: &EventKey) -> Option<Known> {
        self.ids().get(id)?.get(key).cloned()
    }

    /// The keys of an id's acked events that pass.
    pub(crate) fn acked(&self, id: &TimeSeriesId, passes: impl Fn(&EventKey) -> bool) -> Vec<EventKey> {
        let ids = self.ids();
        let Some(events) = ids.get(id) else {
            return Vec::new();
        };
        events
            .iter()
            .filter(|(key, known)| known.acked && passes(key))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// The time of one of the events that were ever sent.
    pub(crate) fn some_time(&self, dice: &Dice) -> Option<EventTime> {
        let ids = self.ids();
        let times: Vec<EventTime> = ids
            .values()
            .flat_map(|events| events.keys().map(|key| key.time))
            .collect();
        dice.pick(&times).copied()
    }

    /// Every event of everyone.
    pub(crate) fn all(&self) -> Vec<(TimeSeriesId, Known)> {
        let ids = self.ids();
        ids.iter()
            .flat_map(|(id, events)| events.values().map(move |known| (id.clone(), known.clone())))
            .collect()
    }

    /// Events that are acked, that may be there, and that can not be.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        let mut counts = (0, 0, 0);
        for (_, known) in self.all() {
            match (known.acked, known.unsure) {
                (true, _) => counts.0 += 1,
                (false, true) => counts.1 += 1,
                (false, false) => counts.2 += 1,
            }
        }
        counts
    }

    fn ids(&self) -> MutexGuard<'_, BTreeMap<TimeSeriesId, BTreeMap<EventKey, Known>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
