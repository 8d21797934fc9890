//! Random operations on the engine and on a map must always agree, over many tables and restarts.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    reason = "helpers of tests fail by panicking and measure with the real clock"
)]

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use anabranch_storage::embedded::engine::{CasOutcome, Engine, EngineOptions, Row, Snapshot};
use bytes::Bytes;
use proptest::prelude::*;

type Table = BTreeMap<Bytes, Bytes>;

#[derive(Clone, Debug)]
enum Op {
    /// Rows as (table, key, length of the value); without one the key is deleted.
    Write(Vec<(u8, u16, Option<u16>)>),
    /// Delete a range of keys.
    Clear {
        table: u8,
        lower: u16,
        upper: u16,
    },
    /// Compare with the right value or with a wrong one.
    Compare {
        table: u8,
        key: u16,
        right: bool,
    },
    Create(u8),
    Drop(u8),
    /// Keep what is there now and compare with it later.
    Hold(u8),
    Range {
        table: u8,
        lower: u16,
        upper: u16,
    },
    Reopen,
}

fn value() -> impl Strategy<Value = Option<u16>> {
    prop_oneof![3 => (0u16..3_000).prop_map(Some), 1 => Just(None)]
}

fn op() -> impl Strategy<Value = Op> {
    let (table, key) = (0u8..5, 0u16..300);
    prop_oneof![
        12 => prop::collection::vec((table.clone(), key.clone(), value()), 0..60).prop_map(Op::Write),
        1 => (table.clone(), key.clone(), key.clone()).prop_map(|(table, lower, upper)| Op::Clear { table, lower, upper }),
        4 => (table.clone(), key.clone(), any::<bool>()).prop_map(|(table, key, right)| Op::Compare { table, key, right }),
        2 => table.clone().prop_map(Op::Create),
        1 => table.clone().prop_map(Op::Drop),
        2 => table.clone().prop_map(Op::Hold),
        4 => (table, key.clone(), key).prop_map(|(table, lower, upper)| Op::Range { table, lower, upper }),
        1 => Just(Op::Reopen),
    ]
}

fn options() -> EngineOptions {
    EngineOptions {
        memtable_bytes: 64 << 10,
        segment_bytes: 64 << 10,
        segments_live_max: 3,
        ..EngineOptions::small()
    }
}

fn key(k: u16) -> Bytes {
    k.to_be_bytes().to_vec().into()
}

fn rows(snapshot: &Snapshot, lower: Bound<&[u8]>, upper: Bound<&[u8]>) -> Table {
    let forward: Vec<_> = snapshot.range(lower, upper).map(Result::unwrap).collect();
    let mut back: Vec<_> = snapshot.range(lower, upper).rev().map(Result::unwrap).collect();
    back.reverse();
    assert!(forward == back, "the two directions differ");
    assert!(forward.is_sorted_by(|a, b| a.0 < b.0));
    forward.into_iter().collect()
}

fn run(folder: &Path, ops: &[Op]) {
    let mut engine = Engine::open(folder, options()).unwrap().0;
    let mut model: BTreeMap<String, Table> = BTreeMap::new();
    let mut held: Vec<(Snapshot, Table)> = Vec::new();
    for (n, op) in ops.iter().enumerate() {
        let name = |t: u8| format!("table{t}");
        match op {
            Op::Write(writes) => {
                let mut batch = Vec::new();
                for (t, k, length) in writes {
                    let Some(table) = engine.table(&name(*t)) else {
                        continue;
                    };
                    let rows = model.get_mut(&name(*t)).unwrap();
                    match length {
                        Some(length) => {
                            let value: Bytes = vec![(n % 251) as u8; usize::from(*length)].into();
                            rows.insert(key(*k), value.clone());
                            batch.push(Row::put(table, key(*k), value));
                        }
                        None => {
                            rows.remove(&key(*k));
                            batch.push(Row::delete(table, key(*k)));
                        }
                    }
                }
                engine.commit_blocking(batch).unwrap();
            }
            Op::Clear { table, lower, upper } => {
                let Some(id) = engine.table(&name(*table)) else {
                    continue;
                };
                let rows = model.get_mut(&name(*table)).unwrap();
                let batch = (*lower..*upper).map(|k| Row::delete(id, key(k)));
                rows.retain(|k, _| *k < key(*lower) || *k >= key(*upper));
                engine.commit_blocking(batch.collect()).unwrap();
            }
            Op::Compare { table, key: k, right } => {
                let Some(id) = engine.table(&name(*table)) else {
                    continue;
                };
                let rows = model.get_mut(&name(*table)).unwrap();
                let current = rows.get(&key(*k)).cloned();
                let expected = if *right {
                    current.clone()
                } else {
                    Some(Bytes::from(format!("wrong{n}")))
                };
                let new = Bytes::from(format!("cas{n}"));
                let (send, answer) = sync_channel(1);
                engine.compare_and_set(id, key(*k), expected, new.clone(), move |r| {
                    send.send(r.unwrap()).unwrap()
                });
                match answer.recv().unwrap() {
                    CasOutcome::Applied => {
                        assert!(right);
                        rows.insert(key(*k), new);
                    }
                    CasOutcome::Conflict(found) => {
                        assert!(!right);
                        assert_eq!(found, current);
                    }
                }
            }
            Op::Create(t) => {
                engine.create_table(&name(*t)).unwrap();
                model.entry(name(*t)).or_default();
            }
            Op::Drop(t) => {
                engine.drop_table(&name(*t)).unwrap();
                model.remove(&name(*t));
            }
            Op::Hold(t) => {
                if let Some(id) = engine.table(&name(*t)) {
                    held.push((engine.snapshot(id).unwrap(), model[&name(*t)].clone()));
                }
            }
            Op::Range { table, lower, upper } => {
                let Some(id) = engine.table(&name(*table)) else {
                    continue;
                };
                let snapshot = engine.snapshot(id).unwrap();
                let (from, to) = (key(*lower), key(*upper));
                let found = rows(&snapshot, Bound::Excluded(&from), Bound::Included(&to));
                let expected = model[&name(*table)]
                    .iter()
                    .filter(|(k, _)| **k > from && **k <= to);
                assert!(found == expected.map(|(k, v)| (k.clone(), v.clone())).collect::<Table>());
                assert_eq!(
                    snapshot.get(&from).unwrap().as_ref(),
                    model[&name(*table)].get(&from)
                );
            }
            Op::Reopen => {
                check(&engine, &model, &mut held);
                engine.close().unwrap();
                engine = Engine::open(folder, options()).unwrap().0;
            }
        }
    }
    check(&engine, &model, &mut held);
}

fn check(engine: &Engine, model: &BTreeMap<String, Table>, held: &mut Vec<(Snapshot, Table)>) {
    for (snapshot, expected) in held.drain(..) {
        assert!(
            rows(&snapshot, Bound::Unbounded, Bound::Unbounded) == expected,
            "a held snapshot changed"
        );
    }
    let tables = engine.tables();
    assert_eq!(tables.len(), model.len());
    for (id, name) in tables {
        let found = rows(&engine.snapshot(id).unwrap(), Bound::Unbounded, Bound::Unbounded);
        assert!(
            found == model[&name],
            "{name}: {} rows, expected {}",
            found.len(),
            model[&name].len()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("ANABRANCH_MODEL_CASES").map_or(16, |n| n.parse().unwrap()),
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_engine_agrees_with_a_map(ops in prop::collection::vec(op(), 1..150)) {
        let home = tempfile::tempdir().unwrap();
        let creates = (0..3).map(Op::Create);
        run(&home.path().join("store"), &creates.chain(ops).collect::<Vec<_>>());
    }
}

/// `ANABRANCH_TABLES` sets how many; a deployment with one table a time slice has about a thousand.
#[test]
fn many_tables_open_quickly_and_let_the_log_go() {
    let count: usize = std::env::var("ANABRANCH_TABLES").map_or(150, |n| n.parse().unwrap());
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("store");
    let options = EngineOptions {
        segment_bytes: 1 << 20,
        segments_live_max: 4,
        ..EngineOptions::default()
    };
    let engine = Engine::open(&folder, options.clone()).unwrap().0;
    let since = Instant::now();
    let tables: Vec<_> = (0..count)
        .map(|n| engine.create_table(&format!("slice{n:05}")).unwrap())
        .collect();
    let created = since.elapsed();
    let mut rows_each = 0;
    // Every table gets a little, and again, until the log has been filled many times over.
    while rows_each * count < 40_000 {
        for table in &tables {
            let key = |k: usize| Bytes::from((rows_each + k).to_be_bytes().to_vec());
            let rows = (0..10).map(|k| Row::put(*table, key(k), vec![5; 300]));
            engine.write(rows.collect(), |result| result.unwrap());
        }
        engine.commit_blocking(vec![]).unwrap();
        rows_each += 10;
    }
    let since = Instant::now();
    while engine.stats().segments_live > 4 && since.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let stats = engine.stats();
    assert!(stats.segments_live <= 4, "{stats:?}");
    engine.close().unwrap();
    let since = Instant::now();
    let (engine, report) = Engine::open(&folder, options).unwrap();
    let opened = since.elapsed();
    assert_eq!(report.tables, count);
    for table in &tables {
        let snapshot = engine.snapshot(*table).unwrap();
        assert_eq!(
            snapshot.range(Bound::Unbounded, Bound::Unbounded).count(),
            rows_each
        );
    }
    println!(
        "{count} tables: {:.1} ms to create one, {:.2} s to open, {} rows replayed, {} flushes, resident {}",
        created.as_secs_f64() * 1e3 / count as f64,
        opened.as_secs_f64(),
        report.rows_replayed,
        stats.flushes,
        resident()
    );
}

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .unwrap_or("unknown")
        .trim()
        .to_owned()
}
