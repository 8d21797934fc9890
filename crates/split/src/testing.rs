//! Names and events for tests.

use anabranch_model::{Event, EventId, EventItem, EventKey, EventTime, ItemKey, TimeSeriesId};
use bytes::Bytes;

pub(crate) fn id(id: &str) -> TimeSeriesId {
    TimeSeriesId::new(id).unwrap()
}

pub(crate) fn key(micros: i64, id: &str) -> EventKey {
    EventKey {
        time: EventTime::from_micros(micros),
        id: EventId::new(id).unwrap(),
    }
}

pub(crate) fn event(micros: i64, id: &str, items: &[(&str, &str)]) -> Event {
    Event {
        key: key(micros, id),
        items: items
            .iter()
            .map(|(key, value)| EventItem {
                key: ItemKey::new(*key).unwrap(),
                value: Bytes::copy_from_slice(value.as_bytes()),
            })
            .collect(),
    }
}
