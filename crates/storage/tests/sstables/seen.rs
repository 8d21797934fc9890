//! `SELECT *` through the driver, byte by byte against the merge of a table's files.

use anabranch_sstable::{Cell, CellState, Column, CqlType, Merge, Row, Schema, Value};
use bytes::{BufMut, Bytes, BytesMut};
use scylla::client::session::Session;
use scylla::deserialize::row::ColumnIterator;

use super::json::Json;
use super::select::{Difference, Selected, each_row};
use super::table::Relation;

/// A row as it travels to a client.
pub(crate) type SeenRow = Vec<(String, Option<Bytes>)>;

/// What a client sees at one time.
pub(crate) struct Seen {
    /// The values' bytes.
    pub(crate) rows: Vec<SeenRow>,
    /// What they mean, with the names of the keys and the time.
    pub(crate) json: Selected,
    /// Why there is no JSON: Cassandra cannot write some values that it takes, such as a boolean of no bytes.
    pub(crate) no_json: Option<String>,
}

/// Asks for all of a table, within one second by the clock, so that it is known what had expired.
pub(crate) async fn all(session: &Session, table: &Relation, now: impl Fn() -> i64) -> Result<Seen, String> {
    loop {
        let before = now();
        let rows = rows(session, &format!("SELECT * FROM {}", table.full_name())).await?;
        let json = rows_json(session, &format!("SELECT JSON * FROM {}", table.full_name())).await;
        if now() == before {
            let (json, no_json) = match json {
                Ok(json) => (json, None),
                Err(error) => (Vec::new(), Some(error)),
            };
            let json = Selected {
                partition: table.partition.clone(),
                clustering: table.clustering.clone(),
                now: before,
                rows: json,
            };
            return Ok(Seen { rows, json, no_json });
        }
    }
}

async fn rows(session: &Session, query: &str) -> Result<Vec<SeenRow>, String> {
    let result = session
        .query_unpaged(query, ())
        .await
        .map_err(|error| error.to_string())?;
    let result = result.into_rows_result().map_err(|error| error.to_string())?;
    let mut rows = Vec::new();
    for row in result
        .rows::<ColumnIterator>()
        .map_err(|error| error.to_string())?
    {
        let mut columns = SeenRow::new();
        for column in row.map_err(|error| error.to_string())? {
            let column = column.map_err(|error| error.to_string())?;
            let bytes = column.slice.map(|slice| Bytes::copy_from_slice(slice.as_slice()));
            columns.push((column.spec.name().to_owned(), bytes));
        }
        rows.push(columns);
    }
    Ok(rows)
}

async fn rows_json(session: &Session, query: &str) -> Result<Vec<Json>, String> {
    let rows = rows(session, query).await?;
    let text = |row: &SeenRow| {
        let bytes = row
            .first()
            .and_then(|(_, bytes)| bytes.clone())
            .unwrap_or_default();
        Json::parse(&String::from_utf8_lossy(&bytes))
    };
    Ok(rows.iter().map(text).collect())
}

/// How many rows are the same; the first that differs, otherwise. Without SSTables there is no merge.
pub(crate) fn compare(merge: Option<Merge>, seen: &Seen) -> Result<usize, Difference> {
    let Some(mut merge) = merge else {
        return match seen.rows.len() {
            0 => Ok(0),
            rows => Err(Difference(format!("no SSTables, and there are {rows} rows"))),
        };
    };
    let schema = merge.schema().clone();
    let mut theirs = seen.rows.iter();
    each_row(&mut merge, |key, statics, row| {
        let ours = merged(&seen.json, &schema, key, statics, row)?;
        match theirs.next() {
            Some(their) => equal(&schema, &ours, their),
            None => Err(Difference(format!("a client does not see {ours:?}"))),
        }
    })?;
    match theirs.next() {
        None => Ok(seen.rows.len()),
        Some(their) => Err(Difference(format!("only a client sees {their:?}"))),
    }
}

fn merged(
    selected: &Selected,
    schema: &Schema,
    key: &Bytes,
    statics: Option<&Row>,
    row: Option<&Row>,
) -> Result<SeenRow, Difference> {
    let Some(parts) = schema.split_partition_key(key) else {
        return Err(Difference(format!("{key:?} is no key")));
    };
    let mut columns: SeenRow = selected
        .partition
        .iter()
        .cloned()
        .zip(parts.into_iter().map(Some))
        .collect();
    for (at, name) in selected.clustering.iter().enumerate() {
        let value = row.and_then(|row| row.clustering.get(at)?.clone());
        columns.push((name.clone(), value));
    }
    for (all, row) in [(&schema.statics, statics), (&schema.regulars, row)] {
        for data in row.map(|row| row.columns.as_slice()).unwrap_or_default() {
            let Some(column) = all.get(data.column) else {
                return Err(Difference(format!("there is no column {}", data.column)));
            };
            columns.push((column.label(), Some(on_the_wire(&column.cql_type, &data.cells)?)));
        }
    }
    Ok(columns)
}

fn equal(schema: &Schema, ours: &SeenRow, theirs: &SeenRow) -> Result<(), Difference> {
    for (name, their) in theirs {
        let our = ours
            .iter()
            .find(|(our, _)| our == name)
            .and_then(|(_, our)| our.clone());
        let mut all = schema.statics.iter().chain(&schema.regulars);
        let is_udt = |column: &Column| column.label() == *name && matches!(column.cql_type, CqlType::Udt(_));
        let is_same = match all.any(is_udt) {
            true => without_last_nulls(our.as_ref()) == without_last_nulls(their.as_ref()),
            false => our == *their,
        };
        if !is_same {
            let what = format!("{name} is not what a client sees:\n ours   {our:?}\n theirs {their:?}");
            return Err(Difference(format!("{what}\n row    {theirs:?}")));
        }
    }
    match ours
        .iter()
        .find(|(our, value)| value.is_some() && theirs.iter().all(|(name, _)| name != our))
    {
        Some(more) => Err(Difference(format!("a client does not see {more:?}"))),
        None => Ok(()),
    }
}

/// Fields that no file knows yet are null to a client.
fn without_last_nulls(udt: Option<&Bytes>) -> Option<&[u8]> {
    let mut udt = udt.map(Bytes::as_ref)?;
    while let Some(rest) = udt.strip_suffix(&[0xff; 4]) {
        udt = rest;
    }
    Some(udt)
}

/// The cells of a column as one value of the protocol.
fn on_the_wire(cql_type: &CqlType, cells: &[Cell]) -> Result<Bytes, Difference> {
    let value = |cell: &Cell| match &cell.state {
        CellState::Live(value) | CellState::Expiring(value, _) => value.clone(),
        CellState::Tombstone { .. } => Bytes::new(),
    };
    let path = |cell: &Cell| cell.path.clone().unwrap_or_default();
    let mut out = BytesMut::new();
    match cql_type {
        CqlType::Counter => match Value::of_cells(cql_type, cells)? {
            Some(Value::Integer(total)) => out.put_i64(total),
            other => return Err(Difference(format!("{other:?} is no total"))),
        },
        CqlType::List(_) | CqlType::Set(_) | CqlType::Map(..) => {
            out.put_i32(i32::try_from(cells.len()).unwrap_or(i32::MAX));
            for cell in cells {
                if !matches!(cql_type, CqlType::List(_)) {
                    put_sized(&mut out, &path(cell));
                }
                if !matches!(cql_type, CqlType::Set(_)) {
                    put_sized(&mut out, &value(cell));
                }
            }
        }
        CqlType::Udt(udt) => {
            for number in 0..udt.fields.len() {
                let number = u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes();
                match cells.iter().find(|cell| *path(cell) == number) {
                    Some(cell) => put_sized(&mut out, &value(cell)),
                    None => out.put_i32(-1),
                }
            }
        }
        _ => return Ok(cells.first().map(value).unwrap_or_default()),
    }
    Ok(out.freeze())
}

fn put_sized(out: &mut BytesMut, bytes: &Bytes) {
    out.put_i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
    out.put_slice(bytes);
}
