//! All SSTables of a table, merged, are what a client sees: `SELECT JSON *`, row by row.
//!
//! Beside the folders of SSTables lies a `.select` file for each table and format: the names of the key columns and
//! the time of the query, then a row a line.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests"
)]

mod support;

use std::path::{Path, PathBuf};

use anabranch_sstable::{Column, CqlType, Merge, Row, Schema, Table, Value};
use bytes::Bytes;
use support::json::{Json, same};

struct Expected {
    partition: Vec<String>,
    clustering: Vec<String>,
    now: i64,
    rows: Vec<Json>,
}

fn expected(file: &Path) -> Expected {
    let text = std::fs::read_to_string(file).unwrap();
    let mut lines = text.lines().map(Json::parse);
    let head = lines.next().unwrap();
    let names = |field: &str| {
        let names = head.get(field).unwrap().list().iter();
        names
            .map(|name| {
                matches!(name, Json::String(name) if !name.is_empty())
                    .then(|| text_of(name))
                    .unwrap()
            })
            .collect()
    };
    let Some(Json::Number(now)) = head.get("now") else {
        panic!("no time")
    };
    Expected {
        partition: names("partition"),
        clustering: names("clustering"),
        now: now.parse().unwrap(),
        rows: lines.collect(),
    }
}

fn text_of(name: &Json) -> String {
    match name {
        Json::String(name) => name.clone(),
        other => panic!("{other:?} is no name"),
    }
}

/// `t0_5-oa` has its SSTables in `t0_5-oa-1-big`, `t0_5-oa-2-big` and so on.
fn tables_of(file: &Path) -> Vec<Table> {
    let stem = format!("{}-", file.file_stem().unwrap().to_string_lossy());
    let folders = support::tables();
    let mine = folders
        .iter()
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(&stem));
    mine.map(|folder| Table::open(folder).unwrap()).collect()
}

fn json(cql_type: &CqlType, bytes: Option<&Bytes>) -> Json {
    match bytes {
        Some(bytes) => Json::parse(&Value::decode(cql_type, bytes).unwrap().to_json()),
        None => Json::Null,
    }
}

fn columns(fields: &mut Vec<(String, Json)>, columns: &[Column], row: Option<&Row>) {
    for (index, column) in columns.iter().enumerate() {
        let data = row.and_then(|row| row.columns.iter().find(|data| data.column == index));
        let cells = data.map(|data| data.cells.as_slice()).unwrap_or_default();
        let value = Value::of_cells(&column.cql_type, cells).unwrap();
        let json = value.map_or(Json::Null, |value| Json::parse(&value.to_json()));
        fields.push((column.label(), json));
    }
}

fn row_json(
    names: &Expected,
    schema: &Schema,
    key: &Bytes,
    static_row: Option<&Row>,
    row: Option<&Row>,
) -> Vec<(String, Json)> {
    let mut fields = Vec::new();
    let parts = schema.split_partition_key(key).unwrap();
    for (name, (cql_type, part)) in names
        .partition
        .iter()
        .zip(schema.partition_key_types().iter().zip(&parts))
    {
        fields.push((name.clone(), json(cql_type, Some(part))));
    }
    for (at, (name, cql_type)) in names.clustering.iter().zip(&schema.clustering).enumerate() {
        let value = row.and_then(|row| row.clustering[at].as_ref());
        fields.push((name.clone(), json(cql_type, value)));
    }
    columns(&mut fields, &schema.statics, static_row);
    columns(&mut fields, &schema.regulars, row);
    fields
}

/// Columns that no SSTable holds are null to a client.
fn assert_same(file: &Path, ours: &[(String, Json)], theirs: &Json) {
    let Json::Object(theirs) = theirs else {
        panic!("{theirs:?} is no row")
    };
    for (name, their) in theirs {
        let our = ours
            .iter()
            .find(|(our, _)| our == name)
            .map_or(&Json::Null, |(_, our)| our);
        assert!(
            same(our, their),
            "{} {name}:\n ours {our:?}\n theirs {their:?}\n{theirs:?}",
            file.display()
        );
    }
}

fn compare(file: &Path) -> (usize, usize) {
    let expected = expected(file);
    let tables = tables_of(file);
    if tables.is_empty() {
        assert!(
            expected.rows.is_empty(),
            "{}: no SSTables, and there are rows",
            file.display()
        );
        return (0, 0);
    }
    let mut merge = Merge::open(&tables, expected.now).unwrap();
    let schema = merge.schema().clone();
    let mut theirs = expected.rows.iter();
    let mut rows = 0;
    while let Some(partition) = merge.next_partition().unwrap() {
        let mut has_rows = false;
        let statics = partition.static_row.as_ref();
        while let Some(row) = merge.next_row().unwrap() {
            has_rows = true;
            let ours = row_json(&expected, &schema, &partition.key, statics, Some(&row));
            let their = theirs
                .next()
                .unwrap_or_else(|| panic!("{}: more rows: {ours:?}", file.display()));
            assert_same(file, &ours, their);
            rows += 1;
        }
        if !has_rows && partition.static_row.is_some() {
            let ours = row_json(&expected, &schema, &partition.key, statics, None);
            let their = theirs
                .next()
                .unwrap_or_else(|| panic!("{}: more rows: {ours:?}", file.display()));
            assert_same(file, &ours, their);
            rows += 1;
        }
    }
    assert_eq!(theirs.next(), None, "{}: fewer rows", file.display());
    (tables.len(), rows)
}

#[test]
fn merged_rows_are_what_a_client_sees() {
    let entries = std::fs::read_dir(support::fixtures())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "select"))
        .collect();
    assert!(!files.is_empty());
    let (mut merged, mut sstables, mut rows) = (0, 0, 0);
    let mut failures = Vec::new();
    for file in files {
        match std::panic::catch_unwind(|| compare(&file)) {
            Ok((tables, count)) => {
                merged += 1;
                sstables += tables;
                rows += count;
            }
            Err(_) => failures.push(file),
        }
    }
    println!("{merged} tables of {sstables} SSTables, {rows} rows");
    assert!(
        failures.is_empty(),
        "{} tables differ: {failures:?}",
        failures.len()
    );
}
