//! The embedded engine beside fjall and beside a bare log, in one run.
//!
//! ```text
//! cargo bench -p anabranch-storage --bench engine -- [seconds per measurement, 20] [rounds, 2] [rows/s: only 2.]
//! ```
//!
//! 1. Durable ingest: batches of 100 rows of 36 + 200 bytes, 32 in flight, closed loop. fjall gets a group
//!    committer in front of it: one thread gathers what waits into one write batch and syncs it once, as the
//!    engine does, because fjall alone syncs every batch by itself.
//! 2. Write latency in the open loop, at half of what the engine reached in 1, from the intended start of each
//!    batch, over at least eight flushes; beside it the same groups written to a bare file of zeros with one
//!    fdatasync each, while files of the size of a flushed memtable are written beside it.
//!
//! Variants run in turns; the disk's own fdatasync is measured before each. All use the allocator of the binary. What is
//! measured is the steady state: before each latency run the same load runs for a fifth of the time, so that the
//! engine has made its log segments, as the bare log has.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    reason = "a benchmark: it measures with the real clock, prints, and may stop at the first error"
)]

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anabranch_storage::embedded::engine::{Engine, EngineOptions, Row, SYNC_BUCKETS_MICROS};
use bytes::Bytes;
use hdrhistogram::Histogram;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 100;
const KEY: usize = 36;
const VALUE: usize = 200;
const IN_FLIGHT: usize = 32;

type Done = Box<dyn FnOnce() + Send>;
/// Takes a batch and calls back when it is durable.
type Sink = Arc<dyn Fn(Vec<(Bytes, Bytes)>, Done) + Send + Sync>;

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let seconds = Duration::from_secs(numbers.first().copied().unwrap_or(20));
    let rounds = numbers.get(1).copied().unwrap_or(2);
    let home = tempfile::tempdir().unwrap();
    let pool = Arc::new(Pool::new());
    println!("load before: {}", load());
    println!(
        "rows of {KEY} + {VALUE} bytes in batches of {BATCH}; {} s a measurement, {rounds} rounds",
        seconds.as_secs()
    );

    let rate = match numbers.get(2) {
        Some(rate) => *rate as f64,
        None => ingest(home.path(), &pool, seconds, rounds) / 2.0,
    };
    latency(home.path(), &pool, rate, seconds, rounds);
    println!("load after: {}", load());
}

/// 1. Returns what the engine reached, in rows a second.
fn ingest(home: &Path, pool: &Pool, seconds: Duration, rounds: u64) -> f64 {
    println!("\ndurable ingest, {IN_FLIGHT} batches in flight, closed loop");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        println!("  fdatasync of 4 KiB: {}", floor(home));
        let cpu = cpu_seconds();
        let folder = home.join(format!("engine{round}"));
        let engine = Engine::open(&folder, options()).unwrap().0;
        let rate = closed_loop(&engine_sink(&engine), pool, seconds);
        let stats = engine.stats();
        println!(
            "  engine  {rate:>9.0} rows/s  {:.2} us cpu a row, {} flushes, {} compactions, L0 {}, held back {:.2} s, {}",
            (cpu_seconds() - cpu) * 1e6 / (rate * seconds.as_secs_f64()),
            stats.flushes,
            stats.compactions,
            stats.l0_runs_max,
            stats.held_back_seconds,
            memory()
        );
        ours.push(rate);
        engine.close().unwrap();
        fs::remove_dir_all(&folder).unwrap();

        let cpu = cpu_seconds();
        let folder = home.join(format!("fjall{round}"));
        let rate = {
            let (sink, stop) = fjall_sink(&folder);
            let rate = closed_loop(&sink, pool, seconds);
            stop();
            rate
        };
        println!(
            "  fjall   {rate:>9.0} rows/s  {:.2} us cpu a row, {}",
            (cpu_seconds() - cpu) * 1e6 / (rate * seconds.as_secs_f64()),
            memory()
        );
        theirs.push(rate);
        fs::remove_dir_all(&folder).unwrap();
    }
    let (ours, theirs) = (mean(&ours), mean(&theirs));
    println!(
        "  mean: engine {ours:.0}, fjall {theirs:.0}, ratio {:.2}",
        ours / theirs
    );
    ours
}

/// 2.
fn latency(home: &Path, pool: &Pool, rate: f64, seconds: Duration, rounds: u64) {
    println!("\nwrite latency, open loop at {rate:.0} rows/s, from the intended start");
    println!("  {:<34}{:>8}{:>9}{:>9}{:>9}", "ms", "p50", "p99", "p99.9", "max");
    let mut ratios = Vec::new();
    for round in 0..rounds {
        println!("  fdatasync of 4 KiB: {}", floor(home));
        let folder = home.join(format!("open{round}"));
        let options = options();
        let memtable = options.memtable_bytes;
        let engine = Engine::open(&folder, options).unwrap().0;
        let table_bytes = || engine.stats().table_bytes;
        let sink = engine_sink(&engine);
        let cold = open_loop(&sink, pool, rate, seconds / 5);
        let before = engine.stats();
        let paced = open_loop(&sink, pool, rate, seconds);
        let stats = engine.stats();
        let flushes = stats.flushes - before.flushes;
        print_latency("engine, its first seconds", &cold);
        let flushed = table_bytes();
        print_latency(&format!("engine, {flushes} flushes"), &paced);
        if flushes < 8 {
            println!("  (fewer than 8 flushes: run it longer)");
        }
        println!(
            "    syncs by {SYNC_BUCKETS_MICROS:?} us: {:?}",
            std::array::from_fn::<_, 11, _>(|n| stats.sync_latency[n] - before.sync_latency[n])
        );
        println!(
            "    {} compactions, L0 {}, {} MB in tables, held back {:.2} s, {}",
            stats.compactions,
            stats.l0_runs_max,
            flushed >> 20,
            stats.held_back_seconds,
            memory()
        );
        let every = seconds / u32::try_from(flushes.max(1)).unwrap();
        engine.close().unwrap();
        fs::remove_dir_all(&folder).unwrap();

        let folder = home.join(format!("bare{round}"));
        fs::create_dir(&folder).unwrap();
        for (name, steps) in [
            ("file synced at its end", false),
            ("file synced in steps of 1 MiB", true),
        ] {
            let (sink, stop) = bare_sink(&folder, memtable, every, steps);
            open_loop(&sink, pool, rate, seconds / 5);
            let bare = open_loop(&sink, pool, rate, seconds);
            stop();
            print_latency(&format!("bare log, {name}"), &bare);
            ratios.push((name, ratio(&paced, &bare, 99.0), ratio(&paced, &bare, 99.9)));
        }
        fs::remove_dir_all(&folder).unwrap();
    }
    for (name, p99, p999) in ratios {
        println!("  engine / bare log, {name}: p99 {p99:.2}, p99.9 {p999:.2}");
    }
}

/// The defaults, with a queue that an open loop does not overflow while it is behind.
fn options() -> EngineOptions {
    EngineOptions {
        queue_bytes_max: 1 << 30,
        ..EngineOptions::default()
    }
}

/// Random bytes made once, so that making rows costs little.
struct Pool {
    bytes: Bytes,
    next: AtomicU64,
}

impl Pool {
    fn new() -> Self {
        let mut seed = 1u64;
        let mut bytes = Vec::with_capacity(64 << 20);
        while bytes.len() < 64 << 20 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            // Half of each value compresses.
            bytes.extend(seed.to_be_bytes());
            bytes.extend([7; 8]);
        }
        Self {
            bytes: bytes.into(),
            next: AtomicU64::new(0),
        }
    }

    fn batch(&self) -> Vec<(Bytes, Bytes)> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        // 10,000 ids; a batch belongs to one, its rows ascend in time.
        let id = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 10_000;
        (0..BATCH as u64)
            .map(|k| {
                let mut key = vec![0; KEY];
                key[..16].copy_from_slice(format!("series-{id:09}").as_bytes());
                key[16..24].copy_from_slice(&(n * BATCH as u64 + k).to_be_bytes());
                let at = ((n * 7_919 + k * 331) as usize * 16) % (self.bytes.len() - VALUE);
                (key.into(), self.bytes.slice(at..at + VALUE))
            })
            .collect()
    }
}

fn engine_sink(engine: &Engine) -> Sink {
    let table = engine.create_table("bench").unwrap();
    let engine = engine.clone();
    Arc::new(move |batch, done| {
        let rows = batch
            .into_iter()
            .map(|(key, value)| Row::put(table, key, value))
            .collect();
        engine.write(rows, move |result| {
            result.unwrap();
            done();
        });
    })
}

type Batch = (Vec<(Bytes, Bytes)>, Done);
/// What waits, and whether to stop.
type Waiting = Arc<(Mutex<(VecDeque<Batch>, bool)>, Condvar)>;

/// What waits, up to 4,000 rows; `None` when it was stopped.
fn gather(waiting: &Waiting) -> Option<Vec<Batch>> {
    let (queue, ready) = &**waiting;
    let mut queue = queue.lock().unwrap();
    while queue.0.is_empty() {
        if queue.1 {
            return None;
        }
        queue = ready.wait(queue).unwrap();
    }
    let count = queue.0.len().min(4_000 / BATCH);
    Some(queue.0.drain(..count).collect())
}

fn queue_sink(waiting: &Waiting) -> Sink {
    let waiting = Arc::clone(waiting);
    Arc::new(move |batch, done| {
        waiting.0.lock().unwrap().0.push_back((batch, done));
        waiting.1.notify_one();
    })
}

fn stop(waiting: &Waiting) {
    waiting.0.lock().unwrap().1 = true;
    waiting.1.notify_all();
}

fn fjall_sink(folder: &Path) -> (Sink, impl FnOnce() + use<>) {
    let database = fjall::Database::builder(folder).open().unwrap();
    let keyspace = database
        .keyspace("bench", fjall::KeyspaceCreateOptions::default)
        .unwrap();
    let waiting = Waiting::default();
    let own = Arc::clone(&waiting);
    let committer = thread::spawn(move || {
        while let Some(group) = gather(&own) {
            let mut batch = database.batch().durability(Some(fjall::PersistMode::SyncData));
            let mut answers = Vec::new();
            let mut rows = Vec::new();
            for (some, done) in group {
                rows.extend(some);
                answers.push(done);
            }
            rows.sort();
            for (key, value) in rows {
                batch.insert(&keyspace, &key[..], &value[..]);
            }
            batch.commit().unwrap();
            for done in answers {
                done();
            }
        }
    });
    let end = Arc::clone(&waiting);
    (queue_sink(&waiting), move || {
        stop(&end);
        committer.join().unwrap();
    })
}

/// One pre-written file, the same groups in whole 4 KiB blocks, one fdatasync each, and beside it files of the
/// size of a flushed memtable, as often as the engine flushed.
fn bare_sink(folder: &Path, file_bytes: u64, every: Duration, steps: bool) -> (Sink, impl FnOnce() + use<>) {
    const LOG: u64 = 256 << 20;
    let path = folder.join("log");
    let log = OpenOptions::new()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let zeros = vec![0; 1 << 20];
    for at in (0..LOG).step_by(1 << 20) {
        log.write_all_at(&zeros, at).unwrap();
    }
    log.sync_all().unwrap();
    let waiting = Waiting::default();
    let own = Arc::clone(&waiting);
    let committer = thread::spawn(move || {
        let (mut at, mut frame) = (0, Vec::new());
        while let Some(group) = gather(&own) {
            frame.clear();
            for (batch, _) in &group {
                for (key, value) in batch {
                    frame.extend_from_slice(key);
                    frame.extend_from_slice(value);
                }
            }
            frame.resize(frame.len().next_multiple_of(4_096), 0);
            if at + frame.len() as u64 > LOG {
                at = 0;
            }
            log.write_all_at(&frame, at).unwrap();
            log.sync_data().unwrap();
            at += frame.len() as u64;
            for (_, done) in group {
                done();
            }
        }
    });
    let stopping = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stopping);
    let folder = folder.to_path_buf();
    let flusher = thread::spawn(move || {
        let noise: Vec<u8> = (0..1u32 << 20)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        let mut n = 0;
        while !stopped.load(Ordering::Relaxed) {
            let since = Instant::now();
            let path = folder.join(format!("flush{}", n % 8));
            n += 1;
            let file = File::create(&path).unwrap();
            for at in (0..file_bytes).step_by(1 << 20) {
                file.write_all_at(&noise, at).unwrap();
                if steps {
                    file.sync_data().unwrap();
                    thread::sleep(Duration::from_millis(10));
                }
            }
            file.sync_all().unwrap();
            while since.elapsed() < every && !stopped.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(5));
            }
        }
    });
    let end = Arc::clone(&waiting);
    (queue_sink(&waiting), move || {
        stopping.store(true, Ordering::Relaxed);
        flusher.join().unwrap();
        stop(&end);
        committer.join().unwrap();
    })
}

/// Counts what is in flight.
#[derive(Default)]
struct Gate {
    open: Mutex<usize>,
    changed: Condvar,
}

impl Gate {
    fn enter(&self, max: usize) {
        let mut open = self.open.lock().unwrap();
        while *open >= max {
            open = self.changed.wait(open).unwrap();
        }
        *open += 1;
    }

    fn leave(&self) {
        *self.open.lock().unwrap() -= 1;
        self.changed.notify_all();
    }

    fn wait_empty(&self) {
        let mut open = self.open.lock().unwrap();
        while *open > 0 {
            open = self.changed.wait(open).unwrap();
        }
    }
}

fn closed_loop(sink: &Sink, pool: &Pool, seconds: Duration) -> f64 {
    let gate = Arc::new(Gate::default());
    let since = Instant::now();
    let mut batches = 0u64;
    while since.elapsed() < seconds {
        gate.enter(IN_FLIGHT);
        let left = Arc::clone(&gate);
        sink(pool.batch(), Box::new(move || left.leave()));
        batches += 1;
    }
    gate.wait_empty();
    (batches * BATCH as u64) as f64 / since.elapsed().as_secs_f64()
}

/// An operating system thread sends on time whatever comes back; latency counts from the intended start.
fn open_loop(sink: &Sink, pool: &Pool, rate: f64, seconds: Duration) -> Histogram<u64> {
    let gap = Duration::from_secs_f64(BATCH as f64 / rate);
    let micros = Arc::new(Mutex::new(Histogram::new_with_bounds(1, 60_000_000, 3).unwrap()));
    let gate = Arc::new(Gate::default());
    let since = Instant::now();
    let mut n = 0u32;
    while since.elapsed() < seconds {
        let intended = since + gap * n;
        n += 1;
        if let Some(wait) = intended.checked_duration_since(Instant::now()) {
            thread::sleep(wait);
        }
        let (left, micros) = (Arc::clone(&gate), Arc::clone(&micros));
        gate.enter(usize::MAX);
        sink(
            pool.batch(),
            Box::new(move || {
                micros
                    .lock()
                    .unwrap()
                    .saturating_record(u64::try_from(intended.elapsed().as_micros()).unwrap());
                left.leave();
            }),
        );
    }
    gate.wait_empty();
    micros.lock().unwrap().clone()
}

fn print_latency(name: &str, h: &Histogram<u64>) {
    let ms = |v: u64| v as f64 / 1e3;
    let at = |q| ms(h.value_at_percentile(q));
    println!(
        "  {name:<34}{:>8.2}{:>9.2}{:>9.2}{:>9.2}",
        at(50.0),
        at(99.0),
        at(99.9),
        ms(h.max())
    );
}

fn ratio(a: &Histogram<u64>, b: &Histogram<u64>, q: f64) -> f64 {
    a.value_at_percentile(q) as f64 / b.value_at_percentile(q) as f64
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// One second of overwriting 4 KiB of a written file, one fdatasync each.
fn floor(folder: &Path) -> String {
    let path = folder.join("floor");
    let file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .open(&path)
        .unwrap();
    file.write_all_at(&vec![1; 16 << 20], 0).unwrap();
    file.sync_all().unwrap();
    let mut h = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).unwrap();
    let since = Instant::now();
    let mut n = 0;
    while since.elapsed() < Duration::from_secs(1) {
        let start = Instant::now();
        file.write_all_at(&[n as u8; 4_096], (n % 4_096) * 4_096).unwrap();
        file.sync_data().unwrap();
        h.saturating_record(u64::try_from(start.elapsed().as_micros()).unwrap());
        n += 1;
    }
    fs::remove_file(path).unwrap();
    let ms = |q| h.value_at_percentile(q) as f64 / 1e3;
    format!(
        "{n}/s, p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms",
        ms(50.0),
        ms(99.0),
        ms(99.9)
    )
}

fn load() -> String {
    fs::read_to_string("/proc/loadavg")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn memory() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|l| l.strip_prefix(name));
        line.and_then(|l| l.split_whitespace().next())
            .and_then(|n| n.parse().ok())
            .unwrap_or(0)
            / 1_024
    };
    format!(
        "RSS {} MB, peak so far {} MB (64 MB of it this client's)",
        field("VmRSS:"),
        field("VmHWM:")
    )
}

/// Processor time of this process: all threads, user and system.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or("");
    let ticks: Vec<f64> = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|t| t.parse().ok())
        .collect();
    ticks.iter().sum::<f64>() / 100.0
}
