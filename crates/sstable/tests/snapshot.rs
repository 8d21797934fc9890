//! E2, of a snapshot as a whole: what `manifest.json` and `TOC.txt` list and the folder has not, or the other way round, is
//! named, and no row is written.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod support;

use std::path::Path;

use anabranch_sstable::dump::Options;
use anabranch_sstable::{SstableError, dump, select, stat};
use support::fixtures;

const SSTABLES: [&str; 2] = ["oa-1-big", "oa-2-big"];

/// The snapshot of a table of two SSTables, with a manifest that lists those and one of a secondary index.
fn snapshot() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for sstable in SSTABLES {
        copy_all(&fixtures().join(format!("keys-{sstable}")), folder.path());
    }
    std::fs::copy(fixtures().join("keys-oa.cql"), folder.path().join("schema.cql")).unwrap();
    write_manifest(folder.path(), &SSTABLES);
    folder
}

fn copy_all(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

fn write_manifest(folder: &Path, sstables: &[&str]) {
    let mut files: Vec<String> = sstables
        .iter()
        .map(|sstable| format!("{sstable}-Data.db"))
        .collect();
    files.push(".by_z/oa-1-big-Data.db".into());
    let manifest =
        serde_json::json!({ "files": files, "created_at": "2026-11-24T10:48:00Z", "expires_at": null });
    std::fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
}

/// What `select` writes; it fails where `dump` and `stat` do, with the same words, and then none of them has written anything.
fn selected(folder: &Path) -> Result<Vec<u8>, SstableError> {
    let [mut selected, mut dumped, mut described] = [const { Vec::new() }; 3];
    let outcome = select::run(folder, 0, &mut selected);
    let others = [
        dump::run(folder, Options::default(), &mut dumped),
        stat::run(folder, &mut described),
    ];
    let said = |outcome: &Result<(), SstableError>| outcome.as_ref().err().map(ToString::to_string);
    assert_eq!(others.each_ref().map(said), [said(&outcome), said(&outcome)]);
    if outcome.is_err() {
        assert_eq!([selected.len(), dumped.len(), described.len()], [0; 3]);
    }
    outcome.map(|()| selected)
}

fn failure(folder: &Path) -> String {
    selected(folder).unwrap_err().to_string()
}

#[test]
fn a_whole_snapshot_is_selected() {
    let folder = snapshot();
    let rows = selected(folder.path()).unwrap();
    assert!(rows.split(|byte| *byte == b'\n').count() > 10);
    // A folder that is no snapshot has no manifest.
    std::fs::remove_file(folder.path().join("manifest.json")).unwrap();
    assert_eq!(selected(folder.path()).unwrap(), rows);
}

#[test]
fn an_sstable_that_a_snapshot_has_lost_is_named() {
    for lost in SSTABLES {
        let folder = snapshot();
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with(lost) {
                std::fs::remove_file(path).unwrap();
            }
        }
        let file = folder.path().join(format!("{lost}-Data.db"));
        let expected = format!("{} is missing: manifest.json lists it", file.display());
        assert_eq!(failure(folder.path()), expected);
    }
}

#[test]
fn an_sstable_that_is_not_of_the_snapshot_is_named() {
    let folder = snapshot();
    write_manifest(folder.path(), &SSTABLES[..1]);
    let said = failure(folder.path());
    assert!(
        said.contains("manifest.json is damaged") && said.contains("it does not list oa-2-big-Data.db"),
        "{said}"
    );
}

/// Cuts a file of the snapshot at every length.
fn assert_every_cut_is_named(folder: &Path, name: &str) {
    let file = folder.join(name);
    let whole = std::fs::read(&file).unwrap();
    for length in 0..whole.len() {
        std::fs::write(&file, &whole[..length]).unwrap();
        let said = failure(folder);
        assert!(
            said.contains(&format!("{name} is damaged")),
            "cut at {length}: {said}"
        );
    }
}

#[test]
fn a_manifest_that_is_cut_is_named() {
    let folder = snapshot();
    assert_every_cut_is_named(folder.path(), "manifest.json");
    for text in ["{}", r#"{"files":{}}"#, r#"{"files":[1]}"#] {
        std::fs::write(folder.path().join("manifest.json"), text).unwrap();
        let said = failure(folder.path());
        assert!(said.contains("manifest.json is damaged"), "{text}: {said}");
    }
}

#[test]
fn a_table_of_contents_that_is_cut_is_named() {
    let folder = snapshot();
    assert_every_cut_is_named(folder.path(), "oa-2-big-TOC.txt");
}

#[test]
fn the_snapshot_of_a_table_without_sstables_has_no_rows() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixtures().join("keys-oa.cql"), folder.path().join("schema.cql")).unwrap();
    assert!(failure(folder.path()).ends_with("holds no SSTable"));
    write_manifest(folder.path(), &[]);
    assert!(selected(folder.path()).unwrap().is_empty());
}
