//! E2: damage is named, or it changes nothing. It never panics and never makes a shorter answer.
//!
//! Each case damages one component of one committed SSTable in memory: a flipped bit, a byte replaced, a cut, bytes
//! added, a stretch moved, another table's component, or none.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests"
)]

mod support;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use anabranch_sstable::dump::Options;
use anabranch_sstable::{Component, Folder, InMemory, SstableError, Table, dump};
use proptest::prelude::*;
use support::damage::{damage, names_a_file, runner};

/// What the whole table says, or why it does not.
fn read(components: InMemory) -> Result<Vec<u8>, SstableError> {
    let table = Table::with(Arc::new(components))?;
    let mut out = Vec::new();
    dump::write(&table, Options::default(), &mut out)?;
    Ok(out)
}

fn load() -> Vec<(InMemory, Vec<u8>)> {
    support::tables().iter().map(|folder| load_one(folder)).collect()
}

fn load_one(folder: &std::path::Path) -> (InMemory, Vec<u8>) {
    let table = InMemory::copy(&Folder::open(folder).unwrap()).unwrap();
    let whole = read(table.clone()).unwrap();
    (table, whole)
}

/// The folder's name up to the SSTable's: the same in each format.
fn name(folder: &std::path::Path) -> String {
    let name = folder.file_name().unwrap().to_string_lossy();
    name.split('-').next().unwrap().to_owned()
}

/// Reads a damaged table: the damage is found, or the answer is the same to the byte.
fn is_found(damaged: InMemory, whole: &[u8], what: &str) -> bool {
    let outcome = catch_unwind(AssertUnwindSafe(|| read(damaged.clone())));
    match outcome.unwrap_or_else(|_| panic!("{what}: panicked")) {
        Ok(answer) => {
            assert!(answer == whole, "{what}: another answer, and no error");
            false
        }
        Err(error) => {
            assert!(names_a_file(&error, &damaged), "{what}: {error} names no file");
            true
        }
    }
}

#[test]
fn random_damage_is_found_or_harmless() {
    let tables = load();
    let (mut found, mut harmless) = (BTreeMap::new(), BTreeMap::new());
    let mut runner = runner(4_000);
    let strategy = (0..tables.len(), any::<prop::sample::Index>(), damage());
    let counts = std::cell::RefCell::new((&mut found, &mut harmless));
    runner
        .run(&strategy, |(number, component, damage)| {
            let (table, whole) = &tables[number];
            let present: Vec<Component> = table.components.keys().copied().collect();
            let component = present[component.index(present.len())];
            let mut damaged = table.clone();
            let mut bytes = Vec::from(damaged.components[&component].clone());
            damage.apply(&mut bytes);
            let is_changed = bytes != damaged.components[&component];
            damaged.components.insert(component, bytes.into());
            let what = format!("{} {component:?} {damage:?}", table.descriptor);
            let is_found = is_found(damaged, whole, &what);
            prop_assert!(
                is_changed || !is_found,
                "{}: an error, and nothing is damaged",
                what
            );
            // Without a checksum of its own, a file may hold bytes that nothing depends on.
            let may_be_harmless = matches!(
                component,
                Component::CompressionInfo | Component::Crc | Component::Toc | Component::Digest
            );
            prop_assert!(is_found || !is_changed || may_be_harmless, "{}: not found", what);
            let mut counts = counts.borrow_mut();
            let count = if is_found { &mut counts.0 } else { &mut counts.1 };
            *count.entry(component).or_insert(0_u32) += 1;
            Ok(())
        })
        .unwrap();
    println!("found {found:?}, harmless {harmless:?}");
}

#[test]
fn every_bit_of_small_files_is_checked() {
    for (table, whole) in load() {
        for component in [
            Component::CompressionInfo,
            Component::Digest,
            Component::Crc,
            Component::Toc,
        ] {
            let Some(bytes) = table.components.get(&component) else {
                continue;
            };
            for at in 0..bytes.len() * 8 {
                let mut damaged = table.clone();
                let mut changed = Vec::from(bytes.clone());
                changed[at / 8] ^= 1 << (at % 8);
                damaged.components.insert(component, changed.into());
                let what = format!("{} {component:?} bit {at}", table.descriptor);
                is_found(damaged, &whole, &what);
            }
        }
    }
}

#[test]
fn every_cut_of_the_data_is_found() {
    for (table, whole) in load() {
        let data = &table.components[&Component::Data];
        for length in (0..data.len()).step_by(1 + data.len() / 500) {
            let mut damaged = table.clone();
            damaged.components.insert(Component::Data, data.slice(..length));
            let what = format!("{} cut at {length}", table.descriptor);
            assert!(is_found(damaged, &whole, &what), "{what}: not found");
        }
    }
}

#[test]
fn a_cut_between_partitions_is_found_without_checksums_of_the_whole() {
    for (table, whole) in load() {
        // Uncompressed data, cut where a partition starts: each chunk that is left can be made right again.
        if table.components.contains_key(&Component::CompressionInfo) {
            continue;
        }
        let read = Table::with(Arc::new(table.clone())).unwrap();
        let mut reader = read.read().unwrap();
        let mut starts = Vec::new();
        while let Some(partition) = reader.next_partition().unwrap() {
            starts.push(usize::try_from(partition.position).unwrap());
        }
        assert!(starts.len() > 2);
        for start in starts {
            let mut damaged = table.clone();
            let data = damaged.components[&Component::Data].slice(..start);
            let mut crc = 65_536_u32.to_be_bytes().to_vec();
            for chunk in data.chunks(65_536) {
                crc.extend(crc32fast::hash(chunk).to_be_bytes());
            }
            damaged.components.insert(Component::Crc, crc.into());
            damaged.components.insert(Component::Data, data);
            damaged.components.remove(&Component::Digest);
            damaged.components.remove(&Component::Toc);
            let what = format!("{} cut at partition {start}", table.descriptor);
            assert!(is_found(damaged, &whole, &what), "{what}: not found");
        }
    }
}

#[test]
fn components_of_other_tables_are_found() {
    const SWAPPED: [Component; 4] = [
        Component::Data,
        Component::CompressionInfo,
        Component::Crc,
        Component::Statistics,
    ];
    let tables: Vec<_> = support::tables()
        .iter()
        .map(|folder| (name(folder), load_one(folder)))
        .collect();
    let mut cases = 0;
    for (name, (table, whole)) in &tables {
        for (other_name, (other, _)) in &tables {
            for component in SWAPPED {
                let pair = (table.components.get(&component), other.components.get(&component));
                let (Some(mine), Some(theirs)) = pair else {
                    continue;
                };
                // Without the digest, the same writes by another node's clock are as good as these: times are
                // stored as distances from those in the statistics.
                for with_digest in [true, false] {
                    if mine == theirs || (!with_digest && name == other_name) {
                        continue;
                    }
                    let mut damaged = table.clone();
                    damaged.components.insert(component, theirs.clone());
                    if !with_digest {
                        damaged.components.remove(&Component::Digest);
                        damaged.components.remove(&Component::Toc);
                    }
                    let what = format!("{component:?} of {other_name} {} in {name}", other.descriptor);
                    match catch_unwind(AssertUnwindSafe(|| read(damaged))) {
                        Ok(Ok(answer)) if name == other_name && component == Component::Statistics => {
                            drop(answer)
                        }
                        Ok(Ok(answer)) => assert!(answer == *whole, "{what}: another answer, and no error"),
                        Ok(Err(_)) => {}
                        Err(_) => panic!("{what}: panicked"),
                    }
                    cases += 1;
                }
            }
        }
    }
    println!("{cases} components put into other tables");
}

#[test]
fn missing_components_are_named() {
    for (table, whole) in load() {
        for component in table.components.keys() {
            let mut damaged = table.clone();
            damaged.components.remove(component);
            let what = format!("{} without {component:?}", table.descriptor);
            let is_needed = *component != Component::Toc;
            assert_eq!(is_found(damaged, &whole, &what), is_needed, "{what}");

            let mut damaged = table.clone();
            damaged.components.remove(component);
            damaged.components.remove(&Component::Toc);
            let is_needed = !matches!(component, Component::Toc | Component::Digest);
            assert_eq!(is_found(damaged, &whole, &what), is_needed, "{what} and TOC.txt");
        }
    }
}

#[test]
fn a_failed_reader_never_says_that_it_has_ended() {
    let (table, _) = load().swap_remove(0);
    let mut damaged = table.clone();
    let data = damaged.components[&Component::Data].clone();
    damaged
        .components
        .insert(Component::Data, data.slice(..data.len() - 1));
    let mut reader = Table::with(Arc::new(damaged)).unwrap().read().unwrap();
    let mut failures = 0;
    for _ in 0..100_000 {
        match reader.next_partition() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended"),
            Err(_) => failures += 1,
        }
        if failures == 3 {
            return;
        }
    }
    panic!("it never failed");
}
