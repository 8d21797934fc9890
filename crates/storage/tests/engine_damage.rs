//! A flipped bit anywhere in a store is harmless, or an error that names the file. It never changes an answer.
//!
//! `ANABRANCH_BIT_FLIPS` sets how many flips are tried in each kind of file.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    reason = "helpers of tests fail by panicking and measure with the real clock"
)]

use std::collections::BTreeMap;
use std::fs;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anabranch_storage::embedded::engine::{Engine, EngineError, EngineOptions, Row, TableId};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

type Rows = BTreeMap<(String, Bytes), Bytes>;

fn options() -> EngineOptions {
    EngineOptions {
        memtable_bytes: 128 << 10,
        segment_bytes: 256 << 10,
        ..EngineOptions::small()
    }
}

/// A closed store with rows in tables of several levels, and in the log only.
fn make(folder: &Path) -> Rows {
    let engine = Engine::open(folder, options()).unwrap().0;
    let tables: Vec<(TableId, String)> = ["big", "small", "gone"]
        .iter()
        .map(|n| (engine.create_table(n).unwrap(), (*n).to_owned()))
        .collect();
    let mut model = Rows::new();
    let mut random = StdRng::seed_from_u64(1);
    for n in 0u32..150 {
        let mut rows = Vec::new();
        for _ in 0..20 {
            let key: Bytes = format!("k{:04}", random.random_range(0..2_000)).into();
            rows.push((
                0,
                key,
                Bytes::from(vec![(n % 251) as u8; random.random_range(50..400)]),
            ));
        }
        rows.push((1, format!("s{n}").into(), "small".into()));
        rows.push((2, format!("g{n}").into(), "gone".into()));
        for (t, key, value) in &rows {
            model.insert((tables[*t].1.clone(), key.clone()), value.clone());
        }
        let mut rows: Vec<Row> = rows
            .into_iter()
            .map(|(t, key, value)| Row::put(tables[t].0, key, value))
            .collect();
        let deleted: Bytes = format!("k{:04}", random.random_range(0..2_000)).into();
        model.remove(&(tables[0].1.clone(), deleted.clone()));
        rows.push(Row::delete(tables[0].0, deleted));
        engine.commit_blocking(rows).unwrap();
    }
    engine.drop_table("gone").unwrap();
    model.retain(|(table, _), _| table != "gone");
    let since = Instant::now();
    while engine.stats().flushes < 5 && since.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(engine.stats().flushes >= 5);
    // A compaction that closing interrupts leaves a file that nobody misses: let it end first.
    let (mut before, mut still) = (files(folder), 0);
    while still < 10 {
        std::thread::sleep(Duration::from_millis(50));
        let now = files(folder);
        still = if now == before { still + 1 } else { 0 };
        before = now;
    }
    engine.close().unwrap();
    model
}

fn read(folder: &Path) -> Result<Rows, EngineError> {
    let engine = Engine::open(folder, options())?.0;
    let mut rows = Rows::new();
    for (id, name) in engine.tables() {
        let snapshot = engine.snapshot(id)?;
        let (mut forward, mut back) = (Vec::new(), Vec::new());
        for row in snapshot.range(Bound::Unbounded, Bound::Unbounded) {
            forward.push(row?);
        }
        for row in snapshot.range(Bound::Unbounded, Bound::Unbounded).rev() {
            back.push(row?);
        }
        back.reverse();
        assert!(forward == back);
        rows.extend(
            forward
                .into_iter()
                .map(|(key, value)| ((name.clone(), key), value)),
        );
    }
    for key in ["k0001", "k0999", "s7"] {
        for (id, name) in engine.tables() {
            let value = engine.snapshot(id)?.get(key.as_bytes())?;
            assert_eq!(value.as_ref(), rows.get(&(name, Bytes::from(key))));
        }
    }
    engine.close()?;
    Ok(rows)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    // A folder can go away meanwhile: that of a dropped table.
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(file, target).unwrap();
    }
}

fn kind(file: &Path) -> &'static str {
    let name = file.file_name().unwrap().to_str().unwrap();
    let folder = file.parent().unwrap().file_name().unwrap().to_str().unwrap();
    match (folder, name) {
        (_, "LOCK") => "lock",
        (_, "low") => "low",
        ("log", _) => "segment",
        ("tables", _) => "table",
        (_, "current") => "current",
        (_, "tables") => "registry",
        _ if name.starts_with('v') => "manifest",
        other => panic!("unknown kind of file: {other:?}"),
    }
}

#[test]
fn a_flipped_bit_is_harmless_or_names_the_file() {
    let flips: usize = std::env::var("ANABRANCH_BIT_FLIPS").map_or(12, |n| n.parse().unwrap());
    let home = tempfile::tempdir().unwrap();
    let store = home.path().join("store");
    let model = make(&store);
    assert!(read(&store).unwrap() == model);

    let mut by_kind: BTreeMap<&str, Vec<PathBuf>> = BTreeMap::new();
    for file in files(&store) {
        by_kind.entry(kind(&file)).or_default().push(file);
    }
    assert_eq!(
        by_kind.keys().copied().collect::<Vec<_>>(),
        [
            "current", "lock", "low", "manifest", "registry", "segment", "table"
        ]
    );
    let mut random = StdRng::seed_from_u64(2);
    for (kind, files) in by_kind {
        let (mut harmless, mut refused) = (0, 0);
        // Segments are large and mostly unused: aim at the used part often enough.
        let tries = if kind == "segment" { flips * 4 } else { flips };
        for n in 0..tries {
            let file = &files[random.random_range(0..files.len())];
            let length = fs::metadata(file).unwrap().len();
            if length == 0 {
                harmless += 1;
                continue;
            }
            let reach = if kind == "segment" && n % 2 == 0 {
                length.min(64 << 10)
            } else {
                length
            };
            let at = usize::try_from(random.random_range(0..reach)).unwrap();
            let bit = 1u8 << random.random_range(0..8);
            let damaged = home.path().join("damaged");
            copy(&store, &damaged);
            let target = damaged.join(file.strip_prefix(&store).unwrap());
            let mut bytes = fs::read(&target).unwrap();
            bytes[at] ^= bit;
            fs::write(&target, bytes).unwrap();
            match read(&damaged) {
                Ok(rows) => {
                    assert!(
                        rows == model,
                        "{kind}: a flip of {bit} at byte {at} of {} changed an answer",
                        target.display()
                    );
                    harmless += 1;
                }
                Err(error) => {
                    let text = error.to_string();
                    // The tree's folder where the table reader does not say which of its files it was.
                    let tree = target
                        .ancestors()
                        .find(|f| f.parent().is_some_and(|p| p.ends_with("trees")));
                    let named = text.contains(target.to_str().unwrap())
                        || tree.is_some_and(|t| text.contains(t.to_str().unwrap()));
                    assert!(
                        named,
                        "{kind}: a flip at byte {at} of {} gave: {text}",
                        target.display()
                    );
                    refused += 1;
                }
            }
            fs::remove_dir_all(&damaged).unwrap();
        }
        println!("{kind}: {tries} flips, {refused} refused, {harmless} harmless");
        if ["registry", "low", "current", "manifest"].contains(&kind) {
            assert_eq!(harmless, 0, "{kind}");
        }
    }
}

#[test]
fn a_missing_file_is_missed() {
    let home = tempfile::tempdir().unwrap();
    let store = home.path().join("store");
    let model = make(&store);
    for file in files(&store) {
        if kind(&file) == "lock" {
            continue;
        }
        let damaged = home.path().join("damaged");
        copy(&store, &damaged);
        let target = damaged.join(file.strip_prefix(&store).unwrap());
        fs::remove_file(&target).unwrap();
        match read(&damaged) {
            Ok(rows) => panic!(
                "{} was not missed, {} of {} rows",
                target.display(),
                rows.len(),
                model.len()
            ),
            Err(error) => {
                // Without its registry the folder is just not a store.
                let text = error.to_string();
                let named =
                    ["registry", "table"].contains(&kind(&file)) || text.contains(target.to_str().unwrap());
                assert!(named, "{} gave: {text}", target.display());
            }
        }
        fs::remove_dir_all(&damaged).unwrap();
    }
}

#[test]
fn a_table_with_more_sections_than_bytes_is_named() {
    let home = tempfile::tempdir().unwrap();
    let store = home.path().join("store");
    make(&store);
    let tables: Vec<PathBuf> = files(&store)
        .into_iter()
        .filter(|file| kind(file) == "table")
        .collect();
    assert!(!tables.is_empty());
    for file in tables {
        let damaged = home.path().join("damaged");
        copy(&store, &damaged);
        let target = damaged.join(file.strip_prefix(&store).unwrap());
        let mut bytes = fs::read(&target).unwrap();
        let at = bytes.len() - 16;
        let begins = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
        assert_eq!(&bytes[begins..begins + 4], b"TOC!");
        // The highest bit of their number: room for so many would be 80 GiB.
        bytes[begins + 7] ^= 0x80;
        fs::write(&target, bytes).unwrap();
        let error = read(&damaged).unwrap_err().to_string();
        assert!(
            error.contains(target.to_str().unwrap()) && error.contains("more sections than it has room for"),
            "{error}"
        );
        fs::remove_dir_all(&damaged).unwrap();
    }
}
