//! All SSTables of a table, merged, are what a client sees: `sstable select` writes what `SELECT JSON *` does, row by row.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests"
)]

mod support;

use anabranch_sstable::{Merge, Table, select};
use support::committed;
use support::select::compare;

#[test]
fn merged_rows_are_what_a_client_sees() {
    let (mut merged, mut sstables, mut rows) = (0, 0, 0);
    let mut failures = Vec::new();
    for committed in committed::all() {
        let tables: Vec<Table> = committed
            .sstables
            .iter()
            .map(|folder| Table::open(folder).unwrap())
            .collect();
        let mut merge = Merge::open(&tables, &committed.schema.rules, committed.now).unwrap();
        committed.schema.check("its schema", merge.schema()).unwrap();
        let mut ours = Vec::new();
        select::write(&mut merge, &committed.schema, &mut ours).unwrap();
        match compare(&ours, &committed.rows) {
            Ok(count) => {
                merged += 1;
                sstables += tables.len();
                rows += count;
            }
            Err(difference) => failures.push(format!("{}: {difference}", committed.name)),
        }
    }
    println!("{merged} tables of {sstables} SSTables, {rows} rows");
    assert!(
        failures.is_empty(),
        "{} tables differ: {failures:#?}",
        failures.len()
    );
}
