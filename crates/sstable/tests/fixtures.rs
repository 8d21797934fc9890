//! Every row of every SSTable is what `sstabledump` says it is.
//!
//! The folders were written by a real Cassandra (`dev/fixtures/sstable`). `SSTABLE_FIXTURES` names another
//! folder of them, such as one of random tables.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests"
)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use anabranch_sstable::Table;
use anabranch_sstable::dump::Lines;
use support::dumps::{compare, dumped};
use support::json::Json;

/// What sstabledump wrote, if it could: Cassandra cannot read back everything that it writes.
fn expected(folder: &Path) -> Option<String> {
    let mut files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let file = files.find(|path| path.extension().is_some_and(|extension| extension == "json"))?;
    Some(std::fs::read_to_string(file).unwrap())
}

#[test]
fn every_row_is_what_sstabledump_says() {
    let (mut rows, mut tables) = (BTreeMap::new(), 0);
    let mut failures = Vec::new();
    for folder in support::tables() {
        let Some(theirs) = expected(&folder) else {
            println!("{}: not dumped by Cassandra", folder.display());
            continue;
        };
        let table = Table::open(&folder).unwrap();
        match compare(&table, &theirs) {
            Ok(count) => {
                *rows.entry(table.descriptor().version).or_insert(0) += count;
                tables += 1;
            }
            Err(difference) => failures.push(format!("{}: {difference}", folder.display())),
        }
    }
    println!("{tables} SSTables, rows and markers {rows:?}");
    assert!(
        failures.is_empty(),
        "{} tables differ: {failures:#?}",
        failures.len()
    );
}

#[test]
fn lines_of_rows_hold_what_lines_of_partitions_do() {
    for folder in support::tables() {
        let table = Table::open(&folder).unwrap();
        let by_row = dumped(&table, Lines::Rows).unwrap();
        let mut by_row = by_row.iter();
        for partition in dumped(&table, Lines::Partitions).unwrap() {
            let header = by_row.next().unwrap();
            assert_eq!(header.get("type"), Some(&Json::String("partition".into())));
            for field in ["key", "position", "deletion_info"] {
                assert_eq!(
                    header.get(field),
                    partition.get("partition").and_then(|header| header.get(field))
                );
            }
            for row in partition.get("rows").unwrap().list() {
                let mut line = by_row.next().unwrap().clone();
                assert_eq!(line.remove("key").as_ref(), header.get("key"));
                assert!(line.remove("sstable").is_some());
                assert_eq!(line, *row);
            }
        }
        assert_eq!(by_row.next(), None);
    }
}

#[test]
fn every_table_describes_itself() {
    for folder in support::tables() {
        let mut out = Vec::new();
        anabranch_sstable::stat::run(&folder, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for fact in ["partitions", "rows", "partitioner", "compression"] {
            assert!(
                text.lines().any(|line| line.starts_with(fact)),
                "no {fact} in {text}"
            );
        }
    }
}
