//! Whatever ends the process, every acknowledged write is there afterwards, whole, and nothing is there that
//! was never written.
//!
//! The tests start this test binary again as a child (`child_writes`), which writes until it is killed, and
//! check the store it leaves. `ANABRANCH_KILL_CYCLES` sets how often.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    reason = "helpers of tests fail by panicking and measure with the real clock"
)]

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::ops::Bound;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anabranch_storage::embedded::engine::{
    CasOutcome, Engine, EngineOptions, Fault, FaultHook, Row, TableId,
};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const CHILD: &str = "ANABRANCH_ENGINE_CHILD";
const FAULT: &str = "ANABRANCH_ENGINE_FAULT";
const SLOTS: u64 = 40;
/// Rows of the table `trail`: each write adds one and deletes the one that many writes before.
const TRAIL: u64 = 25;

fn options() -> EngineOptions {
    EngineOptions {
        memtable_bytes: 128 << 10,
        segment_bytes: 256 << 10,
        ..EngineOptions::small()
    }
}

/// The value of write `n` can be told from its number, so a wrong byte anywhere is found.
fn value(n: u64) -> Bytes {
    let length = usize::try_from(n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 54).unwrap();
    let mut bytes = n.to_be_bytes().to_vec();
    bytes.extend((0..length).map(|k| (n as usize + k) as u8));
    bytes.into()
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes[..8].try_into().unwrap())
}

struct Tables {
    history: TableId,
    slots: TableId,
    trail: TableId,
    records: TableId,
}

impl Tables {
    fn create(engine: &Engine) -> Self {
        let [history, slots, trail, records] =
            ["history", "slots", "trail", "records"].map(|name| engine.create_table(name).unwrap());
        Self {
            history,
            slots,
            trail,
            records,
        }
    }

    /// Write `n`: a row of its own, a row that is overwritten again and again, a second one in its table, and
    /// a row that a later write deletes.
    fn rows(&self, n: u64) -> Vec<Row> {
        let row = |table, key: Vec<u8>| Row::put(table, key, value(n));
        let mut rows = vec![
            row(self.history, n.to_be_bytes().to_vec()),
            row(self.slots, vec![b'a', (n % SLOTS) as u8]),
            row(self.slots, vec![b'b', (n % SLOTS) as u8]),
            row(self.trail, n.to_be_bytes().to_vec()),
        ];
        if let Some(old) = n.checked_sub(TRAIL) {
            rows.push(Row::delete(self.trail, old.to_be_bytes().to_vec()));
        }
        rows
    }
}

/// Not a test: what the child process does. It notes every acknowledged write in the file `acks`.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn child_writes() {
    let Ok(home) = std::env::var(CHILD) else { return };
    let home = Path::new(&home);
    let mut options = options();
    if let Ok(fault) = std::env::var(FAULT) {
        let (kind, count) = fault.split_once(':').unwrap();
        let (kind, left) = (kind.to_owned(), AtomicU64::new(count.parse().unwrap()));
        options.faults = Some(FaultHook(Arc::new(move |fault: Fault| {
            if format!("{fault:?}") == kind && left.fetch_sub(1, Ordering::Relaxed) == 1 {
                return Err(std::io::Error::other("injected"));
            }
            Ok(())
        })));
    }
    let (engine, report) = Engine::open(&home.join("store"), options).unwrap();
    let tables = Tables::create(&engine);
    let acks = Arc::new(Mutex::new(
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(home.join("acks"))
            .unwrap(),
    ));
    let last = engine
        .snapshot(tables.history)
        .unwrap()
        .range(Bound::Unbounded, Bound::Unbounded)
        .next_back();
    let mut n = last.map_or(0, |row| number(&row.unwrap().0));
    let mut random = StdRng::seed_from_u64(n ^ report.commits);
    loop {
        n += 1;
        let acks = Arc::clone(&acks);
        engine.write(tables.rows(n), |result| result.unwrap());
        let expected = (n > 1).then(|| Bytes::from((n - 1).to_be_bytes().to_vec()));
        let new = Bytes::from(n.to_be_bytes().to_vec());
        engine.compare_and_set(tables.records, "n".into(), expected, new, move |outcome| {
            // A record behind the rows was possible once: the write was durable, its compare-and-set was not.
            if outcome.unwrap() == CasOutcome::Applied {
                acks.lock().unwrap().write_all(&n.to_be_bytes()).unwrap();
            }
        });
        if random.random_range(0..60) == 0 {
            let name = format!("tmp{}", n % 7);
            let table = engine.create_table(&name).unwrap();
            engine
                .commit_blocking(vec![Row::put(table, "k", value(n))])
                .unwrap();
        }
        if random.random_range(0..90) == 0 {
            engine.drop_table(&format!("tmp{}", n % 7)).unwrap();
        }
        if random.random_range(0..40) == 0 {
            std::thread::sleep(Duration::from_millis(random.random_range(0..9)));
        }
        // The queue is bounded in bytes; this bounds it in requests.
        if n % 16 == 0 {
            engine.commit_blocking(vec![]).unwrap();
        }
    }
}

fn start(home: &Path, fault: Option<String>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "child_writes", "--ignored", "--test-threads=1"])
        .env(CHILD, home);
    if let Some(fault) = fault {
        command.env(FAULT, fault);
    }
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn acked(home: &Path) -> u64 {
    let bytes = fs::read(home.join("acks")).unwrap_or_default();
    bytes.chunks_exact(8).map(number).max().unwrap_or(0)
}

/// Opens the store and compares all of it with what writes 1..=n must have left; returns n.
fn check(home: &Path) -> u64 {
    let acked = acked(home);
    let store = home.join("store");
    if !store.exists() {
        assert_eq!(acked, 0);
        return 0;
    }
    let engine = Engine::open(&store, options())
        .unwrap_or_else(|e| panic!("after {acked} writes: {e:?}"))
        .0;
    let Some(history) = engine.table("history") else {
        assert_eq!(acked, 0);
        return 0;
    };
    let rows = |table: TableId| -> Vec<(Bytes, Bytes)> {
        let snapshot = engine.snapshot(table).unwrap();
        snapshot
            .range(Bound::Unbounded, Bound::Unbounded)
            .map(Result::unwrap)
            .collect()
    };
    let found = rows(history);
    let last = found.len() as u64;
    assert!(
        last >= acked,
        "{acked} writes were acknowledged and {last} are there"
    );
    for (n, (key, bytes)) in (1..).zip(&found) {
        assert_eq!(number(key), n, "writes are there without gaps, in their order");
        assert!(*bytes == value(n), "write {n} has other bytes");
    }
    if let Some(slots) = engine.table("slots") {
        let found = rows(slots);
        assert_eq!(found.len() as u64, 2 * last.min(SLOTS));
        for (key, bytes) in found {
            let slot = u64::from(key[1]);
            let newest = last - (last + SLOTS - slot) % SLOTS;
            assert!(
                bytes == value(newest),
                "slot {slot} holds {} and must hold {newest}",
                number(&bytes)
            );
        }
    }
    if let Some(trail) = engine.table("trail") {
        let found: Vec<u64> = rows(trail).iter().map(|(key, _)| number(key)).collect();
        let first = last.saturating_sub(TRAIL) + 1;
        assert_eq!(
            found,
            (first..=last).collect::<Vec<_>>(),
            "what was deleted stays away, and nothing else"
        );
    }
    if let Some(records) = engine.table("records") {
        let record = rows(records).first().map_or(0, |(_, v)| number(v));
        assert!(
            record >= acked && record <= last,
            "record {record}, acknowledged {acked}, rows {last}"
        );
        // The child goes on from the last row: so must the record.
        if record < last {
            let row = Row::put(records, "n", last.to_be_bytes().to_vec());
            engine.commit_blocking(vec![row]).unwrap();
        }
    }
    let mut named = BTreeSet::new();
    for (id, name) in engine.tables() {
        rows(id);
        assert!(named.insert(name));
    }
    engine.close().unwrap();
    last
}

#[test]
fn killed_processes_lose_nothing_acknowledged() {
    let cycles: u64 = std::env::var("ANABRANCH_KILL_CYCLES").map_or(10, |n| n.parse().unwrap());
    let mut home = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(cycles);
    let (mut total, mut before) = (0, 0);
    for cycle in 0..cycles {
        if cycle % 20 == 19 {
            // A new folder, killed in its first moments.
            total += before;
            before = 0;
            home = tempfile::tempdir().unwrap();
        }
        let mut child = start(home.path(), None);
        let life = if cycle % 20 == 19 {
            random.random_range(0..60)
        } else {
            random.random_range(0..500)
        };
        std::thread::sleep(Duration::from_millis(life));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "the child ended by itself");
        let last = check(home.path());
        assert!(last >= before, "{last} writes after {before}");
        before = last;
    }
    total += before;
    println!("{cycles} kills, {total} writes, all acknowledged ones found");
    assert!(cycles < 10 || total > 100, "only {total} writes");
}

#[test]
fn a_storage_error_ends_the_process_and_loses_nothing_acknowledged() {
    let faults = [
        ("LogWrite", [1, 2, 9, 300]),
        ("LogSync", [1, 3, 20, 301]),
        ("Flush", [1, 2, 3, 7]),
        ("CreateTable", [1, 2, 3, 4]),
        ("DropTable", [1, 2, 3, 4]),
        ("Release", [1, 2, 6, 10]),
    ];
    for (kind, counts) in faults {
        let home = tempfile::tempdir().unwrap();
        let mut ended = 0;
        for count in counts {
            let mut child = start(home.path(), Some(format!("{kind}:{count}")));
            let since = Instant::now();
            let status = loop {
                if let Some(status) = child.try_wait().unwrap() {
                    ended += 1;
                    assert_eq!(status.signal(), Some(6), "{kind} {count}: {status:?}");
                    break status;
                }
                if since.elapsed() > Duration::from_secs(3) {
                    child.kill().unwrap();
                    break child.wait().unwrap();
                }
                std::thread::sleep(Duration::from_millis(5));
            };
            assert!(status.signal().is_some());
            check(home.path());
        }
        assert!(
            ended >= 3,
            "{kind}: only {ended} of {} faults were met",
            counts.len()
        );
    }
}
