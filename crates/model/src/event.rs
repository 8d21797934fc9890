//! Events, their keys, and the one definition of event order.

use std::cmp::Ordering;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::names::{EventId, ItemKey, TimeSeriesId};
use crate::time::EventTime;

/// Which end of time a read starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// Newest first.
    #[default]
    Descending,
    /// Oldest first.
    Ascending,
}

impl Direction {
    /// Compares two values in the order in which a walk in this direction meets them.
    pub fn compare<T: Ord>(self, a: &T, b: &T) -> Ordering {
        match self {
            Self::Ascending => a.cmp(b),
            Self::Descending => b.cmp(a),
        }
    }
}

/// What tells one event of a time series id from another, and where it stands among them.
///
/// The order of this type (time, then the bytes of the event id) is *the* event order (R1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventKey {
    /// When the event happened.
    pub time: EventTime,
    /// Tells apart events of the same time.
    pub id: EventId,
}

/// One key and value of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventItem {
    /// The item's key, unique within its event.
    pub key: ItemKey,
    /// The value as it was written.
    pub value: Bytes,
}

/// What happened: a key and at least one item. Items ascend by key, whatever the direction of a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Time and id.
    pub key: EventKey,
    /// Items, ascending by key, no key twice.
    pub items: Vec<EventItem>,
}

impl Event {
    /// The value of an item, if the event has it.
    pub fn item(&self, key: &str) -> Option<&Bytes> {
        let at = self
            .items
            .binary_search_by(|item| item.key.as_str().cmp(key))
            .ok()?;
        self.items.get(at).map(|item| &item.value)
    }

    /// Bytes of the event's content: ids, keys and values, without any encoding around them. Page
    /// budgets and limits count these.
    pub fn content_bytes(&self) -> usize {
        let items: usize = self
            .items
            .iter()
            .map(|item| item.key.as_bytes().len() + item.value.len())
            .sum();
        8 + self.key.id.as_bytes().len() + items
    }
}

/// An event and the time series id that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRecord {
    /// The entity.
    pub time_series_id: TimeSeriesId,
    /// What happened to it.
    pub event: Event,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(micros: i64, id: &str) -> EventKey {
        EventKey {
            time: EventTime::from_micros(micros),
            id: EventId::new(id).unwrap(),
        }
    }

    #[test]
    fn order_is_time_then_bytes_of_the_event_id() {
        assert!(key(1, "z") < key(2, "a"));
        assert!(key(1, "a") < key(1, "aa"));
        assert!(key(1, "Z") < key(1, "a"));
        assert_eq!(
            Direction::Descending.compare(&key(1, "a"), &key(2, "a")),
            Ordering::Greater
        );
    }

    #[test]
    fn items_are_found_by_key() {
        let item = |k: &str| EventItem {
            key: ItemKey::new(k).unwrap(),
            value: Bytes::from(k.to_owned()),
        };
        let event = Event {
            key: key(1, "a"),
            items: vec![item("a"), item("b"), item("d")],
        };
        assert_eq!(event.item("b").unwrap().as_ref(), b"b");
        assert_eq!(event.item("c"), None);
    }
}
