//! `kill -9` of the real binary under load, again and again (W1, W2).
//!
//! Each cycle: start on the folder of the cycle before, read *everything* back and check it, write and read, SIGKILL at a
//! random moment. Every few cycles the folder is a new one and the kill falls into its first 1.5 seconds. Rules, for
//! every id after every restart:
//!
//! - `acked ⊆ returned ⊆ acked ∪ unknown`, each event once, byte for byte, in order, in both directions;
//! - what a restart did not show stays away, what it showed stays there;
//! - a folder that does not open is a failure.
//!
//! Now and then what was written is sealed, and the reads that check it find it wide: the split pipeline runs beside
//! the load and is killed with it. When a folder is done with, every split has to come to rest, and everything is read
//! once more, now from its targets.
//!
//! `ANABRANCH_KILL_CYCLES` says how many (20). 300 of them: `ANABRANCH_KILL_CYCLES=300 cargo test --release -p anabranch
//! --test kill -- --nocapture`. `ANABRANCH_SEED` repeats a run's choices, though not its timing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, reports on stdout, and runs a real process in real time"
)]

mod check;
#[path = "../harness/mod.rs"]
mod harness;
mod load;
mod splits;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anabranch_proto::admin::v1 as admin;
use check::check_all;
use harness::fates::{Known, known};
use harness::made::{Dice, Maker, mix};
use harness::{Admin, Started};
use load::Load;

const NAMESPACE: &str = "kill";
const SYNC_WRITERS: u64 = 6;
const INGEST_WRITERS: u64 = 3;
const QUEUE_WRITERS: u64 = 1;
const READERS: u64 = 2;
const SERIES_A_WRITER: u64 = 3;
const WRITERS: u64 = SYNC_WRITERS + INGEST_WRITERS + QUEUE_WRITERS;
const CYCLES_A_FOLDER: u64 = 8;

#[derive(Default)]
struct Totals {
    cycles: u64,
    folders: u64,
    killed_before_ready: u64,
    acked: AtomicU64,
    unknown: AtomicU64,
    unknown_found: u64,
    checked: u64,
    live_reads: AtomicU64,
    kills_in_first_second: u64,
    log_bytes: u64,
    /// Splits that a kill left in a state from which they have to go on.
    interrupted: BTreeMap<&'static str, u64>,
    /// Splits of folders that were done with.
    completed: u64,
    pages_from_targets: u64,
}

/// A data folder and what is known of it.
struct Folder {
    place: tempfile::TempDir,
    maker: Maker,
    known: Arc<Known>,
    namespace_there: bool,
    /// Events of every series before this one are sealed: nothing of them is written any more.
    sealed: u64,
}

impl Folder {
    fn new(seed: u64, number: u64) -> Self {
        let mut dice = Dice::new(mix(&[seed, number]));
        Self {
            place: harness::folder("kill"),
            maker: Maker {
                seed: dice.next(),
                // 2026-01-05, a Monday.
                start_micros: 1_767_571_200_000_000,
                step_micros: 10_000_000,
                an_instant: 3,
                // Every other folder gets values that fill memtables and log segments.
                value_bytes_max: if number % 2 == 1 { 60_000 } else { 600 },
            },
            known: Arc::new(known(WRITERS * SERIES_A_WRITER)),
            namespace_there: false,
            sealed: 0,
        }
    }

    fn data(&self) -> std::path::PathBuf {
        self.place.path().join("data")
    }
}

#[test]
fn acked_events_survive_every_kill_exactly_once() {
    let cycles = harness::number("ANABRANCH_KILL_CYCLES", 20);
    let seed = harness::number("ANABRANCH_SEED", 0x0a5e_ed00);
    println!("{cycles} cycles from seed {seed}");
    let since = Instant::now();
    let mut totals = Totals::default();
    let mut dice = Dice::new(seed);
    let mut folder = Folder::new(seed, 0);
    let runtime = harness::runtime();
    for cycle in 0..cycles {
        if cycle % CYCLES_A_FOLDER == 0 {
            if cycle > 0 {
                runtime.block_on(end(folder, &mut totals));
            }
            folder = Folder::new(seed, cycle / CYCLES_A_FOLDER);
            totals.folders += 1;
            // A kill in the first moments of a new folder, some before the server listens at all.
            for _ in 0..3 {
                let started = Started::serve(&folder.data(), &[]);
                std::thread::sleep(Duration::from_millis(dice.below(120)));
                started.kill();
                totals.killed_before_ready += 1;
            }
        }
        let context = format!(
            "cycle {cycle}, seed {seed}, folder {}",
            folder.place.path().display()
        );
        let cycle_since = Instant::now();
        let result = runtime.block_on(one_cycle(&mut folder, &mut dice, &mut totals));
        if let Err(why) = result {
            let kept = folder.place.keep();
            panic!("{context}: {why}\nkept: {}", kept.display());
        }
        totals.cycles += 1;
        if cycle % 10 == 9 || cycle + 1 == cycles {
            println!(
                "cycle {}: {} acked, {} read back, {:?} this cycle",
                cycle + 1,
                totals.acked.load(Ordering::Relaxed),
                totals.checked,
                cycle_since.elapsed()
            );
        }
    }
    runtime.block_on(end(folder, &mut totals));
    println!(
        "kill -9: {} cycles on {} new folders in {:.0?}, {} more kills while starting, {} kills within 1.5 s of a new \
         folder's first start; {} events acked, 0 lost, 0 twice; {} in doubt at a kill, {} of them found; {} events read \
         back in checks, {} reads under load; store files at most {} MiB; refused to open: 0; splits that a kill found under \
         way: {:?}; completed when their folder was done with: {}, the rest not worth it or waiting for more; {} pages read \
         from targets",
        totals.cycles,
        totals.folders,
        since.elapsed(),
        totals.killed_before_ready,
        totals.kills_in_first_second,
        totals.acked.load(Ordering::Relaxed),
        totals.unknown.load(Ordering::Relaxed),
        totals.unknown_found,
        totals.checked,
        totals.live_reads.load(Ordering::Relaxed),
        totals.log_bytes >> 20,
        totals.interrupted,
        totals.completed,
        totals.pages_from_targets,
    );
    if cycles >= CYCLES_A_FOLDER {
        assert!(
            totals.completed > 0 && totals.pages_from_targets > 0,
            "nothing was split"
        );
    }
    assert!(
        totals.acked.load(Ordering::Relaxed) > cycles * 100,
        "the load was no load"
    );
}

/// The last kill of a folder is checked too, and then a stop that is asked for.
async fn end(folder: Folder, totals: &mut Totals) {
    let ends = async {
        let server = Started::serve(&folder.data(), &[]).ready()?;
        check_all(&server, &folder, totals).await?;
        splits::converge(&server, &folder, totals).await?;
        let status = server.stop();
        if !status.success() {
            return Err(format!("a server that was asked to stop ended with {status}"));
        }
        let server = Started::serve(&folder.data(), &[]).ready()?;
        check_all(&server, &folder, totals).await?;
        server.assert_no_panic();
        Ok(())
    };
    if let Err(why) = ends.await {
        panic!(
            "after the last cycle of a folder: {why}\nkept: {}",
            folder.place.keep().display()
        );
    }
}

async fn one_cycle(folder: &mut Folder, dice: &mut Dice, totals: &mut Totals) -> Result<(), String> {
    let fresh = !folder.namespace_there;
    let spawned = Instant::now();
    let started = Started::serve(&folder.data(), &[]);
    let delay = Duration::from_millis(dice.below(1_501));
    let server = tokio::task::block_in_place(|| started.ready())?;
    let from = if fresh { spawned } else { Instant::now() };
    let mut admin = server.admin().await;
    let created = create_namespace(&mut admin, folder.namespace_there).await?;
    folder.namespace_there |= created;
    if !fresh {
        check_all(&server, folder, totals).await?;
    }
    splits::interrupted(&server, totals).await;
    if !fresh && dice.below(2) == 0 {
        splits::seal(&mut admin, folder).await?;
    }
    let load = Load::start(&server, folder, dice.next()).await;
    // In a new folder the time runs from the start of the process.
    let kill_at = if fresh {
        from + delay
    } else {
        Instant::now() + delay
    };
    if fresh {
        totals.kills_in_first_second += 1;
    }
    tokio::time::sleep_until(kill_at.into()).await;
    let log = server.log();
    server.kill();
    load.stop(totals).await?;
    if let Some(line) = log.lines().find(|line| line.contains("panicked")) {
        return Err(format!("the server panicked: {line}"));
    }
    let bytes: u64 = harness::files(&folder.data())
        .iter()
        .map(|f| folder.data().join(f).metadata().map_or(0, |m| m.len()))
        .sum();
    totals.log_bytes = totals.log_bytes.max(bytes);
    Ok(())
}

/// Makes the namespace, unless a kill in the middle of it left it behind. One that was acknowledged must be there.
async fn create_namespace(admin: &mut Admin, must_exist: bool) -> Result<bool, String> {
    if must_exist {
        let request = admin::GetNamespaceRequest {
            name: NAMESPACE.into(),
        };
        admin
            .get_namespace(request)
            .await
            .map_err(|status| format!("the namespace is gone: {status}"))?;
        return Ok(true);
    }
    let namespace = admin::Namespace {
        seconds_per_time_slice: Some(6 * 3_600),
        seconds_per_time_bucket: Some(3_600),
        event_buckets: Some(2),
        wide_partition: Some(admin::WidePartition {
            detect_bytes: Some(160 << 10),
            target_bytes: Some(64 << 10),
            // Folders are to be done with soon; kills still find splits under way.
            split_bytes_per_second: Some(1 << 30),
            ..admin::WidePartition::default()
        }),
        ..harness::namespace(NAMESPACE)
    };
    let request = admin::CreateNamespaceRequest {
        namespace: Some(namespace),
    };
    match admin.create_namespace(request).await {
        Ok(_) => Ok(true),
        Err(status) if status.code() == tonic::Code::AlreadyExists => Ok(true),
        Err(status) => Err(format!("the namespace can not be made: {status}")),
    }
}
