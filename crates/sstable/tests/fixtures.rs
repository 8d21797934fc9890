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

use anabranch_sstable::dump::{Lines, Options};
use anabranch_sstable::{Table, dump};
use support::json::{Json, same};

/// What sstabledump writes, one partition a line.
///
/// Cassandra cannot read back everything that it writes: without its text there is nothing to compare with.
fn expected(folder: &Path) -> Option<Vec<Json>> {
    let mut files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let file = files.find(|path| path.extension().is_some_and(|extension| extension == "json"))?;
    Some(
        std::fs::read_to_string(file)
            .unwrap()
            .lines()
            .flat_map(partitions)
            .collect(),
    )
}

/// A line is a partition, or a list of one.
fn partitions(line: &str) -> Vec<Json> {
    match Json::parse(line) {
        Json::List(partitions) => partitions,
        partition => vec![partition],
    }
}

fn dumped(table: &Table, lines: Lines) -> Vec<Json> {
    let mut out = Vec::new();
    let options = Options {
        lines,
        raw_times: true,
        now: None,
    };
    dump::write(table, options, &mut out).unwrap();
    String::from_utf8(out).unwrap().lines().map(Json::parse).collect()
}

/// Takes away what the two say differently, as the module text of `dump` lists it.
fn normalize(item: &mut Json) {
    item.remove("position");
    item.remove("table kind");
    item.remove("sstable");
    if let Json::Object(fields) = item
        && let Some((_, cells)) = fields.iter_mut().find(|(name, _)| name == "cells")
        && let Json::List(cells) = cells
    {
        cells.iter_mut().for_each(normalize_cell);
    }
    if let Json::Object(fields) = item {
        for (name, value) in fields {
            match name.as_str() {
                "partition" | "liveness_info" => normalize_expired(value),
                _ => {}
            }
        }
    }
}

fn normalize_expired(value: &mut Json) {
    value.remove("expired");
    value.remove("position");
}

fn normalize_cell(cell: &mut Json) {
    cell.remove("expired");
    if let Json::Object(fields) = cell
        && let Some((_, Json::String(name))) = fields.iter_mut().find(|(name, _)| name == "name")
    {
        *name = name.trim_matches('"').to_owned();
    }
}

/// sstabledump leaves a cell's expiry out when its TTL is the row's, even when it expires at another time.
fn strip_row_ttl(ours: &mut Json, theirs: &Json) {
    let Json::Object(fields) = ours else { return };
    let Some((_, Json::List(cells))) = fields.iter_mut().find(|(name, _)| name == "cells") else {
        return;
    };
    for (cell, their) in cells
        .iter_mut()
        .zip(theirs.get("cells").map(Json::list).unwrap_or_default())
    {
        let row_ttl = theirs.get("liveness_info").and_then(|info| info.get("ttl"));
        if row_ttl.is_some() && cell.get("ttl") == row_ttl && their.get("ttl").is_none() {
            cell.remove("ttl");
            cell.remove("expires_at");
        }
    }
}

fn compare(folder: &Path) -> Option<usize> {
    let theirs = expected(folder)?;
    let table = Table::open(folder).unwrap();
    let ours = dumped(&table, Lines::Partitions);
    let mut rows = 0;
    for (mut our, mut their) in ours.iter().cloned().zip(theirs.iter().cloned()) {
        let (Some(Json::List(our_rows)), Some(Json::List(their_rows))) =
            (our.remove("rows"), their.remove("rows"))
        else {
            panic!("no rows in {our:?} or {their:?}");
        };
        normalize(&mut our);
        normalize(&mut their);
        assert!(
            same(&our, &their),
            "{}:\n ours {our:?}\n theirs {their:?}",
            folder.display()
        );
        assert_eq!(our_rows.len(), their_rows.len(), "{} {our:?}", folder.display());
        for (mut our, mut their) in our_rows.into_iter().zip(their_rows) {
            normalize(&mut our);
            normalize(&mut their);
            strip_row_ttl(&mut our, &their);
            assert!(
                same(&our, &their),
                "{}:\n ours   {our:?}\n theirs {their:?}",
                folder.display()
            );
            rows += 1;
        }
    }
    assert_eq!(ours.len(), theirs.len(), "{}", folder.display());
    Some(rows)
}

#[test]
fn every_row_is_what_sstabledump_says() {
    let (mut rows, mut tables) = (BTreeMap::new(), 0);
    let mut failures = Vec::new();
    for folder in support::tables() {
        match std::panic::catch_unwind(|| compare(&folder)) {
            Ok(None) => println!("{}: not dumped by Cassandra", folder.display()),
            Ok(Some(count)) => {
                let table = Table::open(&folder).unwrap();
                *rows.entry(table.descriptor().version).or_insert(0) += count;
                tables += 1;
            }
            Err(_) => failures.push(folder),
        }
    }
    println!("{tables} SSTables, rows and markers {rows:?}");
    assert!(
        failures.is_empty(),
        "{} tables differ: {failures:?}",
        failures.len()
    );
}

#[test]
fn lines_of_rows_hold_what_lines_of_partitions_do() {
    for folder in support::tables() {
        let table = Table::open(&folder).unwrap();
        let by_row = dumped(&table, Lines::Rows);
        let mut by_row = by_row.iter();
        for partition in dumped(&table, Lines::Partitions) {
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
