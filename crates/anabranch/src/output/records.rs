//! Pages of events in each form, as they come.

use std::io::{self, Write};

use anabranch_proto::timeseries::v1::EventRecord;
use base64::Engine as _;

use super::ndjson::{EventJson, write_event};
use super::{Format, csv, table};
use crate::units::format_time;

/// Prints pages of events, one after the other.
#[derive(Debug)]
pub(crate) struct Records<W: Write> {
    out: W,
    format: Format,
    /// Whether the events may be of several time series.
    with_ids: bool,
    printed: u64,
}

impl<W: Write> Records<W> {
    /// Prints to `out`; with a column of ids when events may be of several time series.
    pub(crate) fn new(out: W, format: Format, with_ids: bool) -> Self {
        Self {
            out,
            format,
            with_ids,
            printed: 0,
        }
    }

    /// Prints a page.
    pub(crate) fn page(&mut self, events: &[EventRecord]) -> io::Result<()> {
        match self.format {
            Format::Ndjson => {
                for event in events {
                    write_event(&mut self.out, event)?;
                }
            }
            Format::Json => {
                for (at, event) in events.iter().enumerate() {
                    let before: &[u8] = if self.printed == 0 && at == 0 {
                        b"[\n  "
                    } else {
                        b",\n  "
                    };
                    self.out.write_all(before)?;
                    serde_json::to_writer(&mut self.out, &EventJson(event))?;
                }
            }
            Format::Csv => {
                if self.printed == 0 {
                    let head = [
                        "time_series_id",
                        "event_time",
                        "event_id",
                        "event_item_key",
                        "event_item_value",
                    ];
                    csv::write_row(&mut self.out, &head)?;
                }
                for event in events {
                    let time = event.event_time.as_ref().map(format_time).unwrap_or_default();
                    for item in &event.event_items {
                        let value = text_or_base64(&item.event_item_value);
                        let row = [
                            &event.time_series_id,
                            &time,
                            &event.event_id,
                            &item.event_item_key,
                            &value,
                        ];
                        csv::write_row(&mut self.out, &row)?;
                    }
                }
            }
            Format::Table => self.table(events)?,
        }
        self.printed += events.len() as u64;
        self.out.flush()
    }

    /// Ends the document.
    pub(crate) fn finish(&mut self) -> io::Result<u64> {
        if self.format == Format::Json {
            let end: &[u8] = if self.printed == 0 { b"[]\n" } else { b"\n]\n" };
            self.out.write_all(end)?;
        }
        self.out.flush()?;
        Ok(self.printed)
    }

    fn table(&mut self, events: &[EventRecord]) -> io::Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        let mut head = vec!["EVENT_TIME", "EVENT_ID", "ITEM", "VALUE"];
        if self.with_ids {
            head.insert(0, "TIME_SERIES_ID");
        }
        let head = head.into_iter().map(str::to_owned).collect();
        let rows = events.iter().flat_map(|event| self.rows(event)).collect();
        // Every page lines up by itself, so every page has a head.
        table::write(&mut self.out, Some(head), rows, table::width())
    }

    /// A line for each item; what is the same for all of them only on the first.
    fn rows(&self, event: &EventRecord) -> Vec<Vec<String>> {
        let mut rows = Vec::new();
        for at in 0..event.event_items.len().max(1) {
            let mut cells = vec![String::new(); 2 + usize::from(self.with_ids)];
            if at == 0 {
                cells.clear();
                if self.with_ids {
                    cells.push(event.time_series_id.clone());
                }
                cells.push(event.event_time.as_ref().map(format_time).unwrap_or_default());
                cells.push(event.event_id.clone());
            }
            match event.event_items.get(at) {
                Some(item) => {
                    cells.push(item.event_item_key.clone());
                    cells.push(shown(&item.event_item_value));
                }
                None => cells.extend([String::new(), String::new()]),
            }
            rows.push(cells);
        }
        rows
    }
}

/// A value for a person: its text, or the start of its bytes.
pub(crate) fn shown(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) if !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') => text.to_owned(),
        _ => {
            let start: String = value.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
            let more = if value.len() > 16 { "…" } else { "" };
            format!("0x{start}{more} ({} bytes)", value.len())
        }
    }
}

/// A value in CSV: its text, or `base64:` and its bytes.
pub(crate) fn text_or_base64(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) => text.to_owned(),
        Err(_) => format!(
            "base64:{}",
            base64::engine::general_purpose::STANDARD.encode(value)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_proto::timeseries::v1::EventItem;

    fn event() -> EventRecord {
        let item = |key: &str, value: &[u8]| EventItem {
            event_item_key: key.to_owned(),
            event_item_value: value.to_vec().into(),
        };
        EventRecord {
            time_series_id: "a".to_owned(),
            event_time: Some(prost_types::Timestamp {
                seconds: 0,
                nanos: 1_000,
            }),
            event_id: "e1".to_owned(),
            event_items: vec![item("k", b"v"), item("raw", &[0, 255])],
        }
    }

    fn printed(format: Format, pages: &[&[EventRecord]]) -> String {
        let mut out = Vec::new();
        let mut records = Records::new(&mut out, format, false);
        for page in pages {
            records.page(page).unwrap();
        }
        records.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_form_shows_every_item() {
        let line = r#"{"timeSeriesId":"a","eventTime":"1970-01-01T00:00:00.000001Z","eventId":"e1","eventItems":[{"eventItemKey":"k","eventItemValue":"dg=="},{"eventItemKey":"raw","eventItemValue":"AP8="}]}"#;
        assert_eq!(printed(Format::Ndjson, &[&[event()]]), format!("{line}\n"));
        assert_eq!(
            printed(Format::Csv, &[&[event()]]),
            "time_series_id,event_time,event_id,event_item_key,event_item_value\n\
             a,1970-01-01T00:00:00.000001Z,e1,k,v\na,1970-01-01T00:00:00.000001Z,e1,raw,base64:AP8=\n"
        );
        assert_eq!(
            printed(Format::Table, &[&[event()]]),
            "EVENT_TIME                   EVENT_ID  ITEM  VALUE\n\
             1970-01-01T00:00:00.000001Z  e1        k     v\n\
             \u{20}                                      raw   0x00ff (2 bytes)\n"
        );
    }

    #[test]
    fn json_is_one_document_over_all_pages() {
        for pages in [
            &[][..],
            &[&[event()][..]],
            &[&[event()], &[], &[event(), event()]],
        ] {
            let text = printed(Format::Json, pages);
            let list: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
            assert_eq!(list.len(), pages.iter().map(|page| page.len()).sum::<usize>());
        }
    }
}
