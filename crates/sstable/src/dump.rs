//! Writes SSTables as NDJSON, in the manner of `sstabledump`.
//!
//! [`Lines::Partitions`]: a line for each partition, the objects that `sstabledump -l` writes, with the name
//! of the SSTable before them and without `table kind`:
//!
//! ```json
//! {"sstable":"nb-1-big","partition":{"key":["a","1"],"position":0},"rows":[
//!   {"type":"row","position":32,"clustering":[7],"liveness_info":{"tstamp":"2026-11-24T10:48:00Z"},
//!    "cells":[{"name":"v","value":1}]}]}
//! ```
//!
//! [`Lines::Rows`]: a line `{"type":"partition"}` where a partition starts, and one for each static row
//! (`static_block`), row, and range tombstone bound; each has `sstable` and `key`. A line is never longer than
//! what it takes to write one row.
//!
//! What differs from `sstabledump`: `position` is where the thing itself starts in the uncompressed data;
//! column names are not quoted; a cell that expires at another time than its row says so even when its TTL is
//! the row's; `expired` appears only when a time to compare with is given; `NaN` and infinities are text; a value that
//! its type does not fit is an object that says so, with its bytes.
//!
//! A dump that fails has written whole lines up to the damage, or, with a line for each partition, part of a
//! line without its end.

use std::io::{self, Write};
use std::path::Path;

use bytes::Bytes;

use crate::cql::{Column, CqlType, Schema};
use crate::error::{Result, SstableError};
use crate::json;
use crate::table::Table;
use crate::text::{self, Unit};
use crate::unfiltered::{
    Cell, CellState, ColumnData, DeletionTime, Expiry, Liveness, MarkerKind, PartitionHeader,
    RangeTombstoneMarker, Row, Unfiltered,
};
use crate::value::Value;

/// What a line holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lines {
    /// A whole partition.
    #[default]
    Partitions,
    /// A row, or a bound of a range tombstone.
    Rows,
}

/// How to write.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// What a line holds.
    pub lines: Lines,
    /// Times as numbers in quotes, in microseconds or seconds, instead of dates.
    pub raw_times: bool,
    /// The time, in seconds since 1970, by which `expired` is decided; without it, it is not written.
    pub now: Option<i64>,
}

/// Dumps the SSTable that `path` names, or every SSTable of a folder one after the other.
pub fn run(path: &Path, options: Options, out: &mut dyn Write) -> Result<()> {
    let tables = Table::open_all(path)?;
    tables.iter().try_for_each(|table| write(table, options, out))
}

/// Dumps one SSTable.
pub fn write(table: &Table, options: Options, out: &mut dyn Write) -> Result<()> {
    let mut reader = table.read()?;
    let mut dump = Dump {
        sstable: table.descriptor().to_string(),
        schema: table.schema(),
        options,
        line: Vec::new(),
        out,
    };
    while let Some(partition) = reader.next_partition()? {
        let key = dump.key(&partition.key);
        dump.start(&key, &partition)?;
        let mut rows = 0_u64;
        if let Some(row) = &partition.static_row {
            dump.row(&key, &mut rows, "static_block", row)?;
        }
        while let Some(unfiltered) = reader.next_unfiltered()? {
            match unfiltered {
                Unfiltered::Row(row) => dump.row(&key, &mut rows, "row", &row)?,
                Unfiltered::RangeTombstoneMarker(marker) => dump.marker(&key, &mut rows, &marker)?,
            }
        }
        dump.end()?;
    }
    Ok(())
}

struct Dump<'a> {
    sstable: String,
    schema: &'a Schema,
    options: Options,
    line: Vec<u8>,
    out: &'a mut dyn Write,
}

impl Dump<'_> {
    fn start(&mut self, key: &[u8], partition: &PartitionHeader) -> Result<()> {
        self.name_sstable();
        match self.options.lines {
            Lines::Partitions => self.raw("\"partition\":{\"key\":"),
            Lines::Rows => self.raw("\"type\":\"partition\",\"key\":"),
        }
        self.line.extend_from_slice(key);
        self.raw(&format!(",\"position\":{}", partition.position));
        self.deletion_info(partition.deletion);
        match self.options.lines {
            Lines::Partitions => {
                self.raw("},\"rows\":[");
                self.flush()
            }
            Lines::Rows => self.finish_line("}\n"),
        }
    }

    fn end(&mut self) -> Result<()> {
        match self.options.lines {
            Lines::Partitions => self.finish_line("]}\n"),
            Lines::Rows => Ok(()),
        }
    }

    fn name_sstable(&mut self) {
        self.raw("{\"sstable\":");
        json::string(&mut self.line, &self.sstable);
        self.raw(",");
    }

    /// What stands before a row or marker, up to its type.
    fn begin_item(&mut self, key: &[u8], rows: &mut u64) {
        match self.options.lines {
            Lines::Partitions if *rows == 0 => self.raw("{"),
            Lines::Partitions => self.raw(",{"),
            Lines::Rows => {
                self.name_sstable();
                self.raw("\"key\":");
                self.line.extend_from_slice(key);
                self.raw(",");
            }
        }
        *rows += 1;
    }

    fn end_item(&mut self) -> Result<()> {
        match self.options.lines {
            Lines::Partitions => self.finish_line("}"),
            Lines::Rows => self.finish_line("}\n"),
        }
    }

    fn row(&mut self, key: &[u8], rows: &mut u64, kind: &str, row: &Row) -> Result<()> {
        self.begin_item(key, rows);
        self.raw(&format!("\"type\":\"{kind}\",\"position\":{}", row.position));
        self.clustering(&row.clustering);
        if let Some(liveness) = row.liveness {
            self.raw(",\"liveness_info\":{\"tstamp\":");
            self.time(Unit::Microseconds, liveness.timestamp);
            self.expiry(liveness.expiry);
            self.raw("}");
        }
        self.deletion_info(row.deletion);
        if row.shadowable {
            self.raw(",\"shadowable\":true");
        }
        self.raw(",\"cells\":[");
        let columns = self.schema.columns(kind == "static_block");
        let mut is_first = true;
        for data in &row.columns {
            if let Some(column) = columns.get(data.column) {
                self.column(column, data, row.liveness, &mut is_first);
            }
        }
        self.raw("]");
        self.end_item()
    }

    fn column(
        &mut self,
        column: &Column,
        data: &ColumnData,
        liveness: Option<Liveness>,
        is_first: &mut bool,
    ) {
        if data.deletion.is_some() {
            self.begin_cell(column, is_first);
            self.deletion_info(data.deletion);
            self.raw("}");
        }
        for cell in &data.cells {
            self.begin_cell(column, is_first);
            self.cell(column, cell, liveness);
            self.raw("}");
        }
    }

    fn begin_cell(&mut self, column: &Column, is_first: &mut bool) {
        self.raw(if *is_first { "{\"name\":" } else { ",{\"name\":" });
        *is_first = false;
        json::string(&mut self.line, &column.label());
    }

    fn cell(&mut self, column: &Column, cell: &Cell, liveness: Option<Liveness>) {
        let (path, value_type) = path_and_type(&column.cql_type, cell.path.as_ref());
        if let Some(path) = path {
            self.raw(",\"path\":[");
            json::string(&mut self.line, &path);
            self.raw("]");
        }
        let expiry = match &cell.state {
            CellState::Tombstone { local_deletion_time } => {
                self.raw(",\"deletion_info\":{\"local_delete_time\":");
                self.time(Unit::Seconds, *local_deletion_time);
                self.raw("}");
                None
            }
            CellState::Live(value) => {
                self.value(value_type, value);
                None
            }
            CellState::Expiring(value, expiry) => {
                self.value(value_type, value);
                Some(*expiry)
            }
        };
        if liveness.map(|liveness| liveness.timestamp) != Some(cell.timestamp) {
            self.raw(",\"tstamp\":");
            self.time(Unit::Microseconds, cell.timestamp);
        }
        if expiry != liveness.and_then(|liveness| liveness.expiry) {
            self.expiry(expiry);
        }
    }

    fn value(&mut self, cql_type: &CqlType, bytes: &Bytes) {
        self.raw(",\"value\":");
        json::stored(&mut self.line, cql_type, bytes);
    }

    fn marker(&mut self, key: &[u8], rows: &mut u64, marker: &RangeTombstoneMarker) -> Result<()> {
        self.begin_item(key, rows);
        let kind = match marker.kind {
            MarkerKind::Boundary { .. } => "range_tombstone_boundary",
            _ => "range_tombstone_bound",
        };
        self.raw(&format!("\"type\":\"{kind}\",\"position\":{}", marker.position));
        match marker.kind {
            MarkerKind::Open { inclusive, deletion } => self.bound("start", inclusive, marker, deletion),
            MarkerKind::Close { inclusive, deletion } => self.bound("end", inclusive, marker, deletion),
            MarkerKind::Boundary {
                close_inclusive,
                closed,
                opened,
            } => {
                self.bound("start", !close_inclusive, marker, opened);
                self.bound("end", close_inclusive, marker, closed);
            }
        }
        self.end_item()
    }

    fn bound(&mut self, side: &str, inclusive: bool, marker: &RangeTombstoneMarker, deletion: DeletionTime) {
        let kind = if inclusive { "inclusive" } else { "exclusive" };
        self.raw(&format!(",\"{side}\":{{\"type\":\"{kind}\""));
        self.clustering(&marker.clustering);
        self.deletion_info(Some(deletion));
        self.raw("}");
    }

    /// The clustering values; `"*"` for those that a bound leaves open.
    fn clustering(&mut self, values: &[Option<Bytes>]) {
        if values.is_empty() {
            return;
        }
        self.raw(",\"clustering\":");
        let columns = self.schema.clustering.iter().enumerate();
        json::list(&mut self.line, columns, |line, (at, cql_type)| {
            match values.get(at) {
                Some(Some(bytes)) => json::stored(line, cql_type, bytes),
                Some(None) => line.extend_from_slice(b"null"),
                None => json::string(line, "*"),
            }
        });
    }

    /// The key's columns, each as text.
    fn key(&self, key: &Bytes) -> Vec<u8> {
        let mut out = Vec::new();
        match self.schema.split_partition_key(key) {
            Some(parts) => {
                let columns = self.schema.partition_key_types().iter().zip(parts);
                json::list(&mut out, columns, |out, (cql_type, bytes)| {
                    json::string(out, &key_text(cql_type, &bytes));
                });
            }
            None => json::list(&mut out, [key], |out, key| {
                json::string(out, &format!("0x{}", json::hex(key)));
            }),
        }
        out
    }

    fn deletion_info(&mut self, deletion: Option<DeletionTime>) {
        let Some(deletion) = deletion else { return };
        self.raw(",\"deletion_info\":{\"marked_deleted\":");
        self.time(Unit::Microseconds, deletion.marked_for_delete_at);
        self.raw(",\"local_delete_time\":");
        self.time(Unit::Seconds, deletion.local_deletion_time);
        self.raw("}");
    }

    fn expiry(&mut self, expiry: Option<Expiry>) {
        let Some(expiry) = expiry else { return };
        self.raw(&format!(",\"ttl\":{},\"expires_at\":", expiry.ttl));
        self.time(Unit::Seconds, expiry.at);
        if let Some(now) = self.options.now {
            self.raw(&format!(",\"expired\":{}", expiry.at <= now));
        }
    }

    fn time(&mut self, unit: Unit, time: i64) {
        let text = match self.options.raw_times {
            true => time.to_string(),
            false => text::instant(unit, time),
        };
        json::string(&mut self.line, &text);
    }

    fn raw(&mut self, text: &str) {
        self.line.extend_from_slice(text.as_bytes());
    }

    fn finish_line(&mut self, text: &str) -> Result<()> {
        self.raw(text);
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        let written = self.out.write_all(&self.line);
        self.line.clear();
        written.map_err(|source: io::Error| SstableError::Output { source })
    }
}

/// The element that a path names, as text, and the type of what the cell holds.
fn path_and_type<'a>(column: &'a CqlType, path: Option<&Bytes>) -> (Option<String>, &'a CqlType) {
    let Some(path) = path else {
        return (None, column);
    };
    match column {
        CqlType::List(element) => (Some(key_text(&CqlType::TimeUuid, path)), element),
        CqlType::Map(key, value) => (Some(key_text(key, path)), value),
        // The element is the path; the cell itself is empty.
        CqlType::Set(element) => (Some(key_text(element, path)), &CqlType::Empty),
        CqlType::Udt(udt) => {
            let number = <[u8; 2]>::try_from(path.as_ref()).map(u16::from_be_bytes);
            match number.ok().and_then(|number| udt.fields.get(usize::from(number))) {
                Some((name, cql_type)) => (Some(name.clone()), cql_type),
                None => (Some(format!("0x{}", json::hex(path))), &CqlType::Blob),
            }
        }
        _ => (Some(format!("0x{}", json::hex(path))), column),
    }
}

fn key_text(cql_type: &CqlType, bytes: &Bytes) -> String {
    match Value::decode(cql_type, bytes) {
        Ok(value) => json::key_text(Some(&value)),
        Err(_) => format!("0x{}", json::hex(bytes)),
    }
}
