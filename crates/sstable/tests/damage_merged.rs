//! E2, of a table of several SSTables: whatever is wrong with a component of one, a client is never shown less, or anything else.
//!
//! Each case damages one component of one SSTable of a committed table in memory, or takes it away, or puts the same component
//! of the table's other SSTable in its place, as a restore from an older backup would.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests"
)]

mod support;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use anabranch_sstable::{Component, Folder, InMemory, Merge, SstableError, Table, TableSchema, select};
use proptest::prelude::*;
use support::committed;
use support::damage::{Damage, damage, names_a_file, runner};

/// A table, and what is selected of it.
struct Loaded {
    sstables: Vec<InMemory>,
    schema: TableSchema,
    now: i64,
    whole: Vec<u8>,
}

fn load() -> Vec<Loaded> {
    let of_table = |table: committed::CommittedTable| {
        let sstables = table.sstables.iter();
        let sstables: Vec<InMemory> = sstables
            .map(|folder| InMemory::copy(&Folder::open(folder).unwrap()).unwrap())
            .collect();
        let whole = read(&sstables, &table.schema, table.now).unwrap();
        Loaded {
            sstables,
            schema: table.schema,
            now: table.now,
            whole,
        }
    };
    committed::all().into_iter().map(of_table).collect()
}

fn read(sstables: &[InMemory], schema: &TableSchema, now: i64) -> Result<Vec<u8>, SstableError> {
    let tables = sstables
        .iter()
        .map(|sstable| Table::with(Arc::new(sstable.clone())));
    let tables: Vec<Table> = tables.collect::<Result<_, _>>()?;
    let mut merge = Merge::open(&tables, &schema.rules, now)?;
    let mut out = Vec::new();
    select::write(&mut merge, schema, &mut out)?;
    Ok(out)
}

/// What becomes of a component.
#[derive(Clone, Debug)]
enum Fate {
    Damaged(Damage),
    Missing,
    OfAnother,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        8 => damage().prop_map(Fate::Damaged),
        1 => Just(Fate::Missing),
        2 => Just(Fate::OfAnother),
    ]
}

impl Fate {
    fn name(&self) -> &'static str {
        match self {
            Self::Damaged(damage) => damage.name(),
            Self::Missing => "missing",
            Self::OfAnother => "old copy",
        }
    }
}

#[test]
fn damage_to_one_sstable_is_found_or_changes_nothing() {
    let tables = load();
    let counts: RefCell<BTreeMap<(&str, Component), [u32; 2]>> = RefCell::default();
    let index = any::<prop::sample::Index>;
    let strategy = (0..tables.len(), index(), index(), fate());
    runner(3_000)
        .run(&strategy, |(table, which, component, fate)| {
            let table = &tables[table];
            let which = which.index(table.sstables.len());
            let mut sstables = table.sstables.clone();
            let present: Vec<Component> = sstables[which].components.keys().copied().collect();
            let component = present[component.index(present.len())];
            let mine = sstables[which].components[&component].clone();
            let theirs = match &fate {
                Fate::Missing => None,
                Fate::OfAnother => sstables[(which + 1) % sstables.len()]
                    .components
                    .get(&component)
                    .cloned(),
                Fate::Damaged(damage) => {
                    let mut bytes = Vec::from(mine.clone());
                    damage.apply(&mut bytes);
                    Some(bytes.into())
                }
            };
            let is_changed = theirs.as_ref() != Some(&mine);
            match theirs {
                Some(theirs) => sstables[which].components.insert(component, theirs),
                None => sstables[which].components.remove(&component),
            };
            let what = format!("{component:?} {fate:?}");
            let outcome = catch_unwind(AssertUnwindSafe(|| read(&sstables, &table.schema, table.now)));
            let is_found = match outcome {
                Err(_) => return Err(TestCaseError::fail(format!("{what}: panicked"))),
                Ok(Ok(answer)) => {
                    prop_assert!(answer == table.whole, "{}: another answer, and no error", what);
                    false
                }
                Ok(Err(error)) => {
                    let named = names_a_file(&error, &sstables[which]);
                    prop_assert!(named, "{}: {} names no file", what, error);
                    prop_assert!(is_changed, "{}: an error, and nothing is damaged", what);
                    true
                }
            };
            // These decide what is read: no change to them goes unnoticed.
            let must_be_found = matches!(component, Component::Data | Component::Statistics);
            prop_assert!(is_found || !is_changed || !must_be_found, "{}: not found", what);
            counts.borrow_mut().entry((fate.name(), component)).or_default()[usize::from(is_found)] += 1;
            Ok(())
        })
        .unwrap();
    let counts = counts.into_inner();
    for ((fate, component), [harmless, found]) in &counts {
        println!("{fate:<10} {component:<16?} found {found:>4}, harmless {harmless:>4}");
    }
    let fates = [
        "flip", "replace", "truncate", "append", "swap", "zero", "missing", "old copy",
    ];
    for fate in fates {
        for component in [Component::Data, Component::Statistics] {
            assert!(
                counts.contains_key(&(fate, component)),
                "no {fate} of {component:?}"
            );
        }
    }
}
