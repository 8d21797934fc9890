//! Several SSTables of one table as what a client would see: last write wins, at one fixed time.
//!
//! ```text
//! Reader ─┐                   partition, range,      ┌─▶ live row
//! Reader ─┼─▶ least position ─▶ row, complex, cell ──┤
//! Reader ─┘                    deletions, TTL        └─▶ nothing is left
//! ```
//!
//! Memory is one chunk and one row of each SSTable, and the deletion of the range tombstone that is open in
//! each: a tombstone over a whole partition costs what one over a row does. Nothing is purged by age, since
//! the SSTable that a tombstone covers may be any of these.
//!
//! What the rows live by the files do not say alone: [`Rules`] are the rest, from the table's schema
//! ([`crate::schema_cql`]).
//!
//! - E2: each SSTable must be in order, by token and then by clustering: what is not is damage.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use bytes::Bytes;

use crate::compare;
use crate::components::Component;
use crate::cql::{Column, CqlType, Schema};
use crate::error::{Result, SstableError};
use crate::reader::Reader;
use crate::reconcile;
use crate::table::Table;
use crate::token::token;
use crate::unfiltered::{DeletionTime, MarkerKind, PartitionHeader, RangeTombstoneMarker, Row, Unfiltered};

/// What the rows of a table live by, and its files do not say. By default those of a table, and not of a view, that never
/// lost a column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// A row lives by its marker alone, whatever cells it has: so Cassandra reads a materialized view that has a column in its
    /// key which is not in its table's.
    pub needs_marker: bool,
    /// The columns that were dropped, whether or not they were added again, and the time, in microseconds since 1970, up to
    /// which what was written to them is void.
    pub dropped: BTreeMap<Bytes, i64>,
}

/// A partition of the merged table. It may have neither a static row nor rows: then a client does not see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergedPartition {
    /// The key as stored.
    pub key: Bytes,
    /// The static columns that live.
    pub static_row: Option<Row>,
}

/// The live rows of several SSTables of one table, partition by partition in the order of their tokens.
#[derive(Debug)]
pub struct Merge {
    schema: Schema,
    now: i64,
    needs_marker: bool,
    sources: Vec<Source>,
    /// The deletion of the current partition.
    deletion: Option<DeletionTime>,
}

/// One SSTable.
#[derive(Debug)]
struct Source {
    file: String,
    reader: Reader,
    /// What becomes of its static and its regular columns.
    statics: Vec<Place>,
    regulars: Vec<Place>,
    /// The partition it has read last, until that is done with.
    partition: Option<(i64, PartitionHeader)>,
    /// Whether that is the current one of the merge.
    is_in: bool,
    head: Option<Unfiltered>,
    open: Option<DeletionTime>,
}

/// A column of one SSTable.
#[derive(Debug)]
struct Place {
    /// Its index among the merged columns.
    merged: usize,
    /// What was written up to here is void.
    dropped_at: Option<i64>,
}

impl Merge {
    /// Starts to merge. `now`, in seconds since 1970, is the time by which everything expires.
    pub fn open(tables: &[Table], rules: &Rules, now: i64) -> Result<Self> {
        let schema = merged_schema(tables)?;
        let sources = tables.iter().map(|table| Source::open(table, &schema, rules));
        let mut sources: Vec<Source> = sources.collect::<Result<_>>()?;
        sources.iter_mut().try_for_each(Source::next_partition)?;
        Ok(Self {
            schema,
            now,
            needs_marker: rules.needs_marker,
            sources,
            deletion: None,
        })
    }

    /// The columns of all SSTables together.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The next partition, or `None` after the last. What is left of the one before is read first.
    pub fn next_partition(&mut self) -> Result<Option<MergedPartition>> {
        while self.next_row()?.is_some() {}
        for source in self.sources.iter_mut().filter(|source| source.is_in) {
            source.next_partition()?;
        }
        let place = |source: &Source| {
            source
                .partition
                .as_ref()
                .map(|(token, header)| (*token, header.key.clone()))
        };
        let Some(least) = self.sources.iter().filter_map(place).min() else {
            return Ok(None);
        };
        self.deletion = None;
        let mut statics = Vec::new();
        for source in self
            .sources
            .iter_mut()
            .filter(|source| place(source).as_ref() == Some(&least))
        {
            source.is_in = true;
            if let Some((_, header)) = &mut source.partition {
                self.deletion = reconcile::later(self.deletion, header.deletion);
                statics.extend(header.static_row.take().map(|row| renumber(row, &source.statics)));
            }
            source.advance()?;
        }
        let static_row = reconcile::rows(statics, self.deletion, &self.schema.statics, self.now);
        Ok(Some(MergedPartition {
            key: least.1,
            static_row,
        }))
    }

    /// The next row that lives, or `None` at the end of the partition. It has live cells only.
    pub fn next_row(&mut self) -> Result<Option<Row>> {
        loop {
            let types = &self.schema.clustering;
            let heads = self.sources.iter().filter_map(|source| source.head.as_ref());
            let Some(least) = heads.min_by(|one, other| in_order(types, one, other)).cloned() else {
                return Ok(None);
            };
            let mut versions = Vec::new();
            for source in &mut self.sources {
                if source
                    .head
                    .as_ref()
                    .is_none_or(|head| in_order(types, head, &least).is_ne())
                {
                    continue;
                }
                match source.head.take() {
                    Some(Unfiltered::Row(row)) => versions.push(renumber(row, &source.regulars)),
                    Some(Unfiltered::RangeTombstoneMarker(marker)) => source.open = opened(&marker),
                    None => {}
                }
                source.advance_after(types, &least)?;
            }
            let opens = self.sources.iter().map(|source| source.open);
            let around = opens.fold(self.deletion, reconcile::later);
            let row = reconcile::rows(versions, around, &self.schema.regulars, self.now);
            let lives = |row: &Row| row.liveness.is_some() || !self.needs_marker;
            if row.as_ref().is_some_and(lives) {
                return Ok(row);
            }
        }
    }
}

impl Source {
    fn open(table: &Table, schema: &Schema, rules: &Rules) -> Result<Self> {
        let places = |columns: &[Column], merged: &[Column]| {
            let place = |column: &Column| {
                Some(Place {
                    merged: merged.iter().position(|other| other.name == column.name)?,
                    dropped_at: rules.dropped.get(&column.name).copied(),
                })
            };
            columns.iter().filter_map(place).collect()
        };
        let own = table.schema();
        Ok(Self {
            file: table.file(Component::Data),
            reader: table.read()?,
            statics: places(&own.statics, &schema.statics),
            regulars: places(&own.regulars, &schema.regulars),
            partition: None,
            is_in: false,
            head: None,
            open: None,
        })
    }

    fn next_partition(&mut self) -> Result<()> {
        let partition = self.reader.next_partition()?;
        self.partition = partition.map(|header| (token(&header.key), header));
        (self.is_in, self.head, self.open) = (false, None, None);
        Ok(())
    }

    fn advance(&mut self) -> Result<()> {
        self.head = self.reader.next_unfiltered()?;
        Ok(())
    }

    fn advance_after(&mut self, types: &[CqlType], last: &Unfiltered) -> Result<()> {
        self.advance()?;
        match &self.head {
            Some(head) if in_order(types, last, head).is_ge() => Err(SstableError::Malformed {
                file: self.file.as_str().into(),
                position: place(head).2,
                what: "a row or bound comes before the one that precedes it".into(),
            }),
            _ => Ok(()),
        }
    }
}

/// The row with the merged columns, without what was written to a column before it was dropped.
fn renumber(mut row: Row, places: &[Place]) -> Row {
    row.columns.retain_mut(|data| {
        let Some(place) = places.get(data.column) else {
            return false;
        };
        data.column = place.merged;
        if let Some(dropped_at) = place.dropped_at {
            data.deletion = data
                .deletion
                .filter(|deletion| deletion.marked_for_delete_at > dropped_at);
            data.cells.retain(|cell| cell.timestamp > dropped_at);
        }
        true
    });
    row
}

fn opened(marker: &RangeTombstoneMarker) -> Option<DeletionTime> {
    match marker.kind {
        MarkerKind::Open { deletion, .. } => Some(deletion),
        MarkerKind::Boundary { opened, .. } => Some(opened),
        MarkerKind::Close { .. } => None,
    }
}

/// Clustering values; whether it is before, at, or after the rows that have them; where it is in the data.
fn place(unfiltered: &Unfiltered) -> (&[Option<Bytes>], Ordering, u64) {
    match unfiltered {
        Unfiltered::Row(row) => (&row.clustering, Ordering::Equal, row.position),
        Unfiltered::RangeTombstoneMarker(marker) => {
            let is_after = match marker.kind {
                MarkerKind::Open { inclusive, .. } => !inclusive,
                MarkerKind::Close { inclusive, .. } => inclusive,
                MarkerKind::Boundary { close_inclusive, .. } => close_inclusive,
            };
            let side = if is_after {
                Ordering::Greater
            } else {
                Ordering::Less
            };
            (&marker.clustering, side, marker.position)
        }
    }
}

/// The order of rows and bounds in a partition. A bound with fewer values is before or after all rows that
/// continue them.
fn in_order(types: &[CqlType], one: &Unfiltered, other: &Unfiltered) -> Ordering {
    let ((values, side, _), (other_values, other_side, _)) = (place(one), place(other));
    for (cql_type, (value, other)) in types.iter().zip(values.iter().zip(other_values)) {
        let compared = compare::clustering(cql_type, value.as_deref(), other.as_deref());
        if compared.is_ne() {
            return compared;
        }
    }
    match values.len().cmp(&other_values.len()) {
        Ordering::Equal => side.cmp(&other_side),
        Ordering::Less => side,
        Ordering::Greater => other_side.reverse(),
    }
}

/// The columns of all tables. A type that was altered has the fields of all: timestamps, which clients choose, do not say which
/// table was written last.
fn merged_schema(tables: &[Table]) -> Result<Schema> {
    let mut newest_first: Vec<&Table> = tables.iter().collect();
    newest_first.sort_by_key(|table| std::cmp::Reverse(table.statistics().timestamps.1));
    let Some(newest) = newest_first.first() else {
        return Err(SstableError::NotATable {
            path: String::new(),
            what: "there is nothing to merge".into(),
        });
    };
    let mut merged = newest.schema().clone();
    for table in &newest_first {
        let unsupported = |what: String| SstableError::Unsupported {
            file: table.file(Component::Statistics).into(),
            what,
        };
        let (own, statistics) = (table.schema(), table.statistics());
        if !statistics.has_murmur3_tokens() {
            return Err(unsupported(format!(
                "merging by the tokens of {}",
                statistics.partitioner
            )));
        }
        if own.partition_key != merged.partition_key || own.clustering != merged.clustering {
            let other = newest.file(Component::Statistics);
            return Err(unsupported(format!(
                "merging with another primary key than that of {other}"
            )));
        }
        for (columns, all) in [
            (&own.statics, &mut merged.statics),
            (&own.regulars, &mut merged.regulars),
        ] {
            for column in columns {
                match all.iter_mut().find(|other| other.name == column.name) {
                    Some(other) if other.cql_type.is_multi_cell() != column.cql_type.is_multi_cell() => {
                        return Err(unsupported(format!(
                            "merging {} as {}",
                            column.cql_type, other.cql_type
                        )));
                    }
                    Some(other) => other.cql_type.widen(&column.cql_type),
                    None => all.push(column.clone()),
                }
            }
        }
    }
    let order = |column: &Column| (column.cql_type.is_multi_cell(), column.name.clone());
    merged.statics.sort_by_key(order);
    merged.regulars.sort_by_key(order);
    Ok(merged)
}
