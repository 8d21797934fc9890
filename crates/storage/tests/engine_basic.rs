//! What the embedded engine promises while nothing goes wrong.

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
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use anabranch_storage::embedded::engine::{
    CasOutcome, Engine, EngineError, EngineOptions, Row, Snapshot, TableId,
};
use bytes::Bytes;

fn open(folder: &Path) -> Engine {
    Engine::open(folder, EngineOptions::small()).unwrap().0
}

fn row(table: TableId, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Row {
    Row::put(table, key, value)
}

fn all(snapshot: &Snapshot) -> Vec<(Bytes, Bytes)> {
    snapshot
        .range(Bound::Unbounded, Bound::Unbounded)
        .map(Result::unwrap)
        .collect()
}

fn cas(
    engine: &Engine,
    table: TableId,
    key: &'static str,
    expected: Option<&'static str>,
    new: &str,
) -> CasOutcome {
    let (send, answer) = sync_channel(1);
    let expected = expected.map(|e| Bytes::from_static(e.as_bytes()));
    engine.compare_and_set(
        table,
        key.into(),
        expected,
        new.to_owned().into(),
        move |result| {
            send.send(result).unwrap();
        },
    );
    answer.recv().unwrap().unwrap()
}

#[test]
fn written_rows_are_read_in_key_order_from_both_ends() {
    let home = tempfile::tempdir().unwrap();
    let engine = open(&home.path().join("store"));
    let table = engine.create_table("events").unwrap();
    engine
        .commit_blocking(vec![
            row(table, "b", "2"),
            row(table, "a", "1"),
            row(table, "c", "3"),
        ])
        .unwrap();
    let snapshot = engine.snapshot(table).unwrap();
    let keys = |lower, upper| -> Vec<Bytes> {
        let forward: Vec<Bytes> = snapshot.range(lower, upper).map(|r| r.unwrap().0).collect();
        let mut back: Vec<Bytes> = snapshot.range(lower, upper).rev().map(|r| r.unwrap().0).collect();
        back.reverse();
        assert_eq!(forward, back);
        forward
    };
    assert_eq!(keys(Bound::Unbounded, Bound::Unbounded), ["a", "b", "c"]);
    assert_eq!(keys(Bound::Included(b"a"), Bound::Excluded(b"c")), ["a", "b"]);
    assert_eq!(keys(Bound::Excluded(b"a"), Bound::Included(b"c")), ["b", "c"]);
    assert_eq!(keys(Bound::Included(b"c"), Bound::Included(b"a")), [""; 0]);
    assert_eq!(keys(Bound::Excluded(b"a"), Bound::Excluded(b"a")), [""; 0]);
    assert_eq!(snapshot.get(b"b").unwrap().unwrap(), "2");
    assert_eq!(snapshot.get(b"bb").unwrap(), None);
}

#[test]
fn the_last_of_several_rows_with_one_key_wins() {
    let home = tempfile::tempdir().unwrap();
    let engine = open(&home.path().join("store"));
    let table = engine.create_table("t").unwrap();
    engine
        .commit_blocking(vec![
            row(table, "k", "1"),
            row(table, "k", "2"),
            row(table, "k", "3"),
        ])
        .unwrap();
    assert_eq!(
        all(&engine.snapshot(table).unwrap()),
        [("k".into(), Bytes::from("3"))]
    );
}

#[test]
fn deleted_keys_are_gone_from_both_ends_and_can_be_written_again() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("store");
    let mut engine = open(&folder);
    let (table, other) = (
        engine.create_table("t").unwrap(),
        engine.create_table("other").unwrap(),
    );
    for table in [table, other] {
        let rows = ["a", "b", "c", "d"].map(|key| row(table, key, "1"));
        engine.commit_blocking(rows.to_vec()).unwrap();
    }
    let before = engine.snapshot(table).unwrap();
    let delete = |key: &'static str| Row::delete(table, key);
    // Of several rows with one key the last counts, whatever it does.
    let rows = vec![
        delete("a"),
        delete("never"),
        delete("b"),
        row(table, "b", "2"),
        row(table, "d", "2"),
        delete("d"),
    ];
    engine.commit_blocking(rows).unwrap();
    assert_eq!(all(&before).len(), 4, "an older snapshot still has them");
    drop(before);
    for _ in 0..2 {
        let snapshot = engine.snapshot(table).unwrap();
        let expected = [("b", "2"), ("c", "1")].map(|(k, v)| (Bytes::from(k), Bytes::from(v)));
        assert_eq!(all(&snapshot), expected);
        let mut back: Vec<_> = snapshot
            .range(Bound::Unbounded, Bound::Unbounded)
            .rev()
            .map(Result::unwrap)
            .collect();
        back.reverse();
        assert_eq!(back, expected);
        assert_eq!(snapshot.get(b"a").unwrap(), None);
        assert_eq!(all(&engine.snapshot(other).unwrap()).len(), 4);
        drop(snapshot);
        // A second time after replay.
        engine.close().unwrap();
        engine = open(&folder);
    }
    engine.commit_blocking(vec![row(table, "a", "3")]).unwrap();
    assert_eq!(engine.snapshot(table).unwrap().get(b"a").unwrap().unwrap(), "3");
}

#[test]
fn a_snapshot_does_not_change() {
    let home = tempfile::tempdir().unwrap();
    let engine = open(&home.path().join("store"));
    let table = engine.create_table("t").unwrap();
    engine.commit_blocking(vec![row(table, "k", "old")]).unwrap();
    let before = engine.snapshot(table).unwrap();
    engine
        .commit_blocking(vec![row(table, "k", "new"), row(table, "l", "new")])
        .unwrap();
    assert_eq!(all(&before), [("k".into(), Bytes::from("old"))]);
    assert_eq!(all(&engine.snapshot(table).unwrap()).len(), 2);
}

#[test]
fn rows_and_tables_are_there_after_reopening() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("deep").join("store");
    for round in 0u8..5 {
        let (engine, report) = Engine::open(&folder, EngineOptions::small()).unwrap();
        assert_eq!(report.created, round == 0);
        assert_eq!(report.rows_replayed, u64::from(round) * 2, "{report:?}");
        let (a, b) = (
            engine.create_table("a").unwrap(),
            engine.create_table("b").unwrap(),
        );
        assert_ne!(a, b);
        engine
            .commit_blocking(vec![row(a, vec![round + 1], "x"), row(b, vec![round + 1], "y")])
            .unwrap();
        assert_eq!(all(&engine.snapshot(a).unwrap()).len(), usize::from(round) + 1);
        assert_eq!(all(&engine.snapshot(b).unwrap()).len(), usize::from(round) + 1);
        engine.close().unwrap();
    }
}

#[test]
fn an_empty_folder_becomes_a_store_and_another_folder_does_not() {
    let home = tempfile::tempdir().unwrap();
    let (empty, other) = (home.path().join("empty"), home.path().join("other"));
    std::fs::create_dir(&empty).unwrap();
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("letter.txt"), "dear").unwrap();
    assert!(Engine::open(&empty, EngineOptions::small()).unwrap().1.created);
    let error = Engine::open(&other, EngineOptions::small()).unwrap_err();
    assert!(matches!(error, EngineError::NotAStore { .. }), "{error}");
    assert_eq!(std::fs::read_dir(&other).unwrap().count(), 1, "nothing was added");
}

#[test]
fn a_store_in_use_can_not_be_opened_again() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("store");
    let engine = open(&folder);
    let error = Engine::open(&folder, EngineOptions::small()).unwrap_err();
    assert!(matches!(error, EngineError::Locked { .. }), "{error}");
    engine.close().unwrap();
    open(&folder);
}

#[test]
fn leftovers_of_creation_are_removed() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("store");
    let leftover = home.path().join(".store.creating-1-00ff");
    std::fs::create_dir_all(leftover.join("log")).unwrap();
    std::fs::write(leftover.join("log").join("00000001.seg"), [0; 4_096]).unwrap();
    open(&folder);
    assert!(!leftover.exists());
    assert!(folder.join("tables").exists());
}

#[test]
fn refused_rows_say_why_and_change_nothing() {
    let home = tempfile::tempdir().unwrap();
    let engine = open(&home.path().join("store"));
    let table = engine.create_table("t").unwrap();
    let missing = engine.create_table("gone").unwrap();
    engine.drop_table("gone").unwrap();
    let refuse = |row| engine.commit_blocking(vec![row]).unwrap_err();
    assert!(matches!(refuse(row(table, "", "v")), EngineError::Invalid(_)));
    assert!(matches!(
        refuse(row(table, vec![1; 65_536], "v")),
        EngineError::Invalid(_)
    ));
    assert!(matches!(
        refuse(row(missing, "k", "v")),
        EngineError::UnknownTable(_)
    ));
    assert!(matches!(
        refuse(row(table, "k", vec![1; 33 << 20])),
        EngineError::TooLarge { .. }
    ));
    assert!(matches!(
        engine.create_table("").unwrap_err(),
        EngineError::Invalid(_)
    ));
    assert!(matches!(
        engine.snapshot(missing).unwrap_err(),
        EngineError::UnknownTable(_)
    ));
    // One bad row refuses the whole write.
    let both = vec![row(table, "k", "v"), row(missing, "k", "v")];
    assert!(engine.commit_blocking(both).is_err());
    assert_eq!(all(&engine.snapshot(table).unwrap()), []);
    engine
        .commit_blocking(vec![row(table, vec![1; 65_535], "v")])
        .unwrap();
    engine.commit_blocking(vec![]).unwrap();
    let other = engine.clone();
    engine.close().unwrap();
    assert!(matches!(
        other.commit_blocking(vec![row(table, "k", "v")]).unwrap_err(),
        EngineError::Closed
    ));
    assert!(matches!(
        other.create_table("late").unwrap_err(),
        EngineError::Closed
    ));
}

#[test]
fn a_full_queue_refuses_and_reserving_waits() {
    let home = tempfile::tempdir().unwrap();
    let options = EngineOptions {
        queue_bytes_max: 1_000,
        ..EngineOptions::small()
    };
    let engine = Engine::open(&home.path().join("store"), options).unwrap().0;
    let table = engine.create_table("t").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let permit = engine.reserve(900).await.unwrap();
        let (send, answer) = sync_channel(1);
        engine.write(vec![row(table, "k", "v".repeat(200))], move |result| {
            send.send(result).unwrap()
        });
        assert!(matches!(answer.recv().unwrap(), Err(EngineError::Busy)));
        drop(permit);
        engine
            .commit(vec![row(table, "k", "v".repeat(200))])
            .await
            .unwrap();
        // Larger than the queue: served alone.
        engine
            .commit(vec![row(table, "l", "v".repeat(20_000))])
            .await
            .unwrap();
        let outcome = engine
            .compare_and_swap(table, "m".into(), None, "1".into())
            .await
            .unwrap();
        assert_eq!(outcome, CasOutcome::Applied);
    });
    assert_eq!(all(&engine.snapshot(table).unwrap()).len(), 3);
}

#[test]
fn compare_and_set_answers_with_the_current_value() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("store");
    {
        let engine = open(&folder);
        let table = engine.create_table("records").unwrap();
        assert_eq!(
            cas(&engine, table, "k", Some("x"), "1"),
            CasOutcome::Conflict(None)
        );
        assert_eq!(cas(&engine, table, "k", None, "1"), CasOutcome::Applied);
        assert_eq!(
            cas(&engine, table, "k", None, "2"),
            CasOutcome::Conflict(Some("1".into()))
        );
        assert_eq!(cas(&engine, table, "k", Some("1"), "2"), CasOutcome::Applied);
    }
    let engine = open(&folder);
    let table = engine.table("records").unwrap();
    assert_eq!(cas(&engine, table, "k", Some("2"), "3"), CasOutcome::Applied);
    assert_eq!(engine.stats().compared, (1, 0));
}

#[test]
fn compare_and_set_sees_puts_of_the_same_group() {
    let home = tempfile::tempdir().unwrap();
    let engine = open(&home.path().join("store"));
    let table = engine.create_table("t").unwrap();
    let (send, answers) = sync_channel(300);
    // Sent without waiting, so that many share a group and others are still being applied.
    for n in 0..100u32 {
        let (put, applied, refused) = (send.clone(), send.clone(), send.clone());
        engine.write(vec![row(table, "k", format!("p{n}"))], move |r| {
            put.send(r.is_ok()).unwrap()
        });
        let expected = Some(Bytes::from(format!("p{n}")));
        engine.compare_and_set(
            table,
            "k".into(),
            expected.clone(),
            format!("c{n}").into(),
            move |r| {
                applied.send(r.unwrap() == CasOutcome::Applied).unwrap();
            },
        );
        let current = CasOutcome::Conflict(Some(Bytes::from(format!("c{n}"))));
        engine.compare_and_set(table, "k".into(), expected, "never".into(), move |r| {
            refused.send(r.unwrap() == current).unwrap();
        });
    }
    for n in 0..300 {
        assert!(answers.recv().unwrap(), "answer {n}");
    }
    assert_eq!(engine.snapshot(table).unwrap().get(b"k").unwrap().unwrap(), "c99");
}

#[test]
fn compare_and_set_takes_a_deleted_key_for_absent() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("store");
    let engine = open(&folder);
    let table = engine.create_table("t").unwrap();
    let (send, answers) = sync_channel(300);
    // Sent without waiting: the delete is met in the same group, in a group on its way, or in the table.
    for n in 0..100u32 {
        let (deleted, applied, refused) = (send.clone(), send.clone(), send.clone());
        engine.write(vec![Row::delete(table, "k")], move |r| {
            deleted.send(r.is_ok()).unwrap()
        });
        let wrong = Some(Bytes::from(format!("{}", n.wrapping_sub(1))));
        engine.compare_and_set(table, "k".into(), wrong, "never".into(), move |r| {
            refused.send(r.unwrap() == CasOutcome::Conflict(None)).unwrap();
        });
        engine.compare_and_set(table, "k".into(), None, format!("{n}").into(), move |r| {
            applied.send(r.unwrap() == CasOutcome::Applied).unwrap();
        });
    }
    for n in 0..300 {
        assert!(answers.recv().unwrap(), "answer {n}");
    }
    engine.commit_blocking(vec![Row::delete(table, "k")]).unwrap();
    engine.close().unwrap();
    let engine = open(&folder);
    assert_eq!(
        cas(&engine, table, "k", Some("99"), "x"),
        CasOutcome::Conflict(None)
    );
    assert_eq!(cas(&engine, table, "k", None, "x"), CasOutcome::Applied);
}

#[test]
fn compare_and_set_is_serial_under_contention() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("store");
    let engine = open(&folder);
    let table = engine.create_table("t").unwrap();
    let applied = Arc::new(AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (engine, applied) = (engine.clone(), Arc::clone(&applied));
            scope.spawn(move || {
                for _ in 0..100 {
                    loop {
                        let now = engine.snapshot(table).unwrap().get(b"n").unwrap();
                        let n: u64 = now
                            .as_ref()
                            .map_or(0, |b| std::str::from_utf8(b).unwrap().parse().unwrap());
                        let (send, answer) = sync_channel(1);
                        let new = (n + 1).to_string().into();
                        engine.compare_and_set(table, "n".into(), now, new, move |r| {
                            send.send(r.unwrap()).unwrap()
                        });
                        if answer.recv().unwrap() == CasOutcome::Applied {
                            applied.fetch_add(1, Ordering::Relaxed);
                            break;
                        }
                    }
                }
            });
        }
    });
    assert_eq!(applied.load(Ordering::Relaxed), 400);
    drop(engine);
    let engine = open(&folder);
    assert_eq!(engine.snapshot(table).unwrap().get(b"n").unwrap().unwrap(), "400");
}

/// Writes until several flushes and compactions have happened, and compares with a map all the way.
#[test]
fn ranges_hold_during_flush_and_compaction() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("store");
    let options = EngineOptions {
        memtable_bytes: 256 << 10,
        ..EngineOptions::small()
    };
    let engine = Engine::open(&folder, options.clone()).unwrap().0;
    let tables = ["a", "b"].map(|name| engine.create_table(name).unwrap());
    let done = Arc::new(AtomicBool::new(false));
    let mut model: BTreeMap<(TableId, Bytes), Bytes> = BTreeMap::new();
    std::thread::scope(|scope| {
        // Every group puts one number under several keys of both tables: a reader must see it under all or none.
        for table in tables {
            let (engine, done) = (engine.clone(), Arc::clone(&done));
            scope.spawn(move || {
                let mut last = 0u64;
                while !done.load(Ordering::Relaxed) {
                    let snapshot = engine.snapshot(table).unwrap();
                    let same = |rows: Vec<(Bytes, Bytes)>| {
                        let values: Vec<Bytes> = rows.into_iter().map(|(_, v)| v).collect();
                        assert!(values.is_empty() || values.len() == 10, "{}", values.len());
                        assert!(
                            values.windows(2).all(|w| w[0] == w[1]),
                            "a group was seen in part"
                        );
                        values
                            .first()
                            .map_or(0, |v| u64::from_be_bytes(v[..8].try_into().unwrap()))
                    };
                    let range = || snapshot.range(Bound::Included(b"~"), Bound::Unbounded);
                    let forward = same(range().map(Result::unwrap).collect());
                    let back = same(range().rev().map(Result::unwrap).collect());
                    assert_eq!(forward, back);
                    assert!(forward >= last, "a reader went back from {last} to {forward}");
                    last = forward;
                }
            });
        }
        let mut seed = 7u64;
        for n in 1u64..=1_500 {
            let mut rows = Vec::new();
            for table in tables {
                for k in 0..10u8 {
                    rows.push(row(table, vec![b'~', k], n.to_be_bytes().to_vec()));
                }
                for _ in 0..10 {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    rows.push(row(
                        table,
                        format!("{:05}", seed >> 48),
                        vec![(n % 251) as u8; 100],
                    ));
                }
            }
            for row in &rows {
                model.insert((row.table, row.key.clone()), row.value.clone().unwrap());
            }
            engine.commit_blocking(rows).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    let stats = engine.stats();
    assert!(stats.flushes >= 5 && stats.compactions >= 1, "{stats:?}");
    assert!(stats.memtable_bytes < 3 << 20, "{stats:?}");
    let check = |engine: &Engine| {
        for table in tables {
            let found = all(&engine.snapshot(table).unwrap());
            let expected: Vec<(Bytes, Bytes)> = model
                .iter()
                .filter(|((t, _), _)| *t == table)
                .map(|((_, k), v)| (k.clone(), v.clone()))
                .collect();
            assert!(found == expected, "{} rows of {}", found.len(), expected.len());
        }
    };
    check(&engine);
    engine.close().unwrap();
    let (engine, report) = Engine::open(&folder, options).unwrap();
    assert!(report.torn.is_none());
    check(&engine);
}

/// Written and deleted over and over: the rows stay away, and in the end so do their files.
#[test]
fn deleted_rows_are_dropped_by_compaction() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("store");
    let options = EngineOptions {
        memtable_bytes: 256 << 10,
        ..EngineOptions::small()
    };
    let engine = Engine::open(&folder, options.clone()).unwrap().0;
    let table = engine.create_table("t").unwrap();
    let key = |k: u32| format!("{:08x}", k.wrapping_mul(0x9E37_79B9));
    let noise = |k: u32| -> Vec<u8> {
        let mut seed = k;
        let step = |seed: &mut u32| {
            *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (*seed >> 24) as u8
        };
        (0..500).map(|_| step(&mut seed)).collect()
    };
    engine.commit_blocking(vec![row(table, "keep", "1")]).unwrap();
    let mut largest = 0;
    for round in 0..3u32 {
        for group in 0..40 {
            let of = |n| key(group * 100 + n);
            let rows = (0..100).map(|n| row(table, of(n), noise(round + group * 100 + n)));
            engine.commit_blocking(rows.collect()).unwrap();
        }
        largest = largest.max(engine.stats().table_bytes);
        for group in 0..40 {
            let deletes = (0..100).map(|n| Row::delete(table, key(group * 100 + n)));
            engine.commit_blocking(deletes.collect()).unwrap();
        }
        let left = all(&engine.snapshot(table).unwrap());
        assert_eq!(left, [("keep".into(), Bytes::from("1"))]);
    }
    // Other rows push the last deletes through flush and compaction.
    let since = std::time::Instant::now();
    let mut n = 0u32;
    while engine.stats().table_bytes > 500_000 && since.elapsed() < Duration::from_secs(20) {
        let rows = (0..100).map(|k| row(table, format!("~{k}"), vec![n as u8; 20]));
        engine.commit_blocking(rows.collect()).unwrap();
        n += 1;
    }
    let stats = engine.stats();
    assert!(
        largest > 1 << 20 && stats.table_bytes <= 500_000,
        "{largest} bytes once, {stats:?}"
    );
    engine.close().unwrap();
    let engine = Engine::open(&folder, options).unwrap().0;
    let snapshot = engine.snapshot(table).unwrap();
    let first = snapshot.range(Bound::Unbounded, Bound::Excluded(b"~"));
    assert_eq!(first.count(), 1);
}

#[test]
fn the_log_is_recycled_although_idle_tables_pin_it() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("store");
    let engine = open(&folder);
    let idle: Vec<TableId> = (0..40)
        .map(|n| engine.create_table(&format!("idle{n}")).unwrap())
        .collect();
    let busy = engine.create_table("busy").unwrap();
    for n in 0u32..400 {
        let table = idle[n as usize % 40];
        engine
            .commit_blocking(vec![row(table, n.to_be_bytes().to_vec(), "idle")])
            .unwrap();
        let rows = (0..100u32).map(|k| row(busy, (n * 100 + k).to_be_bytes().to_vec(), vec![7; 600]));
        engine.commit_blocking(rows.collect()).unwrap();
    }
    let wait = std::time::Instant::now();
    while engine.stats().segments_live > 4 && wait.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let stats = engine.stats();
    assert!(stats.segments_live <= 4, "{stats:?}");
    let files = std::fs::read_dir(folder.join("log")).unwrap().count();
    assert!(
        files < 24,
        "{files} files for a log of 25 MiB in segments of 1 MiB"
    );
    engine.close().unwrap();
    let (engine, report) = Engine::open(&folder, EngineOptions::small()).unwrap();
    assert!(report.commits < 800);
    let found: usize = idle
        .iter()
        .map(|t| all(&engine.snapshot(*t).unwrap()).len())
        .sum();
    assert_eq!((found, all(&engine.snapshot(busy).unwrap()).len()), (400, 40_000));
}

#[test]
fn tables_come_and_go_under_readers() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("store");
    let engine = open(&folder);
    let first = engine.create_table("t").unwrap();
    assert_eq!(engine.create_table("t").unwrap(), first);
    for n in 0..20u8 {
        engine
            .commit_blocking(vec![row(first, vec![n, 1], vec![n; 100_000])])
            .unwrap();
    }
    let snapshot = engine.snapshot(first).unwrap();
    engine.drop_table("t").unwrap();
    engine.drop_table("t").unwrap();
    assert_eq!(engine.table("t"), None);
    let second = engine.create_table("t").unwrap();
    assert_ne!(first, second);
    assert_eq!(all(&engine.snapshot(second).unwrap()), []);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(all(&snapshot).len(), 20, "a snapshot outlives its table");
    let tree = folder.join("trees").join(first.to_string());
    assert!(tree.exists());
    drop(snapshot);
    let wait = std::time::Instant::now();
    while tree.exists() && wait.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!tree.exists(), "its files go with the last reader");
    engine.close().unwrap();
    let engine = open(&folder);
    assert_eq!(engine.tables(), [(second, "t".to_owned())]);
    assert_eq!(
        all(&engine.snapshot(second).unwrap()),
        [],
        "log rows of the dropped table stay away"
    );
}

#[test]
fn values_larger_than_a_segment_are_stored() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("store");
    let engine = open(&folder);
    let table = engine.create_table("t").unwrap();
    for n in 0..4u8 {
        engine
            .commit_blocking(vec![row(table, vec![n + 1], vec![n; 5 << 20])])
            .unwrap();
    }
    drop(engine);
    let engine = open(&folder);
    for (n, (_, value)) in (0u8..).zip(all(&engine.snapshot(table).unwrap())) {
        assert!(value.len() == 5 << 20 && value.iter().all(|b| *b == n));
    }
}
