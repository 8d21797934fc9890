//! Which of several versions wins: Cassandra's rules, as functions of the versions and the time.
//!
//! The later write wins. Of two at the same time, what is or will be deleted wins over what stays, what is
//! deleted over what expires, what goes later over what goes earlier, and at last the greater value.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use crate::compare;
use crate::cql::{Column, CqlType};
use crate::unfiltered::{Cell, CellState, ColumnData, DeletionTime, Expiry, Liveness, Row};

/// The later of two deletions.
pub(crate) fn later(one: Option<DeletionTime>, other: Option<DeletionTime>) -> Option<DeletionTime> {
    let key = |deletion: DeletionTime| (deletion.marked_for_delete_at, deletion.local_deletion_time);
    match (one, other) {
        (Some(one), Some(other)) => Some(if key(one) >= key(other) { one } else { other }),
        (one, other) => one.or(other),
    }
}

fn deletes(deletion: Option<DeletionTime>, timestamp: i64) -> bool {
    deletion.is_some_and(|deletion| timestamp <= deletion.marked_for_delete_at)
}

/// What is left at `now` of all versions of a row, under what is deleted around it; `None` when nothing is.
/// Every column index is one into `columns`.
pub(crate) fn rows(
    versions: Vec<Row>,
    around: Option<DeletionTime>,
    columns: &[Column],
    now: i64,
) -> Option<Row> {
    let liveness = versions
        .iter()
        .filter_map(|row| row.liveness)
        .reduce(later_liveness);
    let mut row_deletion = None;
    for row in &versions {
        // A view's deletion gives way to a row that was written after it.
        let gives_way =
            row.shadowable && !deletes(row.deletion, liveness.map_or(i64::MIN, |live| live.timestamp));
        if !gives_way {
            row_deletion = later(row_deletion, row.deletion);
        }
    }
    let deletion = later(around, row_deletion);
    let liveness = liveness.filter(|live| {
        !deletes(deletion, live.timestamp) && live.expiry.is_none_or(|expiry| now < expiry.at)
    });
    let first = versions.first()?;
    let (position, clustering) = (first.position, first.clustering.clone());

    let mut by_column: BTreeMap<usize, Vec<ColumnData>> = BTreeMap::new();
    for data in versions.into_iter().flat_map(|row| row.columns) {
        by_column.entry(data.column).or_default().push(data);
    }
    let merged = by_column.into_iter().filter_map(|(index, versions)| {
        let cells = cells(versions, deletion, &columns.get(index)?.cql_type, now);
        (!cells.is_empty()).then_some(ColumnData {
            column: index,
            deletion: None,
            cells,
        })
    });
    let columns: Vec<ColumnData> = merged.collect();
    if liveness.is_none() && columns.is_empty() {
        return None;
    }
    Some(Row {
        position,
        clustering,
        liveness,
        deletion: None,
        shadowable: false,
        columns,
    })
}

/// The cells of one column that live at `now`.
fn cells(
    versions: Vec<ColumnData>,
    deletion: Option<DeletionTime>,
    cql_type: &CqlType,
    now: i64,
) -> Vec<Cell> {
    let deletion = versions
        .iter()
        .fold(deletion, |deletion, data| later(deletion, data.deletion));
    let mut cells: Vec<Cell> = versions.into_iter().flat_map(|data| data.cells).collect();
    cells.retain(|cell| !deletes(deletion, cell.timestamp));
    // A stable sort: versions of an element stay in the order of their tables.
    cells.sort_by(|one, other| by_path(cql_type, one, other));
    let mut merged: Vec<Cell> = Vec::with_capacity(cells.len());
    for cell in cells {
        match merged.pop() {
            Some(last) if by_path(cql_type, &last, &cell).is_eq() => {
                merged.push(cell_of(last, cell, cql_type))
            }
            last => merged.extend(last.into_iter().chain([cell])),
        }
    }
    merged.retain(|cell| match &cell.state {
        CellState::Live(_) => true,
        CellState::Expiring(_, expiry) => now < expiry.at,
        CellState::Tombstone { .. } => false,
    });
    merged
}

fn by_path(cql_type: &CqlType, one: &Cell, other: &Cell) -> Ordering {
    let (Some(one), Some(other)) = (&one.path, &other.path) else {
        return Ordering::Equal;
    };
    match cql_type {
        CqlType::List(_) => compare::values(&CqlType::TimeUuid, one, other),
        CqlType::Set(element) => compare::values(element, one, other),
        CqlType::Map(key, _) => compare::values(key, one, other),
        // A field's number.
        _ => one.cmp(other),
    }
}

fn later_liveness(one: Liveness, other: Liveness) -> Liveness {
    let key = |live: Liveness| {
        (
            live.timestamp,
            // A view's row that has gone, whenever another marker of that time expires.
            live.expiry
                .is_some_and(|expiry| expiry.ttl == Expiry::TTL_OF_A_GONE_VIEW_ROW),
            live.expiry.is_some(),
            live.expiry.map(|expiry| expiry.at),
        )
    };
    if key(other) > key(one) { other } else { one }
}

fn cell_of(one: Cell, other: Cell, cql_type: &CqlType) -> Cell {
    if *cql_type == CqlType::Counter {
        return counter(one, other);
    }
    if precedence(&other) > precedence(&one) {
        other
    } else {
        one
    }
}

/// Greater wins. A lower TTL with the same end is of the later write.
fn precedence(cell: &Cell) -> (i64, u8, i64, i32, &[u8]) {
    match &cell.state {
        CellState::Live(value) => (cell.timestamp, 0, 0, 0, value),
        CellState::Expiring(value, Expiry { ttl, at }) => (cell.timestamp, 1, *at, -*ttl, value),
        CellState::Tombstone { local_deletion_time } => (cell.timestamp, 2, *local_deletion_time, 0, &[]),
    }
}

/// Counters add up by shard, and one that was deleted stays so.
fn counter(one: Cell, other: Cell) -> Cell {
    match (&one.state, &other.state) {
        (CellState::Tombstone { .. }, CellState::Tombstone { .. }) => {
            if precedence(&other) > precedence(&one) {
                other
            } else {
                one
            }
        }
        (CellState::Tombstone { .. }, _) => one,
        (_, CellState::Tombstone { .. }) => other,
        (
            CellState::Live(left) | CellState::Expiring(left, _),
            CellState::Live(right) | CellState::Expiring(right, _),
        ) => {
            let state = CellState::Live(contexts(left, right));
            Cell {
                timestamp: one.timestamp.max(other.timestamp),
                path: None,
                state,
            }
        }
    }
}

/// Of each shard the version with the later clock. All are written as global ones, the only kind since 2.1.
fn contexts(left: &Bytes, right: &Bytes) -> Bytes {
    let mut shards: BTreeMap<[u8; 16], (i64, i64)> = BTreeMap::new();
    for (id, clock, count) in [left, right].into_iter().flat_map(|context| shards_of(context)) {
        let shard = shards.entry(id).or_insert((clock, count));
        *shard = (*shard).max((clock, count));
    }
    let mut context = BytesMut::new();
    let count = i16::try_from(shards.len()).unwrap_or(i16::MAX);
    context.put_i16(count);
    (0..count).for_each(|index| context.put_i16(index + i16::MIN));
    for (id, (clock, count)) in shards {
        context.put_slice(&id);
        context.put_i64(clock);
        context.put_i64(count);
    }
    context.freeze()
}

fn shards_of(context: &[u8]) -> Vec<([u8; 16], i64, i64)> {
    let listed = context
        .first_chunk::<2>()
        .map_or(0, |count| i16::from_be_bytes(*count).unsigned_abs());
    let shards = context.get(2 + 2 * usize::from(listed)..).unwrap_or_default();
    let shard = |shard: &[u8; 32]| {
        let (id, rest) = shard.split_first_chunk::<16>()?;
        let (clock, count) = (rest.first_chunk::<8>()?, rest.last_chunk::<8>()?);
        Some((*id, i64::from_be_bytes(*clock), i64::from_be_bytes(*count)))
    };
    shards.as_chunks::<32>().0.iter().filter_map(shard).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_markers_at_the_same_time_that_of_a_gone_view_row_wins() {
        let marker = |timestamp, ttl, at| Liveness {
            timestamp,
            expiry: Some(Expiry { ttl, at }),
        };
        let (gone, expires_later) = (marker(1, i32::MAX, 5), marker(1, 1_000, 1_000));
        assert_eq!(later_liveness(gone, expires_later), gone);
        assert_eq!(later_liveness(expires_later, gone), gone);
        let written_later = marker(2, 1, 3);
        assert_eq!(later_liveness(gone, written_later), written_later);
    }
}
