//! Events, in and out.

use anabranch_model::names::{EVENT_BYTES_MAX, EVENT_ITEMS_MAX, ITEM_VALUE_BYTES_MAX};
use anabranch_model::{Event, EventId, EventItem, EventKey, EventRecord, InvalidName, ItemKey, TimeSeriesId};
use anabranch_proto::timeseries::v1 as pb;

use super::fields;
use crate::errors::{Reason, ServiceError};
use crate::write::REQUEST_EVENTS_MAX;

/// The events of a write: at least one, every one complete, items ascending by key.
///
/// # Errors
/// `INVALID_EVENT`, `INVALID_TIMESTAMP`, `FIELD_TOO_LARGE`, `TOO_MANY_EVENTS`.
pub fn records(events: Vec<pb::EventRecord>) -> Result<Vec<EventRecord>, ServiceError> {
    if events.is_empty() {
        return Err(ServiceError::of_field(
            Reason::InvalidEvent,
            "events",
            "is empty; send at least one event",
        ));
    }
    if events.len() > REQUEST_EVENTS_MAX {
        let problem = format!(
            "has {} events, at most {REQUEST_EVENTS_MAX} are allowed; send several requests or a stream",
            events.len()
        );
        return Err(ServiceError::of_field(Reason::TooManyEvents, "events", problem));
    }
    events
        .into_iter()
        .enumerate()
        .map(|(index, event)| record(event).map_err(|wrong| wrong.at(index)))
        .collect()
}

/// What is wrong with an event, before its place in the request is known: paths cost something, and
/// most events are right.
struct Wrong {
    reason: Reason,
    path: String,
    problem: String,
}

impl Wrong {
    fn new(reason: Reason, path: impl Into<String>, problem: impl Into<String>) -> Self {
        let (path, problem) = (path.into(), problem.into());
        Self {
            reason,
            path,
            problem,
        }
    }

    fn name(path: impl Into<String>, why: &InvalidName) -> Self {
        match why {
            InvalidName::TooLong { bytes, bytes_max, .. } => {
                let problem = format!("has {bytes} bytes, at most {bytes_max} are allowed");
                Self::new(Reason::FieldTooLarge, path, problem)
            }
            InvalidName::Empty { .. } => Self::new(Reason::InvalidEvent, path, "must not be empty"),
            other => Self::new(Reason::InvalidEvent, path, other.to_string()),
        }
    }

    fn at(self, index: usize) -> ServiceError {
        let separator = if self.path.is_empty() { "" } else { "." };
        let path = format!("events[{index}]{separator}{}", self.path);
        ServiceError::of_field(self.reason, path, self.problem)
    }
}

fn record(event: pb::EventRecord) -> Result<EventRecord, Wrong> {
    let time_series_id =
        TimeSeriesId::new(event.time_series_id).map_err(|why| Wrong::name("time_series_id", &why))?;
    let time = event.event_time.ok_or_else(|| {
        Wrong::new(
            Reason::InvalidTimestamp,
            "event_time",
            "is missing; say when it happened",
        )
    })?;
    let time = anabranch_model::EventTime::from_timestamp(time.seconds, time.nanos).ok_or_else(|| {
        let problem = format!(
            "seconds {} and nanos {} are no time in the years 0001 to 9999",
            time.seconds, time.nanos
        );
        Wrong::new(Reason::InvalidTimestamp, "event_time", problem)
    })?;
    let id = EventId::new(event.event_id).map_err(|why| Wrong::name("event_id", &why))?;
    let event = Event {
        key: EventKey { time, id },
        items: items(event.event_items)?,
    };
    let bytes = event.content_bytes();
    if bytes > EVENT_BYTES_MAX {
        let problem = format!("has {bytes} bytes, at most {EVENT_BYTES_MAX} are allowed");
        return Err(Wrong::new(Reason::FieldTooLarge, "", problem));
    }
    Ok(EventRecord {
        time_series_id,
        event,
    })
}

fn items(items: Vec<pb::EventItem>) -> Result<Vec<EventItem>, Wrong> {
    if items.is_empty() {
        return Err(Wrong::new(
            Reason::InvalidEvent,
            "event_items",
            "is empty; an event has at least one item",
        ));
    }
    if items.len() > EVENT_ITEMS_MAX {
        let problem = format!("has {} items, at most {EVENT_ITEMS_MAX} are allowed", items.len());
        return Err(Wrong::new(Reason::FieldTooLarge, "event_items", problem));
    }
    let mut checked = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let key = ItemKey::new(item.event_item_key)
            .map_err(|why| Wrong::name(format!("event_items[{index}].event_item_key"), &why))?;
        let bytes = item.event_item_value.len();
        if bytes > ITEM_VALUE_BYTES_MAX {
            let problem = format!("has {bytes} bytes, at most {ITEM_VALUE_BYTES_MAX} are allowed");
            let path = format!("event_items[{index}].event_item_value");
            return Err(Wrong::new(Reason::FieldTooLarge, path, problem));
        }
        checked.push((
            index,
            EventItem {
                key,
                value: item.event_item_value,
            },
        ));
    }
    checked.sort_by(|(_, a), (_, b)| a.key.cmp(&b.key));
    if let Some([(a, first), (b, _)]) = checked.array_windows().find(|[(_, a), (_, b)]| a.key == b.key) {
        let problem = format!("`{}` is the key of event_items[{}] too", first.key, a.min(b));
        let path = format!("event_items[{}].event_item_key", a.max(b));
        return Err(Wrong::new(Reason::InvalidEvent, path, problem));
    }
    Ok(checked.into_iter().map(|(_, item)| item).collect())
}

/// Which parts of an event an answer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadMask {
    time_series_id: bool,
    event_time: bool,
    event_id: bool,
    items: Items,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Items {
    None,
    Keys,
    Values,
    Whole,
}

impl ReadMask {
    /// Everything.
    pub const ALL: Self = Self {
        time_series_id: true,
        event_time: true,
        event_id: true,
        items: Items::Whole,
    };

    /// The mask of a request; everything when absent, empty or `*`.
    ///
    /// # Errors
    /// `INVALID_READ_MASK`.
    pub fn of(mask: Option<&prost_types::FieldMask>) -> Result<Self, ServiceError> {
        const KNOWN: [&str; 7] = [
            "*",
            "time_series_id",
            "event_time",
            "event_id",
            "event_items",
            "event_items.event_item_key",
            "event_items.event_item_value",
        ];
        let paths = mask.map_or(&[][..], |mask| &mask.paths);
        if paths.is_empty() {
            return Ok(Self::ALL);
        }
        let mut read = Self {
            time_series_id: false,
            event_time: false,
            event_id: false,
            items: Items::None,
        };
        for path in paths {
            match path.as_str() {
                "*" => read = Self::ALL,
                "time_series_id" => read.time_series_id = true,
                "event_time" => read.event_time = true,
                "event_id" => read.event_id = true,
                "event_items" => read.items = Items::Whole,
                "event_items.event_item_key" => read.items = read.items.and(Items::Keys),
                "event_items.event_item_value" => read.items = read.items.and(Items::Values),
                unknown => {
                    let hint = crate::errors::did_you_mean(unknown, KNOWN);
                    let problem = format!("`{unknown}` is no field of an event record{hint}");
                    return Err(ServiceError::of_field(
                        Reason::InvalidReadMask,
                        "read_mask",
                        problem,
                    ));
                }
            }
        }
        Ok(read)
    }

    /// The parts of a record that the mask names.
    pub fn apply(self, record: EventRecord) -> pb::EventRecord {
        let EventRecord {
            time_series_id,
            event,
        } = record;
        let item = |item: EventItem| pb::EventItem {
            event_item_key: match self.items {
                Items::Values => String::new(),
                _ => item.key.into(),
            },
            event_item_value: match self.items {
                Items::Keys => bytes::Bytes::new(),
                _ => item.value,
            },
        };
        pb::EventRecord {
            time_series_id: if self.time_series_id {
                time_series_id.into()
            } else {
                String::new()
            },
            event_time: if self.event_time {
                fields::timestamp(event.key.time)
            } else {
                None
            },
            event_id: if self.event_id {
                event.key.id.into()
            } else {
                String::new()
            },
            event_items: match self.items {
                Items::None => Vec::new(),
                _ => event.items.into_iter().map(item).collect(),
            },
        }
    }
}

impl Items {
    fn and(self, more: Self) -> Self {
        if self == Self::None || self == more {
            more
        } else {
            Self::Whole
        }
    }
}

#[cfg(test)]
mod tests;
