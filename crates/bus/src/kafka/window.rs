//! What was read from the topic and is not dealt with yet: bookkeeping, without a client.
//!
//! ```text
//! message ─▶ read ─▶ hold ─▶ deliver … deliver ─▶ ack ─▶ position that may be stored
//!               └──▶ (no detection: a dead letter) ──▶ done ─┘
//! ```
//!
//! - A position is never past a message that is not dealt with: what a dead receiver held comes again.
//! - Messages about one partition are one detection, the one that had read most. Acking it deals with all of them.
//! - What a rebalance takes back is not delivered any more once it is recalled, and forgotten once it is revoked: an ack of
//!   it, or a dead letter of it, changes nothing from then on.
//! - Nothing is delivered for the second time before everything that is held was delivered once.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use anabranch_model::{NamespaceName, PartitionKey};

use crate::{Delivery, Detection};

/// What a detection is about.
type Subject = (NamespaceName, PartitionKey);

/// Where a message lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The partition of the topic.
    pub(super) topic_partition: i32,
    /// Its offset in there.
    pub(super) offset: i64,
    /// Which assignment of the topic's partition it was read under.
    term: u64,
}

#[derive(Debug)]
struct Held {
    detection: Detection,
    receipt: u64,
    messages: Vec<Place>,
}

#[derive(Debug, Default)]
struct Assigned {
    term: u64,
    /// It goes to another receiver soon.
    recalled: bool,
    /// Offsets of messages that are not dealt with.
    open: BTreeSet<i64>,
    /// The first offset that was not read yet.
    next: Option<i64>,
    /// The position that was last asked for.
    stored: Option<i64>,
}

/// What was read and is not dealt with.
#[derive(Debug, Default)]
pub(super) struct Window {
    held: BTreeMap<Subject, Held>,
    assigned: BTreeMap<i32, Assigned>,
    /// Terms and receipts so far; never used twice.
    drawn: u64,
    /// What was delivered last; the next delivery goes on behind it.
    delivered: Option<Subject>,
    /// What the receiver has in hand.
    in_hand: BTreeSet<Subject>,
}

impl Window {
    /// A partition of the topic is read from now on.
    pub(super) fn assign(&mut self, topic_partition: i32) {
        let term = self.draw();
        let assigned = Assigned {
            term,
            ..Assigned::default()
        };
        self.assigned.insert(topic_partition, assigned);
    }

    /// Partitions of the topic go to another soon: nothing of them is delivered any more.
    pub(super) fn recall(&mut self, topic_partitions: &[i32]) {
        for topic_partition in topic_partitions {
            if let Some(assigned) = self.assigned.get_mut(topic_partition) {
                assigned.recalled = true;
            }
        }
    }

    /// True while the receiver may be working on something that goes to another.
    pub(super) fn is_recalled_in_hand(&self) -> bool {
        let in_hand = self.in_hand.iter().filter_map(|subject| self.held.get(subject));
        in_hand
            .flat_map(|held| &held.messages)
            .any(|place| self.is_recalled(place.topic_partition))
    }

    /// Partitions of the topic are read by another from now on.
    pub(super) fn revoke(&mut self, topic_partitions: &[i32]) {
        for topic_partition in topic_partitions {
            self.assigned.remove(topic_partition);
        }
        self.held.retain(|_, held| {
            held.messages
                .retain(|place| !topic_partitions.contains(&place.topic_partition));
            !held.messages.is_empty()
        });
    }

    /// Takes note of a message; nothing when its partition is not read here any more.
    pub(super) fn read(&mut self, topic_partition: i32, offset: i64) -> Option<Place> {
        let assigned = self.assigned.get_mut(&topic_partition)?;
        assigned.open.insert(offset);
        assigned.next = Some(offset + 1);
        Some(Place {
            topic_partition,
            offset,
            term: assigned.term,
        })
    }

    /// Holds the detection of a message until it is acked.
    pub(super) fn hold(&mut self, place: Place, detection: Detection) {
        let receipt = self.draw();
        let subject = (detection.namespace.clone(), detection.partition.clone());
        match self.held.get_mut(&subject) {
            // It tells nothing new.
            Some(held) if held.detection.bytes >= detection.bytes => held.messages.push(place),
            Some(held) => {
                held.detection = detection;
                held.receipt = receipt;
                held.messages.push(place);
            }
            None => {
                let messages = vec![place];
                self.held.insert(
                    subject,
                    Held {
                        detection,
                        receipt,
                        messages,
                    },
                );
            }
        }
    }

    /// A message is dealt with.
    pub(super) fn done(&mut self, place: Place) {
        if let Some(assigned) = self.assigned.get_mut(&place.topic_partition)
            && assigned.term == place.term
        {
            assigned.open.remove(&place.offset);
        }
    }

    /// The receiver has let go of what it was handed.
    pub(super) fn let_go(&mut self) {
        self.in_hand.clear();
    }

    /// Hands out what is held, on from where the last delivery ended.
    pub(super) fn deliver(&mut self, detections_max: usize) -> Vec<Delivery> {
        let after = match &self.delivered {
            Some(subject) => Bound::Excluded(subject.clone()),
            None => Bound::Unbounded,
        };
        let rest = self.held.range((after.clone(), Bound::Unbounded));
        let around = match &after {
            Bound::Excluded(subject) => self.held.range(..=subject),
            _ => self.held.range(..),
        };
        // By the number held, so that none comes twice: without a delivery before, both begin at the start.
        let may_go = |(_, held): &(&Subject, &Held)| {
            let mut places = held.messages.iter();
            !places.any(|place| self.is_recalled(place.topic_partition))
        };
        let next: Vec<_> = rest
            .chain(around)
            .take(self.held.len())
            .filter(may_go)
            .take(detections_max)
            .collect();
        let delivered = next.last().map(|(subject, _)| (*subject).clone());
        let in_hand: Vec<Subject> = next.iter().map(|(subject, _)| (*subject).clone()).collect();
        let deliveries = next
            .iter()
            .map(|(_, held)| Delivery {
                detection: held.detection.clone(),
                receipt: held.receipt,
            })
            .collect();
        if delivered.is_some() {
            self.delivered = delivered;
        }
        self.in_hand.extend(in_hand);
        deliveries
    }

    /// A delivery is dealt with, unless something newer has come since.
    pub(super) fn ack(&mut self, delivery: &Delivery) {
        let Detection {
            namespace, partition, ..
        } = &delivery.detection;
        let subject = (namespace.clone(), partition.clone());
        if self
            .held
            .get(&subject)
            .is_none_or(|held| held.receipt != delivery.receipt)
        {
            return;
        }
        if let Some(held) = self.held.remove(&subject) {
            for place in held.messages {
                self.done(place);
            }
        }
    }

    /// Positions that have moved since they were last asked for: of each partition of the topic, the first message that is
    /// not dealt with.
    pub(super) fn positions(&mut self) -> Vec<(i32, i64)> {
        let mut moved = Vec::new();
        for (topic_partition, assigned) in &mut self.assigned {
            let position = assigned.open.first().copied().or(assigned.next);
            if let Some(position) = position
                && assigned.stored.is_none_or(|stored| stored < position)
            {
                assigned.stored = Some(position);
                moved.push((*topic_partition, position));
            }
        }
        moved
    }

    /// Messages that are not dealt with.
    pub(super) fn open(&self) -> usize {
        self.assigned.values().map(|assigned| assigned.open.len()).sum()
    }

    /// Partitions of the topic that are read here.
    pub(super) fn assigned(&self) -> usize {
        self.assigned.len()
    }

    fn is_recalled(&self, topic_partition: i32) -> bool {
        let assigned = self.assigned.get(&topic_partition);
        assigned.is_some_and(|assigned| assigned.recalled)
    }

    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::detection;

    fn window() -> Window {
        let mut window = Window::default();
        window.assign(0);
        window
    }

    fn hold(window: &mut Window, topic_partition: i32, offset: i64, id: &str, bytes: u64) {
        let place = window.read(topic_partition, offset).unwrap();
        window.hold(place, detection(id, bytes));
    }

    #[test]
    fn a_position_stops_at_the_first_message_that_is_not_dealt_with() {
        let mut window = window();
        for (offset, id) in [(5, "a"), (6, "b"), (9, "c")] {
            hold(&mut window, 0, offset, id, 1);
        }
        assert_eq!(window.positions(), [(0, 5)]);
        let [a, b, c] = &window.deliver(3)[..] else {
            panic!("three are held")
        };
        window.ack(c);
        window.ack(b);
        assert_eq!(window.positions(), []);
        window.ack(a);
        assert_eq!(window.positions(), [(0, 10)]);
        assert_eq!(window.positions(), []);
    }

    #[test]
    fn an_ack_deals_with_every_message_about_a_partition() {
        let mut window = window();
        for (offset, bytes) in [(0, 5), (1, 9), (2, 7)] {
            hold(&mut window, 0, offset, "a", bytes);
        }
        let [a] = &window.deliver(10)[..] else {
            panic!("one partition is one")
        };
        assert_eq!(a.detection.bytes, 9);
        // It tells less than what is in hand.
        hold(&mut window, 0, 3, "a", 9);
        window.ack(a);
        assert_eq!((window.open(), window.positions()), (0, vec![(0, 4)]));
    }

    #[test]
    fn an_ack_of_what_was_replaced_changes_nothing() {
        let mut window = window();
        hold(&mut window, 0, 0, "a", 5);
        let older = window.deliver(1).remove(0);
        hold(&mut window, 0, 1, "a", 6);
        window.ack(&older);
        assert_eq!(window.positions(), [(0, 0)]);
        let newer = window.deliver(1).remove(0);
        window.ack(&newer);
        window.ack(&newer);
        assert_eq!(window.positions(), [(0, 2)]);
    }

    #[test]
    fn everything_is_delivered_once_before_anything_is_again() {
        let mut window = window();
        for offset in 0..5 {
            hold(&mut window, 0, offset, &format!("id{offset}"), 1);
        }
        let mut ids = Vec::new();
        for _ in 0..5 {
            ids.extend(
                window
                    .deliver(2)
                    .into_iter()
                    .map(|delivery| delivery.detection.partition.time_series_id.to_string()),
            );
        }
        assert_eq!(
            ids,
            [
                "id0", "id1", "id2", "id3", "id4", "id0", "id1", "id2", "id3", "id4"
            ]
        );
        assert_eq!(window.deliver(9).len(), 5);
    }

    #[test]
    fn what_was_taken_back_is_forgotten() {
        let mut window = window();
        window.assign(1);
        hold(&mut window, 0, 0, "a", 1);
        hold(&mut window, 1, 0, "b", 1);
        let dead = window.read(0, 1).unwrap();
        let delivered = window.deliver(10);
        assert!(!window.is_recalled_in_hand());
        window.recall(&[0]);
        assert!(window.is_recalled_in_hand(), "it is `a`");
        window.let_go();
        let others = window.deliver(10);
        assert_eq!((others.len(), &others[0]), (1, &delivered[1]));
        assert!(!window.is_recalled_in_hand(), "`b` stays here");
        window.revoke(&[0]);
        assert_eq!(window.read(0, 2), None);
        // It comes back: the same offsets, read again under another term.
        window.assign(0);
        hold(&mut window, 0, 0, "a", 1);
        window.done(dead);
        window.read(0, 1).unwrap();
        window.ack(&delivered[0]);
        window.ack(&delivered[1]);
        assert_eq!(window.positions(), [(0, 0), (1, 1)]);
        assert_eq!(window.open(), 2);
    }

    #[test]
    fn a_partition_whose_key_moved_is_acked_in_both_places() {
        let mut window = window();
        window.assign(1);
        hold(&mut window, 0, 7, "a", 1);
        hold(&mut window, 1, 0, "a", 2);
        let delivery = window.deliver(1).remove(0);
        window.recall(&[2]);
        assert!(!window.is_recalled_in_hand());
        window.ack(&delivery);
        assert_eq!(window.positions(), [(0, 8), (1, 1)]);
    }
}
