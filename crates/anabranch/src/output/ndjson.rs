//! Events as proto3 JSON, one a line: what `read` prints and `write` reads.

use std::io::{self, Write};

use anabranch_proto::timeseries::v1::EventRecord;
use base64::Engine as _;
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use crate::units::push_time;

/// An event in proto3 JSON. Fields that are empty are left out, as a read mask leaves them.
#[derive(Debug)]
pub(crate) struct EventJson<'a>(pub(crate) &'a EventRecord);

impl Serialize for EventJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let event = self.0;
        let mut fields = serializer.serialize_map(None)?;
        if !event.time_series_id.is_empty() {
            fields.serialize_entry("timeSeriesId", &event.time_series_id)?;
        }
        if let Some(time) = &event.event_time {
            let mut text = String::with_capacity(30);
            push_time(&mut text, time);
            fields.serialize_entry("eventTime", &text)?;
        }
        if !event.event_id.is_empty() {
            fields.serialize_entry("eventId", &event.event_id)?;
        }
        if !event.event_items.is_empty() {
            fields.serialize_entry("eventItems", &Items(event))?;
        }
        fields.end()
    }
}

struct Items<'a>(&'a EventRecord);

impl Serialize for Items<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let items = &self.0.event_items;
        let mut list = serializer.serialize_seq(Some(items.len()))?;
        for item in items {
            list.serialize_element(&Item(&item.event_item_key, &item.event_item_value))?;
        }
        list.end()
    }
}

struct Item<'a>(&'a str, &'a [u8]);

impl Serialize for Item<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_map(None)?;
        fields.serialize_entry("eventItemKey", self.0)?;
        if !self.1.is_empty() {
            let text = base64::engine::general_purpose::STANDARD.encode(self.1);
            fields.serialize_entry("eventItemValue", &text)?;
        }
        fields.end()
    }
}

/// Writes an event and a line break.
pub(crate) fn write_event(out: &mut impl Write, event: &EventRecord) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &EventJson(event))?;
    out.write_all(b"\n")
}
