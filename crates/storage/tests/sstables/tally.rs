//! What a run has met: without it, equal would say little.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_sstable::{CellState, Expiry, Row, SstableError, Table, Unfiltered};

use super::table::{COMPRESSORS, RandomTable};
use super::types;

/// Every kind of thing that a file may hold.
const KINDS: &[&str] = &[
    "partition deletion",
    "row deletion",
    "range tombstone bound",
    "cell tombstone",
    "complex deletion",
    "row marker with TTL",
    "cell with TTL",
    "what has expired",
    "what is yet to expire",
    "static row",
    "row",
];

/// Types that every large run must have met, beside those of one value.
const COMPOUND: &[&str] = &[
    "counter", "frozen", "list", "map", "set", "tuple", "udt", "vector",
];

#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) tables: usize,
    pub(crate) views: usize,
    pub(crate) statements: usize,
    pub(crate) refused: usize,
    /// SSTables of each format, and what reading them was compared with.
    pub(crate) sstables: BTreeMap<String, usize>,
    pub(crate) not_dumped: usize,
    pub(crate) not_json: usize,
    pub(crate) dumped_rows: usize,
    pub(crate) selected_rows: usize,
    pub(crate) merged: BTreeMap<usize, usize>,
    kinds: BTreeMap<&'static str, usize>,
    types: BTreeSet<String>,
    compressors: BTreeSet<Option<&'static str>>,
}

impl Tally {
    /// Counts a table's types and options.
    pub(crate) fn table(&mut self, table: &RandomTable) {
        self.tables += 1;
        self.compressors.insert(table.compressor);
        let columns = [
            &table.partition,
            &table.clustering,
            &table.statics,
            &table.regulars,
        ];
        for (_, kind) in columns.into_iter().flatten() {
            types::names(kind, &mut self.types);
        }
    }

    /// Counts what an SSTable holds.
    pub(crate) fn sstable(&mut self, table: &Table, now: i64) -> Result<(), SstableError> {
        *self
            .sstables
            .entry(table.descriptor().version.to_string())
            .or_default() += 1;
        let mut reader = table.read()?;
        while let Some(partition) = reader.next_partition()? {
            self.add("partition deletion", usize::from(partition.deletion.is_some()));
            if let Some(row) = &partition.static_row {
                self.add("static row", 1);
                self.row(row, now);
            }
            while let Some(unfiltered) = reader.next_unfiltered()? {
                match unfiltered {
                    Unfiltered::Row(row) => self.row(&row, now),
                    Unfiltered::RangeTombstoneMarker(_) => self.add("range tombstone bound", 1),
                }
            }
        }
        Ok(())
    }

    fn row(&mut self, row: &Row, now: i64) {
        self.add("row", 1);
        self.add("row deletion", usize::from(row.deletion.is_some()));
        if let Some(expiry) = row.liveness.and_then(|liveness| liveness.expiry) {
            self.add("row marker with TTL", 1);
            self.expiry(expiry, now);
        }
        for column in &row.columns {
            self.add("complex deletion", usize::from(column.deletion.is_some()));
            for cell in &column.cells {
                match &cell.state {
                    CellState::Live(_) => {}
                    CellState::Tombstone { .. } => self.add("cell tombstone", 1),
                    CellState::Expiring(_, expiry) => {
                        self.add("cell with TTL", 1);
                        self.expiry(*expiry, now);
                    }
                }
            }
        }
    }

    fn expiry(&mut self, expiry: Expiry, now: i64) {
        let kind = if expiry.at <= now {
            "what has expired"
        } else {
            "what is yet to expire"
        };
        self.add(kind, 1);
    }

    fn add(&mut self, kind: &'static str, count: usize) {
        *self.kinds.entry(kind).or_default() += count;
    }

    pub(crate) fn report(&self) {
        println!(
            "{} tables, {} views, {} statements, {} refused",
            self.tables, self.views, self.statements, self.refused
        );
        println!("SSTables by format: {:?}", self.sstables);
        println!("tables by number of SSTables merged: {:?}", self.merged);
        println!(
            "rows equal to SELECT *: {}; rows and markers equal to sstabledump: {}",
            self.selected_rows, self.dumped_rows
        );
        println!(
            "what Cassandra could not write as JSON itself: {} SSTables, {} tables",
            self.not_dumped, self.not_json
        );
        println!("met: {:?}", self.kinds);
        println!("types: {:?}", self.types);
        println!("compressors: {:?}", self.compressors);
    }

    /// A large run must have met everything there is.
    pub(crate) fn assert_complete(&self) {
        for kind in KINDS {
            assert!(self.kinds.get(kind).is_some_and(|count| *count > 0), "no {kind}");
        }
        let scalars = types::SCALARS.iter().map(ToString::to_string);
        for name in scalars.chain(COMPOUND.iter().map(ToString::to_string)) {
            assert!(self.types.contains(&name), "no {name}");
        }
        assert_eq!(self.compressors.len(), COMPRESSORS.len());
        assert!(self.merged.keys().any(|sstables| *sstables > 1));
    }
}
