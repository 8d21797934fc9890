//! Writes what a client would see of a table, as `SELECT JSON *` does: the SSTables of a folder merged, a line a row.
//!
//! ```json
//! {"k":"a","c":7,"s":null,"v":[1,2]}
//! ```
//!
//! The names of the key columns, and what rows live by, are in the folder's `schema.cql`
//! ([`schema_cql::of_folder`]). Values are written as `sstable dump` writes them; one that its type does
//! not fit, as an object that says so. Rows come by token, and in a partition in clustering order.
//!
//! - E2: a schema that cannot be that of the files is an error, and nothing is written then. After damage whole rows have been
//!   written, and the error says so.

use std::io::{self, Write};
use std::path::Path;

use bytes::Bytes;

use crate::cql::{Column, Schema};
use crate::error::{Result, SstableError};
use crate::json;
use crate::merge::Merge;
use crate::schema_cql::{self, TableSchema};
use crate::table::Table;
use crate::unfiltered::{Cell, CellState, Row};
use crate::value::Value;

/// Writes the rows of a folder of SSTables that live at `now`, in seconds since 1970.
pub fn run(folder: &Path, now: i64, out: &mut dyn Write) -> Result<()> {
    if !folder.is_dir() {
        let what = "is no folder: rows are made of all SSTables of a table";
        return Err(SstableError::not_a_table(folder, what));
    }
    let tables = Table::open_all(folder)?;
    let (file, schema) = schema_cql::of_folder(folder)?;
    if tables.is_empty() {
        return Ok(());
    }
    let mut merge = Merge::open(&tables, &schema.rules, now)?;
    schema.check(&file, merge.schema())?;
    write(&mut merge, &schema, out)
}

/// Writes the rows of a merge.
pub fn write(merge: &mut Merge, schema: &TableSchema, out: &mut dyn Write) -> Result<()> {
    let of_files = merge.schema().clone();
    let schema = &schema.clone().with_types_of(&of_files);
    let statics_in_files = places(&schema.statics, &of_files.statics);
    let regulars_in_files = places(&schema.regulars, &of_files.regulars);
    let mut line = Vec::new();
    each_row(merge, |key, statics, row| {
        let mut object = Object { line: &mut line };
        object.key(schema, &of_files, key);
        for (at, column) in schema.clustering.iter().enumerate() {
            object.stored(column, row.and_then(|row| row.clustering.get(at)?.as_ref()));
        }
        for (columns, places, row) in [
            (&schema.statics, &statics_in_files, statics),
            (&schema.regulars, &regulars_in_files, row),
        ] {
            for (column, place) in columns.iter().zip(places) {
                let data = row.and_then(|row| row.columns.iter().find(|data| Some(data.column) == *place));
                object.cells(column, data.map(|data| data.cells.as_slice()).unwrap_or_default());
            }
        }
        line.extend_from_slice(b"}\n");
        let written = out.write_all(&line);
        line.clear();
        written.map_err(|source: io::Error| SstableError::Output { source })
    })
}

/// Where each column is among those of the files; not at all when none holds it.
fn places(columns: &[Column], of_files: &[Column]) -> Vec<Option<usize>> {
    let place = |column: &Column| of_files.iter().position(|stored| stored.name == column.name);
    columns.iter().map(place).collect()
}

/// Calls `visit` for every row that a client sees, with the key, the static row, and the row; there is no row where a partition
/// has static columns alone.
pub fn each_row<E: From<SstableError>>(
    merge: &mut Merge,
    mut visit: impl FnMut(&Bytes, Option<&Row>, Option<&Row>) -> Result<(), E>,
) -> Result<(), E> {
    while let Some(partition) = merge.next_partition()? {
        let statics = partition.static_row.as_ref();
        let mut has_rows = false;
        while let Some(row) = merge.next_row()? {
            has_rows = true;
            visit(&partition.key, statics, Some(&row))?;
        }
        if !has_rows && statics.is_some() {
            visit(&partition.key, statics, None)?;
        }
    }
    Ok(())
}

/// A row on its way, up to its closing brace.
struct Object<'a> {
    line: &'a mut Vec<u8>,
}

impl Object<'_> {
    fn key(&mut self, schema: &TableSchema, of_files: &Schema, key: &Bytes) {
        let parts = of_files.split_partition_key(key);
        for (at, column) in schema.partition.iter().enumerate() {
            match &parts {
                Some(parts) => self.stored(column, parts.get(at)),
                None => {
                    self.name(column);
                    json::invalid(self.line, "a key of several columns is wanted", Some(key));
                }
            }
        }
    }

    fn name(&mut self, column: &Column) {
        self.line.push(if self.line.is_empty() { b'{' } else { b',' });
        json::string(self.line, &column.label());
        self.line.push(b':');
    }

    fn stored(&mut self, column: &Column, bytes: Option<&Bytes>) {
        self.name(column);
        match bytes {
            Some(bytes) => json::stored(self.line, &column.cql_type, bytes),
            None => json::nullable(self.line, None),
        }
    }

    fn cells(&mut self, column: &Column, cells: &[Cell]) {
        self.name(column);
        match Value::of_cells(&column.cql_type, cells) {
            Ok(value) => json::nullable(self.line, value.as_ref()),
            Err(error) => {
                let whole = match cells {
                    [
                        Cell {
                            path: None,
                            state: CellState::Live(value) | CellState::Expiring(value, _),
                            ..
                        },
                    ] => Some(value),
                    _ => None,
                };
                json::invalid(self.line, &error.to_string(), whole);
            }
        }
    }
}
