//! `anabranch sstable` on the SSTables that a real Cassandra wrote.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../sstable/tests/fixtures")
        .join(name)
}

fn sstable(arguments: &[&str], path: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anabranch"));
    command.arg("sstable").args(arguments).arg(path).output().unwrap()
}

#[test]
fn a_dump_is_json_line_by_line() {
    for table in ["deletions-nb-1-big", "deletions-oa-1-big", "deletions-da-1-bti"] {
        for lines in ["partitions", "rows"] {
            let dump = sstable(&["dump", "--lines", lines], &fixture(table));
            assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
            let text = String::from_utf8(dump.stdout).unwrap();
            let values = text
                .lines()
                .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            assert!(values.filter(|value| value["sstable"].is_string()).count() >= 4);
        }
        let stat = sstable(&["stat"], &fixture(table));
        assert!(stat.status.success());
        assert!(
            String::from_utf8(stat.stdout)
                .unwrap()
                .contains("Murmur3Partitioner")
        );
    }
}

/// A table's SSTables in one folder, as in a snapshot.
fn snapshot(table: &str, sstables: [&str; 2]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for sstable in sstables {
        for entry in std::fs::read_dir(fixture(&format!("{table}-{sstable}"))).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    folder
}

#[test]
fn a_snapshot_is_selected_row_by_row() {
    for (format, index) in [("nb", "big"), ("oa", "big"), ("da", "bti")] {
        let names = [1, 2].map(|generation| format!("{format}-{generation}-{index}"));
        let folder = snapshot("counters", [&names[0], &names[1]]);
        let without_schema = sstable(&["select"], folder.path());
        assert_eq!(without_schema.status.code(), Some(1));
        let said = String::from_utf8(without_schema.stderr).unwrap();
        assert!(said.contains("schema.cql is missing"), "{said}");

        let schema = fixture(&format!("counters-{format}.cql"));
        std::fs::copy(schema, folder.path().join("schema.cql")).unwrap();
        let selected = sstable(&["select"], folder.path());
        assert!(
            selected.status.success(),
            "{}",
            String::from_utf8_lossy(&selected.stderr)
        );
        let seen = std::fs::read_to_string(fixture(&format!("counters-{format}.select"))).unwrap();
        let values = |lines: &str| -> Vec<serde_json::Value> {
            lines
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        };
        let ours = values(std::str::from_utf8(&selected.stdout).unwrap());
        assert!(ours.len() > 2);
        assert_eq!(ours, values(seen.split_once('\n').unwrap().1));

        // The schema of another table.
        std::fs::copy(
            fixture(&format!("keys-{format}.cql")),
            folder.path().join("schema.cql"),
        )
        .unwrap();
        let of_another = sstable(&["select"], folder.path());
        assert_eq!(of_another.status.code(), Some(2));
        assert!(of_another.stdout.is_empty());
    }
}

#[test]
fn a_snapshot_that_lost_an_sstable_ends_with_exit_code_1_and_its_name() {
    let folder = snapshot("keys", ["da-1-bti", "da-2-bti"]);
    std::fs::copy(fixture("keys-da.cql"), folder.path().join("schema.cql")).unwrap();
    let manifest = r#"{"files":["da-1-bti-Data.db","da-2-bti-Data.db","da-3-bti-Data.db"]}"#;
    std::fs::write(folder.path().join("manifest.json"), manifest).unwrap();
    let lost = folder.path().join("da-3-bti-Data.db").display().to_string();
    for verb in ["dump", "select", "stat"] {
        let output = sstable(&[verb], folder.path());
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(&format!("{lost} is missing")), "{said}");
    }
}

#[test]
fn damage_ends_with_exit_code_1_and_the_name_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture("keys-da-1-bti")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let data = folder.path().join("da-1-bti-Data.db");
    let mut bytes = std::fs::read(&data).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&data, bytes).unwrap();
    let dump = sstable(&["dump"], folder.path());
    assert_eq!(dump.status.code(), Some(1));
    assert!(
        String::from_utf8(dump.stderr)
            .unwrap()
            .contains(&data.display().to_string())
    );
}

#[test]
fn what_is_no_sstable_is_wrong_usage() {
    let folder = tempfile::tempdir().unwrap();
    let dump = sstable(&["dump"], folder.path());
    assert_eq!(dump.status.code(), Some(2));
    assert!(
        String::from_utf8(dump.stderr)
            .unwrap()
            .contains("holds no SSTable")
    );
}
