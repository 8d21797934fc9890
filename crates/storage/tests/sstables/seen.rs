//! `SELECT *` through the driver, byte by byte against the merge of a table's files.

use anabranch_sstable::{
    Cell, CellState, Column, CqlType, Merge, Row, Schema, SstableError, TableSchema, Value, select,
};
use bytes::{BufMut, Bytes, BytesMut};
use scylla::client::session::Session;
use scylla::deserialize::row::ColumnIterator;

use super::json::Json;
use super::table::Relation;

/// A row as it travels to a client.
pub(crate) type SeenRow = Vec<(String, Option<Bytes>)>;

/// What a client sees at one time.
pub(crate) struct Seen {
    /// In seconds since 1970.
    pub(crate) now: i64,
    /// The values' bytes.
    pub(crate) rows: Vec<SeenRow>,
    /// What they mean; why there is no JSON, otherwise: Cassandra cannot write some values that it takes, such as a boolean of
    /// no bytes.
    pub(crate) json: Result<Vec<Json>, String>,
}

/// Asks for all of a table, within one second by the clock, so that it is known what had expired.
pub(crate) async fn all(session: &Session, table: &Relation, now: impl Fn() -> i64) -> Result<Seen, String> {
    loop {
        let before = now();
        let rows = rows(session, &format!("SELECT * FROM {}", table.full_name())).await?;
        let json = rows_json(session, &format!("SELECT JSON * FROM {}", table.full_name())).await;
        if now() == before {
            return Ok(Seen {
                now: before,
                rows,
                json,
            });
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

/// What is not the same, in words.
pub(crate) struct Difference(pub(crate) String);

impl From<SstableError> for Difference {
    fn from(error: SstableError) -> Self {
        Self(error.to_string())
    }
}

/// How many rows are the same; the first that differs, otherwise.
pub(crate) fn compare(merge: &mut Merge, table: &TableSchema, seen: &Seen) -> Result<usize, Difference> {
    let of_files = merge.schema().clone();
    let mut theirs = seen.rows.iter();
    select::each_row(merge, |key, statics, row| {
        let ours = merged(table, &of_files, key, statics, row)?;
        match theirs.next() {
            Some(their) => equal(&of_files, &ours, their),
            None => Err(Difference(format!("a client does not see {ours:?}"))),
        }
    })?;
    match theirs.next() {
        None => Ok(seen.rows.len()),
        Some(their) => Err(Difference(format!("only a client sees {their:?}"))),
    }
}

fn merged(
    table: &TableSchema,
    of_files: &Schema,
    key: &Bytes,
    statics: Option<&Row>,
    row: Option<&Row>,
) -> Result<SeenRow, Difference> {
    let Some(parts) = of_files.split_partition_key(key) else {
        return Err(Difference(format!("{key:?} is no key")));
    };
    let names = table.partition.iter().map(Column::label);
    let mut columns: SeenRow = names.zip(parts.into_iter().map(Some)).collect();
    for (at, column) in table.clustering.iter().enumerate() {
        let value = row.and_then(|row| row.clustering.get(at)?.clone());
        columns.push((column.label(), value));
    }
    for (all, known, row) in [
        (&of_files.statics, &table.statics, statics),
        (&of_files.regulars, &table.regulars, row),
    ] {
        for data in row.map(|row| row.columns.as_slice()).unwrap_or_default() {
            let Some(column) = all.get(data.column) else {
                return Err(Difference(format!("there is no column {}", data.column)));
            };
            // A column that was dropped is not selected.
            if known.iter().any(|known| known.name == column.name) {
                columns.push((column.label(), Some(on_the_wire(&column.cql_type, &data.cells)?)));
            }
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
        CqlType::Counter => match Value::of_cells(cql_type, cells) {
            Ok(Some(Value::Integer(total))) => out.put_i64(total),
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
