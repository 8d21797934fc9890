//! From bytes to partitions, rows, cells and markers.
//!
//! Every row and marker says how long it is, and must come out at exactly that length.

use bytes::Bytes;

use crate::cql::{Column, Schema};
use crate::error::Result;
use crate::fields::{
    clustering, deletion, live_or_deletion, present_columns, relative_deletion_time, signed_deletion,
    sized_body, timestamp, unsigned_deletion, value,
};
use crate::input::{Cursor, DataInput, Input};
use crate::unfiltered::{
    Cell, CellState, ColumnData, DeletionTime, Expiry, Liveness, MarkerKind, RangeTombstoneMarker, Row,
    Unfiltered,
};
use crate::version::Version;

/// Flags of a row or marker.
mod flags {
    pub(super) const END_OF_PARTITION: u8 = 0x01;
    pub(super) const IS_MARKER: u8 = 0x02;
    pub(super) const HAS_TIMESTAMP: u8 = 0x04;
    pub(super) const HAS_TTL: u8 = 0x08;
    pub(super) const HAS_DELETION: u8 = 0x10;
    pub(super) const HAS_ALL_COLUMNS: u8 = 0x20;
    pub(super) const HAS_COMPLEX_DELETION: u8 = 0x40;
    pub(super) const HAS_EXTENSION: u8 = 0x80;

    pub(super) const EXTENDED_IS_STATIC: u8 = 0x01;
    pub(super) const EXTENDED_IS_SHADOWABLE: u8 = 0x02;
}

/// Flags of a cell.
mod cell_flags {
    pub(super) const IS_DELETED: u8 = 0x01;
    pub(super) const IS_EXPIRING: u8 = 0x02;
    pub(super) const HAS_EMPTY_VALUE: u8 = 0x04;
    pub(super) const USES_ROW_TIMESTAMP: u8 = 0x08;
    pub(super) const USES_ROW_TTL: u8 = 0x10;
    pub(super) const ALL: u8 = 0x1f;
}

/// What is needed to read any partition of a file.
#[derive(Debug)]
pub(crate) struct Decoder {
    version: Version,
    schema: Schema,
}

impl Decoder {
    pub(crate) fn new(version: Version, schema: Schema) -> Self {
        Self { version, schema }
    }

    /// The key and the deletion that start a partition.
    pub(crate) fn partition_start(&self, input: &mut DataInput) -> Result<(Bytes, Option<DeletionTime>)> {
        let key = input.short_bytes()?;
        let deletion = match self.version.has_unsigned_deletion_times() {
            true => unsigned_deletion(input)?,
            false => signed_deletion(input)?,
        };
        Ok((key, deletion))
    }

    /// The static row that follows the key when the table has static columns: `None` when nothing is in it.
    pub(crate) fn static_row(&self, input: &mut DataInput) -> Result<Option<Row>> {
        if self.schema.statics.is_empty() {
            return Ok(None);
        }
        let position = input.position();
        let first = input.u8()?;
        let extended = if first & flags::HAS_EXTENSION == 0 {
            0
        } else {
            input.u8()?
        };
        if first & (flags::END_OF_PARTITION | flags::IS_MARKER) != 0
            || extended & flags::EXTENDED_IS_STATIC == 0
        {
            return Err(input.wrong(format!("the static row has flags {first:#x} {extended:#x}")));
        }
        let row = self.row(input, position, first, extended, Vec::new())?;
        let is_empty = row.liveness.is_none() && row.deletion.is_none() && row.columns.is_empty();
        Ok((!is_empty).then_some(row))
    }

    /// The next row or marker, or `None` at the end of the partition.
    pub(crate) fn unfiltered(&self, input: &mut DataInput) -> Result<Option<Unfiltered>> {
        let position = input.position();
        let first = input.u8()?;
        if first & flags::END_OF_PARTITION != 0 {
            if first != flags::END_OF_PARTITION {
                return Err(input.wrong(format!("the end of a partition has flags {first:#x}")));
            }
            return Ok(None);
        }
        if first & flags::IS_MARKER != 0 {
            if first != flags::IS_MARKER {
                return Err(input.wrong(format!("a marker has flags {first:#x}")));
            }
            let marker = self.marker(input, position)?;
            return Ok(Some(Unfiltered::RangeTombstoneMarker(marker)));
        }
        let extended = if first & flags::HAS_EXTENSION == 0 {
            0
        } else {
            input.u8()?
        };
        if extended & !flags::EXTENDED_IS_SHADOWABLE != 0 {
            return Err(input.wrong(format!("a row has extended flags {extended:#x}")));
        }
        let types = &self.schema.clustering;
        let clustering = clustering(input, types, types.len())?;
        let row = self.row(input, position, first, extended, clustering)?;
        Ok(Some(Unfiltered::Row(row)))
    }

    fn marker(&self, input: &mut DataInput, position: u64) -> Result<RangeTombstoneMarker> {
        let kind = input.u8()?;
        let size = usize::from(input.u16()?);
        let clustering = clustering(input, &self.schema.clustering, size)?;
        let mut body = sized_body(input)?;
        let base = &self.schema.base;
        let kind = match kind {
            0 => MarkerKind::Close {
                inclusive: false,
                deletion: deletion(&mut body, base)?,
            },
            1 => MarkerKind::Open {
                inclusive: true,
                deletion: deletion(&mut body, base)?,
            },
            2 | 5 => MarkerKind::Boundary {
                close_inclusive: kind == 5,
                closed: deletion(&mut body, base)?,
                opened: deletion(&mut body, base)?,
            },
            6 => MarkerKind::Close {
                inclusive: true,
                deletion: deletion(&mut body, base)?,
            },
            7 => MarkerKind::Open {
                inclusive: false,
                deletion: deletion(&mut body, base)?,
            },
            other => return Err(body.wrong(format!("{other} is no kind of bound"))),
        };
        body.finish()?;
        Ok(RangeTombstoneMarker {
            position,
            clustering,
            kind,
        })
    }

    fn row(
        &self,
        input: &mut DataInput,
        position: u64,
        first: u8,
        extended: u8,
        clustering: Vec<Option<Bytes>>,
    ) -> Result<Row> {
        let has = |flag| first & flag != 0;
        let base = &self.schema.base;
        let all = self.schema.columns(extended & flags::EXTENDED_IS_STATIC != 0);
        let mut body = sized_body(input)?;

        let liveness = match (has(flags::HAS_TIMESTAMP), has(flags::HAS_TTL)) {
            (false, false) => None,
            (true, with_ttl) => {
                let timestamp = timestamp(&mut body, base)?;
                let expiry = if with_ttl {
                    Some(self.row_expiry(&mut body)?)
                } else {
                    None
                };
                Some(Liveness { timestamp, expiry })
            }
            (false, true) => return Err(body.wrong("a row has a TTL and no timestamp".into())),
        };
        let deletion = match has(flags::HAS_DELETION) {
            true => Some(deletion(&mut body, base)?),
            false => None,
        };
        let has_complex_deletion = has(flags::HAS_COMPLEX_DELETION);
        let mut columns = Vec::new();
        if has(flags::HAS_ALL_COLUMNS) {
            columns.reserve_exact(all.len());
            for (index, column) in all.iter().enumerate() {
                columns.push(self.column(&mut body, index, column, has_complex_deletion, liveness)?);
            }
        } else {
            for index in present_columns(&mut body, all.len())? {
                let Some(column) = all.get(index) else {
                    return Err(body.wrong(format!("there is no column {index}")));
                };
                columns.push(self.column(&mut body, index, column, has_complex_deletion, liveness)?);
            }
        }
        body.finish()?;
        // A column that is there and has neither cells nor a deletion says nothing.
        columns.retain(|column| column.deletion.is_some() || !column.cells.is_empty());
        let shadowable = extended & flags::EXTENDED_IS_SHADOWABLE != 0;
        Ok(Row {
            position,
            clustering,
            liveness,
            deletion,
            shadowable,
            columns,
        })
    }

    /// The marker's TTL comes before its expiry; a cell's comes after.
    fn row_expiry(&self, body: &mut Cursor) -> Result<Expiry> {
        let ttl = self.ttl(body)?;
        let at = relative_deletion_time(body, &self.schema.base)?;
        let at = self.expires_at(body, at, ttl)?;
        Ok(Expiry { ttl, at })
    }

    fn ttl(&self, body: &mut Cursor) -> Result<i32> {
        let ttl = body.vint32()?.wrapping_add(self.schema.base.ttl);
        match ttl {
            0.. => Ok(ttl),
            _ => Err(body.wrong(format!("{ttl} is no TTL"))),
        }
    }

    /// The time as it was before it was stored in 32 bits.
    fn expires_at(&self, body: &Cursor, stored: i64, ttl: i32) -> Result<i64> {
        match stored {
            // Beyond 2038: the 32 bits are unsigned from `oa` on, and were never used before.
            ..0 if self.version.has_unsigned_deletion_times() && stored >= i64::from(i32::MIN) => {
                Ok(stored + (1 << 32))
            }
            0.. if stored >= i64::from(ttl) || ttl == Expiry::TTL_OF_A_GONE_VIEW_ROW => Ok(stored),
            _ => Err(body.wrong(format!("{stored} is no time of deletion or expiry"))),
        }
    }

    fn column(
        &self,
        body: &mut Cursor,
        index: usize,
        column: &Column,
        has_complex_deletion: bool,
        liveness: Option<Liveness>,
    ) -> Result<ColumnData> {
        if !column.cql_type.is_multi_cell() {
            let cells = vec![self.cell(body, column, liveness)?];
            return Ok(ColumnData {
                column: index,
                deletion: None,
                cells,
            });
        }
        let deletion = match has_complex_deletion {
            true => live_or_deletion(body, &self.schema.base)?,
            false => None,
        };
        let count = body.count()?;
        // A cell takes a byte at least: a count that cannot be is refused before memory is asked for.
        if count > body.remaining() {
            return Err(body.wrong(format!(
                "{count} cells do not fit the {} bytes left",
                body.remaining()
            )));
        }
        let mut cells = Vec::with_capacity(count);
        for _ in 0..count {
            cells.push(self.cell(body, column, liveness)?);
        }
        Ok(ColumnData {
            column: index,
            deletion,
            cells,
        })
    }

    fn cell(&self, body: &mut Cursor, column: &Column, liveness: Option<Liveness>) -> Result<Cell> {
        let bits = body.u8()?;
        let has = |flag| bits & flag != 0;
        let (is_deleted, is_expiring) = (has(cell_flags::IS_DELETED), has(cell_flags::IS_EXPIRING));
        let uses_row_ttl = has(cell_flags::USES_ROW_TTL);
        let contradicts = (is_deleted && is_expiring) || (uses_row_ttl && !is_expiring);
        if bits & !cell_flags::ALL != 0 || contradicts {
            return Err(body.wrong(format!("a cell has flags {bits:#x}")));
        }
        let timestamp = match (has(cell_flags::USES_ROW_TIMESTAMP), liveness) {
            (true, Some(liveness)) => liveness.timestamp,
            (true, None) => return Err(body.wrong("a cell has the timestamp of a row that has none".into())),
            (false, _) => timestamp(body, &self.schema.base)?,
        };
        let mut expiry = None;
        let mut deleted_at = 0;
        if uses_row_ttl {
            expiry = liveness.and_then(|liveness| liveness.expiry);
            if expiry.is_none() {
                return Err(body.wrong("a cell has the TTL of a row that has none".into()));
            }
        } else if is_expiring {
            let at = relative_deletion_time(body, &self.schema.base)?;
            let ttl = self.ttl(body)?;
            expiry = Some(Expiry {
                ttl,
                at: self.expires_at(body, at, ttl)?,
            });
        } else if is_deleted {
            let at = relative_deletion_time(body, &self.schema.base)?;
            deleted_at = self.expires_at(body, at, 0)?;
        }
        let path = match column.cql_type.is_multi_cell() {
            true => Some(body.vint_bytes()?),
            false => None,
        };
        let value = match has(cell_flags::HAS_EMPTY_VALUE) {
            true => Bytes::new(),
            false => value(body, &column.cql_type)?,
        };
        let state = match (is_deleted, expiry) {
            (true, _) if !value.is_empty() => return Err(body.wrong("a deleted cell has a value".into())),
            (true, _) => CellState::Tombstone {
                local_deletion_time: deleted_at,
            },
            (false, Some(expiry)) => CellState::Expiring(value, expiry),
            (false, None) => CellState::Live(value),
        };
        Ok(Cell {
            timestamp,
            path,
            state,
        })
    }
}
