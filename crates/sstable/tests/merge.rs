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

use anabranch_sstable::{Merge, Table};
use support::json::Json;
use support::select::{Selected, compare};

fn expected(file: &Path) -> Selected {
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
    Selected {
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
        let tables = tables_of(&file);
        let expected = expected(&file);
        let merge = (!tables.is_empty()).then(|| Merge::open(&tables, expected.now).unwrap());
        match compare(merge, &expected) {
            Ok(count) => {
                merged += 1;
                sstables += tables.len();
                rows += count;
            }
            Err(difference) => failures.push(format!("{}: {}", file.display(), difference.0)),
        }
    }
    println!("{merged} tables of {sstables} SSTables, {rows} rows");
    assert!(
        failures.is_empty(),
        "{} tables differ: {failures:#?}",
        failures.len()
    );
}
