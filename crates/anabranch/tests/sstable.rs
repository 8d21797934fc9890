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
