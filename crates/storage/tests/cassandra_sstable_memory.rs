//! A partition far too wide, written by a real Cassandra, with a range tombstone over all of it: it is dumped and merged
//! within a fixed limit of memory, however wide it is.
//!
//! `ANABRANCH_WIDE_MB` says how wide (60). Alone in its binary, because the peak of a process is measured.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test panics when it fails, and says what it has measured"
)]

#[allow(dead_code, reason = "a part of what the other tests use")]
mod cluster;
#[allow(dead_code, reason = "a part of what the other tests use")]
mod sstables;

use std::io::{self, Write};
use std::str::FromStr;

use anabranch_sstable::dump::{self, Lines, Options};
use anabranch_sstable::{Merge, Rules, SstableError, Table, select};
use cluster::{Keyspace, contact_points};
use futures::StreamExt;
use scylla::client::session::Session;
use scylla::statement::prepared::PreparedStatement;
use sstables::dice::Dice;
use sstables::node::{self, Node};

const ROW_BYTES: usize = 4096;
const IN_FLIGHT: usize = 32;
const ATTEMPTS: u32 = 10;
/// A chunk and a row of each SSTable, what the file system reads ahead, and what the allocator keeps.
const PEAK_BYTES_MAX: u64 = 32 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_wide_partition_is_read_in_constant_memory() {
    let test = "a wide partition is read in constant memory";
    let Some(points) = contact_points(test) else {
        return;
    };
    let keyspace = Keyspace::new(&points);
    let session = keyspace.session().await;
    let mut node = match Node::find(&session).await {
        Ok(node) if points.len() == 1 => node,
        Ok(_) => return eprintln!("!!! NOT RUN: {test}: it wants a cluster of one node"),
        Err(why) => return eprintln!("!!! NOT RUN: {test}: {why}"),
    };
    let megabytes = std::env::var("ANABRANCH_WIDE_MB").map_or(60, |text| usize::from_str(&text).unwrap());
    let rows = megabytes * 1_000_000 / ROW_BYTES;
    let name = keyspace.name.to_string();
    write(&session, &mut node, &name, rows).await;

    let folder = node.snapshot_of(&name, "wide");
    let tables = Table::open_all(&folder).unwrap();
    let bytes: u64 = node::data_files(&folder)
        .iter()
        .map(|path| std::fs::metadata(path).unwrap().len())
        .sum();
    for lines in [Lines::Partitions, Lines::Rows] {
        let options = Options {
            lines,
            ..Options::default()
        };
        let mut out = Counted::default();
        let peak = peak_bytes(|| dump::run(&folder, options, &mut out).unwrap());
        println!(
            "{lines:?}: {bytes} bytes of SSTables, {} of NDJSON, peak {peak} bytes more",
            out.bytes
        );
        assert!(out.bytes > rows as u64 * ROW_BYTES as u64, "{}", out.bytes);
        assert!(peak < PEAK_BYTES_MAX, "{peak} bytes");
    }
    let (mut live, mut before) = (0, 0);
    let peak = peak_bytes(|| {
        live = count(&tables);
        before = count(&tables[..1]);
    });
    println!("merged: {before} rows, of which a range tombstone leaves {live}; peak {peak} bytes more");
    assert_eq!((tables.len(), before, live), (2, rows, 1));
    assert!(peak < PEAK_BYTES_MAX, "{peak} bytes");

    keyspace.remove().await;
    node.remove_snapshots(&name);
}

/// Two SSTables: the rows, and a range tombstone over all of them with one row in it.
async fn write(session: &Session, node: &mut Node, keyspace: &str, rows: usize) {
    for statement in [
        format!(
            "CREATE KEYSPACE {keyspace} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
        ),
        format!("CREATE TABLE {keyspace}.wide (k int, c int, v blob, PRIMARY KEY (k, c))"),
    ] {
        session.query_unpaged(statement, ()).await.unwrap();
    }
    let insert = format!("INSERT INTO {keyspace}.wide (k, c, v) VALUES (1, ?, ?)");
    let insert = session.prepare(insert).await.unwrap();
    let mut dice = Dice::new(1);
    // Half of each row is the other half again, so that chunks are compressed.
    let values = (0..rows).map(|row| (i32::try_from(row).unwrap(), dice.blob(ROW_BYTES / 2).repeat(2)));
    futures::stream::iter(values.map(|values| insert_row(session, &insert, values)))
        .buffer_unordered(IN_FLIGHT)
        .collect::<()>()
        .await;
    node.tools.run(&["flush", keyspace]).unwrap();
    node.tools.run(&["compact", keyspace, "wide"]).unwrap();
    for statement in [
        format!("DELETE FROM {keyspace}.wide WHERE k = 1 AND c >= 0"),
        format!("INSERT INTO {keyspace}.wide (k, c, v) VALUES (1, 7, 0x00)"),
    ] {
        session.query_unpaged(statement, ()).await.unwrap();
    }
    node.tools.run(&["flush", keyspace]).unwrap();
    node.snapshot(keyspace);
}

/// The same row again is the same row: on a busy machine some are not written within Cassandra's two seconds.
async fn insert_row(session: &Session, insert: &PreparedStatement, values: (i32, Vec<u8>)) {
    for _ in 1..ATTEMPTS {
        if session.execute_unpaged(insert, &values).await.is_ok() {
            return;
        }
    }
    session.execute_unpaged(insert, &values).await.unwrap();
}

fn count(tables: &[Table]) -> usize {
    let mut merge = Merge::open(tables, &Rules::default(), 0).unwrap();
    let mut rows = 0;
    let counted = select::each_row(&mut merge, |_, _, row| {
        rows += usize::from(row.is_some());
        Ok::<_, SstableError>(())
    });
    counted.unwrap();
    rows
}

/// By how much the resident memory grew at most.
fn peak_bytes(work: impl FnOnce()) -> u64 {
    // Makes the kernel forget the peak so far.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS:");
    work();
    status("VmHWM:").saturating_sub(before)
}

fn status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    u64::from_str(line.trim().trim_end_matches(" kB")).unwrap() << 10
}

#[derive(Default)]
struct Counted {
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
