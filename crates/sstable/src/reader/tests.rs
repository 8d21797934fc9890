//! Bytes that break the format under checksums that are right: what a bug of a writer, or of ours, would leave.
//!
//! The answer may be another then. It must come without a panic, and in memory that the bytes account for.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

use crate::chunks::Chunks;
use crate::components::{Component, Folder, InMemory};
use crate::dump::{self, Options};
use crate::merge::{Merge, Rules};
use crate::table::Table;

const CHUNK: u32 = 1 << 16;

/// The committed SSTables, uncompressed and with nothing but what is needed.
fn uncompressed() -> Vec<InMemory> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let folders = std::fs::read_dir(fixtures)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let load = |folder: std::path::PathBuf| {
        let folder = Folder::open(&folder).unwrap();
        let mut chunks = Chunks::open(&folder).unwrap();
        let mut data = Vec::new();
        while let Some(chunk) = chunks.next().unwrap() {
            data.extend_from_slice(&chunk);
        }
        let mut table = InMemory::copy(&folder).unwrap();
        table
            .components
            .retain(|component, _| *component == Component::Statistics);
        set_data(&mut table, data);
        table
    };
    folders.filter(|path| path.is_dir()).map(load).collect()
}

fn set_data(table: &mut InMemory, data: Vec<u8>) {
    let mut checksums = CHUNK.to_be_bytes().to_vec();
    for chunk in data.chunks(CHUNK as usize) {
        checksums.extend(crc32fast::hash(chunk).to_be_bytes());
    }
    table.components.insert(Component::Crc, checksums.into());
    table.components.insert(Component::Data, data.into());
}

/// Makes every checksum in `Statistics.db` right again, where its parts still say where they are.
fn repair_statistics(bytes: &mut [u8]) -> Option<()> {
    let count = usize::try_from(u32::from_be_bytes(*bytes.first_chunk::<4>()?)).ok()?;
    let toc = 8..8_usize.checked_add(count.checked_mul(8)?)?;
    let starts: Vec<usize> = bytes
        .get(toc.clone())?
        .as_chunks::<8>()
        .0
        .iter()
        .filter_map(|entry| {
            entry
                .last_chunk::<4>()
                .map(|start| u32::from_be_bytes(*start) as usize)
        })
        .collect();
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..4]);
    bytes[4..8].copy_from_slice(&crc.clone().finalize().to_be_bytes());
    crc.update(&bytes[toc.clone()]);
    bytes
        .get_mut(toc.end..toc.end + 4)?
        .copy_from_slice(&crc.finalize().to_be_bytes());
    let ends = starts
        .iter()
        .skip(1)
        .copied()
        .chain([bytes.len()])
        .collect::<Vec<_>>();
    for (start, end) in starts.into_iter().zip(ends) {
        let checksum = crc32fast::hash(bytes.get(start..end.checked_sub(4)?)?);
        bytes
            .get_mut(end - 4..end)?
            .copy_from_slice(&checksum.to_be_bytes());
    }
    Some(())
}

/// Reads all of it in every way there is; errors are fine.
fn read(table: &InMemory) -> bool {
    let Ok(table) = Table::with(Arc::new(table.clone())) else {
        return false;
    };
    let mut out = Vec::new();
    let is_read = dump::write(&table, Options::default(), &mut out).is_ok();
    let _ = crate::stat::write(&table, &mut out);
    if let Ok(mut merge) = Merge::open(&[table.clone(), table], &Rules::default(), 1_795_000_000) {
        while let Ok(Some(_)) = merge.next_partition() {
            while let Ok(Some(_)) = merge.next_row() {}
        }
    }
    is_read
}

#[test]
fn what_is_made_uncompressed_reads_as_before() {
    assert!(uncompressed().iter().all(read));
}

#[test]
fn broken_content_under_right_checksums_never_panics() {
    let tables = uncompressed();
    let cases = std::env::var("DAMAGE_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(3_000);
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    });
    let change = (
        any::<Index>(),
        prop_oneof![any::<u8>(), Just(0xff), Just(0), Just(0x80), Just(0x7f)],
    );
    let strategy = (
        0..tables.len(),
        any::<bool>(),
        prop::collection::vec(change, 1..4),
        prop::option::of(any::<Index>()),
    );
    let (mut read_cases, mut refused) = (0, 0);
    let counts = std::cell::RefCell::new((&mut read_cases, &mut refused));
    runner
        .run(&strategy, |(number, in_data, changes, cut)| {
            let mut table = tables[number].clone();
            let component = if in_data {
                Component::Data
            } else {
                Component::Statistics
            };
            let mut bytes = Vec::from(
                table
                    .components
                    .get(&component)
                    .cloned()
                    .unwrap_or_else(Bytes::new),
            );
            for (at, by) in changes {
                let at = at.index(bytes.len());
                bytes[at] = by;
            }
            if in_data {
                bytes.truncate(cut.map_or(usize::MAX, |cut| cut.index(bytes.len())));
                set_data(&mut table, bytes);
            } else {
                let _ = repair_statistics(&mut bytes);
                table.components.insert(component, bytes.into());
            }
            let mut counts = counts.borrow_mut();
            *(if read(&table) {
                &mut *counts.0
            } else {
                &mut *counts.1
            }) += 1;
            Ok(())
        })
        .unwrap();
    println!("{read_cases} read, {refused} refused");
    assert!(read_cases > 0 && refused > 0);
}
