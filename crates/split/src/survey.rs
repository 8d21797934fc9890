//! What a survey has seen of a partition: enough to cut it anywhere sensible, small enough to store at every checkpoint.
//!
//! Rows come in the store's own order, newest first. They are gathered into *segments* of about `quantum` bytes,
//! which end only between events: segments are the candidate cuts, each with the checksum of what it holds. When there
//! are too many, neighbours become one and the quantum doubles. All of it is a function of the sequence of events alone,
//! so a survey that was killed and goes on from its checkpoint ends as one that was not.

use anabranch_model::{Event, EventKey, TimeSeriesId};
use serde::{Deserialize, Serialize};

use crate::checksum::Checksum;
use crate::planted::{Bug, planted};

/// A run of events between two candidate cuts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// Its first event as it was read: the newest.
    pub newest: EventKey,
    /// Its last event as it was read: the oldest.
    pub oldest: EventKey,
    /// What it holds.
    pub checksum: Checksum,
}

/// A survey under way, or done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Survey {
    /// Newest first. The last one may still grow.
    segments: Vec<Segment>,
    /// A segment ends with the event that brings it to this many bytes.
    quantum_bytes: u64,
    /// Most segments that are kept.
    segments_max: usize,
}

impl Survey {
    /// A survey that has seen nothing. It keeps from `segments_max / 2` to `segments_max` candidate cuts.
    pub fn new(quantum_bytes: u64, segments_max: usize) -> Self {
        Self {
            segments: Vec::new(),
            quantum_bytes: quantum_bytes.max(1),
            segments_max: segments_max.max(2),
        }
    }

    /// Takes in the next event, which is older than all before it.
    pub fn add(&mut self, time_series_id: &TimeSeriesId, event: &Event) {
        let open = self
            .segments
            .last_mut()
            .filter(|segment| segment.checksum.bytes < self.quantum_bytes);
        match open {
            Some(segment) => {
                segment.checksum.add_event(time_series_id, event);
                segment.oldest = event.key.clone();
            }
            None => {
                self.thin();
                let mut checksum = Checksum::default();
                checksum.add_event(time_series_id, event);
                self.segments.push(Segment {
                    newest: event.key.clone(),
                    oldest: event.key.clone(),
                    checksum,
                });
            }
        }
    }

    /// The last event that was taken in; what is older is still to be read.
    pub fn position(&self) -> Option<&EventKey> {
        self.segments.last().map(|segment| &segment.oldest)
    }

    /// Newest first.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Of everything seen so far.
    pub fn total(&self) -> Checksum {
        let parts = self.segments.iter().map(|segment| &segment.checksum);
        parts.fold(Checksum::default(), |sum, part| sum.then(part))
    }

    /// Makes room for a new segment.
    fn thin(&mut self) {
        if self.segments.len() < self.segments_max {
            return;
        }
        let mut thinned: Vec<Segment> = Vec::with_capacity(self.segments_max);
        for (n, segment) in std::mem::take(&mut self.segments).into_iter().enumerate() {
            match thinned.last_mut().filter(|_| n % 2 == 1) {
                Some(before) => {
                    if !planted(Bug::ThinningLosesRows) {
                        before.checksum = before.checksum.then(&segment.checksum);
                    }
                    before.oldest = segment.oldest;
                }
                None => thinned.push(segment),
            }
        }
        self.segments = thinned;
        self.quantum_bytes = self.quantum_bytes.saturating_mul(2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{event, id};
    use proptest::prelude::*;

    fn events(sizes: &[usize]) -> Vec<Event> {
        let newest_first = sizes.iter().enumerate();
        newest_first
            .map(|(n, size)| event(-(n as i64), "e", &[("k", &"v".repeat(*size))]))
            .collect()
    }

    fn survey(events: &[Event]) -> Survey {
        let mut survey = Survey::new(100, 8);
        events.iter().for_each(|event| survey.add(&id("a"), event));
        survey
    }

    proptest! {
        #[test]
        fn segments_hold_every_event_once_and_in_order(sizes in proptest::collection::vec(0usize..300, 0..200)) {
            let events = events(&sizes);
            let survey = survey(&events);
            prop_assert!(survey.segments().len() <= 8);
            let mut whole = Checksum::default();
            events.iter().for_each(|event| whole.add_event(&id("a"), event));
            prop_assert_eq!(survey.total(), whole);
            let mut rest = events.as_slice();
            for segment in survey.segments() {
                let rows = usize::try_from(segment.checksum.rows).unwrap();
                let (mine, others) = rest.split_at(rows);
                prop_assert_eq!(&mine.first().unwrap().key, &segment.newest);
                prop_assert_eq!(&mine.last().unwrap().key, &segment.oldest);
                rest = others;
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn a_survey_that_was_stored_and_goes_on_ends_as_one_that_was_not(
            sizes in proptest::collection::vec(0usize..300, 0..200), at in 0usize..200,
        ) {
            let events = events(&sizes);
            let (head, tail) = events.split_at(at.min(events.len()));
            let stored = serde_json::to_vec(&survey(head)).unwrap();
            let mut resumed: Survey = serde_json::from_slice(&stored).unwrap();
            tail.iter().for_each(|event| resumed.add(&id("a"), event));
            prop_assert_eq!(resumed, survey(&events));
        }
    }
}
