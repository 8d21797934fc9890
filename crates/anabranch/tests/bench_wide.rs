//! `anabranch bench wide` in small: on the Cassandra that `ANABRANCH_TEST_CASSANDRA` names, with the nodetool of
//! `dev/cluster`, a partition of 10 MB is written, split by the pipeline, and read both ways.
#![cfg(feature = "cluster")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test panics when it fails")]

mod harness;

use std::path::Path;
use std::process::Command;

use serde_json::Value;

#[test]
fn a_small_run_measures_both_ways_and_says_what_it_could_not() {
    let Some((cassandra, kafka)) = harness::fleet::servers("bench wide") else {
        return;
    };
    let place = harness::folder("bench-wide");
    let json = place.path().join("report.json");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut command = Command::new(harness::binary());
    command
        .args([
            "bench",
            "wide",
            "--mb",
            "10",
            "--regimes",
            "compacted,cloud,walk,first,foreground",
        ])
        .args(["--seconds", "0.3", "--rounds", "1", "--readers", "1,4"])
        .args(["--contact-points", &cassandra, "--kafka", &kafka, "--folder"])
        .arg(place.path())
        .arg("--json")
        .arg(&json);
    // With nodes of somebody else, it has to do without.
    let own = cassandra.starts_with("127.0.0.1:");
    if own {
        let nodetool = root.join("dev/cluster").canonicalize().unwrap();
        let nodetool = format!(
            "{} run cassandra org.apache.cassandra.tools.NodeTool",
            nodetool.display()
        );
        command.args(["--nodetool", &nodetool, "--flushes", "3"]);
    }
    let output = command.output().unwrap();
    let (table, said) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{table}{said}");
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let format = &report["formats"][0];
    let regimes = format["regimes"].as_array().unwrap();
    let pages = regimes.iter().find(|of| of["regime"] == "compacted").unwrap();
    assert!(pages["agreed"].as_u64() >= Some(40), "{pages}");
    let cells = pages["measured"]["pages"].as_array().unwrap();
    assert_eq!(cells.len(), 4, "two directions by two numbers of readers");
    for side in cells
        .iter()
        .flat_map(|cell| [&cell["original"], &cell["targets"]])
    {
        assert!(
            side["outcomes"]["ok"].as_u64() > Some(0) && side["outcomes"]["ok"] == side["outcomes"]["sent"],
            "{side}"
        );
    }
    assert!(regimes.iter().any(|of| of["regime"] == "walk"), "{table}");
    let gain = &format["gains"][0][1];
    assert!(
        gain["gain_ratio"].is_number() && gain["compared_reads"].as_u64() >= Some(16),
        "{gain}"
    );
    let beside: Vec<&str> = format["foreground"]
        .as_array()
        .unwrap()
        .iter()
        .map(|felt| felt["beside"].as_str().unwrap())
        .collect();
    assert_eq!(beside.len(), 5, "{beside:?}");
    for part in [
        "Pages of 1,000 events",
        "All of a partition",
        "What `COMPARE` measured",
        "Ordinary ids",
        "| C4 |",
    ] {
        assert!(table.contains(part), "no `{part}` in:\n{table}");
    }
    // Nobody restarts nodes that are not the bench's own.
    let why = if own {
        "NOT MEASURED (theirs): cloud"
    } else {
        "NOT MEASURED (theirs): one SSTable, scattered, cloud"
    };
    assert!(table.contains(why), "{table}");
    assert!(
        table.contains("LEFT BEHIND (theirs): DROP KEYSPACE IF EXISTS bench"),
        "{table}"
    );
}
