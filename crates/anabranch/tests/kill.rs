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

mod harness;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anabranch_proto::timeseries::v1 as wire;
use futures::StreamExt;
use harness::made::{Dice, Maker, check_order, mix};
use harness::{Admin, Events, Server, Started};

const NAMESPACE: &str = "kill";
const SYNC_WRITERS: u64 = 6;
const INGEST_WRITERS: u64 = 3;
const QUEUE_WRITERS: u64 = 1;
const READERS: u64 = 2;
const SERIES_A_WRITER: u64 = 3;
const WRITERS: u64 = SYNC_WRITERS + INGEST_WRITERS + QUEUE_WRITERS;
const CYCLES_A_FOLDER: u64 = 8;

/// What is known of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Sent, and nothing certain was heard: it may be there or not.
    Unknown,
    /// Acknowledged as durable, or seen after a restart: it must be there.
    There,
    /// A restart did not have it: it must never come.
    Gone,
}

/// What is known of one series: the fate of its events from 0 on. What is not listed was never sent.
type Known = Arc<Vec<Mutex<Vec<Fate>>>>;

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
}

/// A data folder and what is known of it.
struct Folder {
    place: tempfile::TempDir,
    maker: Maker,
    known: Known,
    namespace_there: bool,
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
            known: Arc::new(
                (0..WRITERS * SERIES_A_WRITER)
                    .map(|_| Mutex::new(Vec::new()))
                    .collect(),
            ),
            namespace_there: false,
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
    // The last kill is checked too, and then a stop that is asked for.
    let result = runtime.block_on(async {
        let server = Started::serve(&folder.data(), &[]).ready()?;
        check_all(&server, &mut folder, &mut totals).await?;
        let status = server.stop();
        if !status.success() {
            return Err(format!("a server that was asked to stop ended with {status}"));
        }
        let server = Started::serve(&folder.data(), &[]).ready()?;
        check_all(&server, &mut folder, &mut totals).await?;
        server.assert_no_panic();
        Ok(())
    });
    if let Err(why) = result {
        panic!(
            "after the last cycle: {why}\nkept: {}",
            folder.place.keep().display()
        );
    }
    println!(
        "kill -9: {} cycles on {} new folders in {:.0?}, {} more kills while starting, {} kills within 1.5 s of a new \
         folder's first start; {} events acked, 0 lost, 0 twice; {} in doubt at a kill, {} of them found; {} events read \
         back in checks, {} reads under load; store files at most {} MiB; refused to open: 0",
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
    );
    assert!(
        totals.acked.load(Ordering::Relaxed) > cycles * 100,
        "the load was no load"
    );
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
    let checked = Instant::now();
    if !fresh {
        check_all(&server, folder, totals).await?;
    }
    let load = Load::start(&server, folder, dice.next()).await;
    // In a new folder the time runs from the start of the process.
    let kill_at = if fresh {
        from + delay
    } else {
        Instant::now() + delay
    };
    let _ = checked;
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
        let request = anabranch_proto::admin::v1::GetNamespaceRequest {
            name: NAMESPACE.into(),
        };
        admin
            .get_namespace(request)
            .await
            .map_err(|status| format!("the namespace is gone: {status}"))?;
        return Ok(true);
    }
    let namespace = anabranch_proto::admin::v1::Namespace {
        seconds_per_time_slice: Some(6 * 3_600),
        seconds_per_time_bucket: Some(3_600),
        event_buckets: Some(2),
        ..harness::namespace(NAMESPACE)
    };
    let request = anabranch_proto::admin::v1::CreateNamespaceRequest {
        namespace: Some(namespace),
    };
    match admin.create_namespace(request).await {
        Ok(_) => Ok(true),
        Err(status) if status.code() == tonic::Code::AlreadyExists => Ok(true),
        Err(status) => Err(format!("the namespace can not be made: {status}")),
    }
}

/// Reads every series, both ways, and folds what is found into what is known.
async fn check_all(server: &Server, folder: &mut Folder, totals: &mut Totals) -> Result<(), String> {
    let client = server.events().await;
    let (maker, known) = (folder.maker, folder.known.clone());
    let results: Vec<Result<(u64, u64), String>> = futures::stream::iter(0..known.len() as u64)
        .map(|series| {
            let (client, known) = (client.clone(), known.clone());
            async move { check_series(client, maker, series, &known[usize::try_from(series).unwrap()]).await }
        })
        .buffer_unordered(8)
        .collect()
        .await;
    for result in results {
        let (returned, found) = result?;
        totals.checked += returned;
        totals.unknown_found += found;
    }
    Ok(())
}

async fn check_series(
    mut client: Events,
    maker: Maker,
    series: u64,
    known: &Mutex<Vec<Fate>>,
) -> Result<(u64, u64), String> {
    let newest_first = read_series(&mut client, maker, series, false, 1_000).await?;
    let mut oldest_first = read_series(&mut client, maker, series, true, 777).await?;
    oldest_first.reverse();
    if newest_first != oldest_first {
        return Err(format!(
            "series {series}: {} events one way, {} the other",
            newest_first.len(),
            oldest_first.len()
        ));
    }
    let mut known = known.lock().unwrap();
    let mut there = vec![false; known.len()];
    for &n in &newest_first {
        let fate = usize::try_from(n).ok().and_then(|n| known.get(n).copied());
        match fate {
            None => return Err(format!("series {series}: event {n} was never sent")),
            Some(Fate::Gone) => {
                return Err(format!(
                    "series {series}: event {n} was gone after an earlier restart"
                ));
            }
            Some(Fate::Unknown | Fate::There) => there[usize::try_from(n).unwrap()] = true,
        }
    }
    let mut found = 0;
    for (n, (fate, there)) in known.iter_mut().zip(there).enumerate() {
        match (*fate, there) {
            (Fate::There, false) => return Err(format!("series {series}: acked event {n} is lost")),
            (Fate::Unknown, true) => {
                *fate = Fate::There;
                found += 1;
            }
            (Fate::Unknown, false) => *fate = Fate::Gone,
            (Fate::There, true) | (Fate::Gone, _) => {}
        }
    }
    Ok((newest_first.len() as u64, found))
}

/// The numbers of a series' events, after every byte and their order was checked.
async fn read_series(
    client: &mut Events,
    maker: Maker,
    series: u64,
    ascending: bool,
    page_size: i32,
) -> Result<Vec<u64>, String> {
    let direction = if ascending {
        wire::Direction::Ascending
    } else {
        wire::Direction::Descending
    };
    let request = wire::ReadEventRecordsRequest {
        namespace: NAMESPACE.into(),
        time_series_id: maker.series(series),
        direction: direction.into(),
        page_size,
        latency_slo: Some(harness::duration(30)),
        ..wire::ReadEventRecordsRequest::default()
    };
    let records = harness::walk(client, request)
        .await
        .map_err(|status| format!("series {series}: {status}"))?;
    check_order(&records, ascending).map_err(|why| format!("series {series}: {why}"))?;
    records
        .iter()
        .map(|record| maker.number(series, record))
        .collect()
}

/// Writers and readers that run until the server is gone.
struct Load {
    tasks: tokio::task::JoinSet<Result<(), String>>,
    counts: Arc<Counts>,
    known: Known,
}

#[derive(Default)]
struct Counts {
    acked: AtomicU64,
    reads: AtomicU64,
}

impl Load {
    async fn start(server: &Server, folder: &Folder, seed: u64) -> Self {
        let counts = Arc::new(Counts::default());
        let mut tasks = tokio::task::JoinSet::new();
        let maker = folder.maker;
        for writer in 0..WRITERS {
            let client = server.events().await;
            let work = Work {
                client,
                maker,
                known: folder.known.clone(),
                counts: counts.clone(),
                dice: Dice::new(mix(&[seed, writer])),
                series: (writer * SERIES_A_WRITER..(writer + 1) * SERIES_A_WRITER).collect(),
            };
            if writer < SYNC_WRITERS {
                tasks.spawn(work.sync());
            } else if writer < SYNC_WRITERS + INGEST_WRITERS {
                tasks.spawn(work.ingest());
            } else {
                tasks.spawn(work.queued());
            }
        }
        for reader in 0..READERS {
            let work = Work {
                client: server.events().await,
                maker,
                known: folder.known.clone(),
                counts: counts.clone(),
                dice: Dice::new(mix(&[seed, 1_000 + reader])),
                series: (0..folder.known.len() as u64).collect(),
            };
            tasks.spawn(work.read());
        }
        Self {
            tasks,
            counts,
            known: folder.known.clone(),
        }
    }

    async fn stop(mut self, totals: &Totals) -> Result<(), String> {
        let ends = async {
            while let Some(end) = self.tasks.join_next().await {
                end.map_err(|error| error.to_string())??;
            }
            Ok::<(), String>(())
        };
        tokio::time::timeout(Duration::from_secs(30), ends)
            .await
            .map_err(|_| "a call that never ends though its server is gone".to_owned())??;
        totals
            .acked
            .fetch_add(self.counts.acked.load(Ordering::Relaxed), Ordering::Relaxed);
        totals
            .live_reads
            .fetch_add(self.counts.reads.load(Ordering::Relaxed), Ordering::Relaxed);
        let in_doubt = |known: &Mutex<Vec<Fate>>| {
            known
                .lock()
                .unwrap()
                .iter()
                .filter(|&&fate| fate == Fate::Unknown)
                .count() as u64
        };
        totals
            .unknown
            .fetch_add(self.known.iter().map(in_doubt).sum(), Ordering::Relaxed);
        Ok(())
    }
}

struct Work {
    client: Events,
    maker: Maker,
    known: Known,
    counts: Arc<Counts>,
    dice: Dice,
    series: Vec<u64>,
}

/// Events of a write: which, and as they are sent.
type Batch = (Vec<(u64, usize)>, Vec<wire::EventRecord>);

/// Batches of a stream without an answer: their events, and how many were sent.
type Waiting = BTreeMap<String, (Vec<(u64, usize)>, usize)>;

impl Work {
    /// New events of one or several series, marked as sent; now and then some that are there already.
    fn batch(&mut self) -> Batch {
        let (mut numbers, mut events) = (Vec::new(), Vec::new());
        for _ in 0..1 + self.dice.below(2) {
            let series = *self.dice.pick(&self.series);
            let count = 1 + self.dice.below(40);
            let mut known = self.known[usize::try_from(series).unwrap()].lock().unwrap();
            if !known.is_empty() && self.dice.below(8) == 0 {
                // Writing what is there changes nothing (W2). Only what is certain: the rest must stay in doubt.
                let n = usize::try_from(self.dice.below(known.len() as u64)).unwrap();
                if known[n] == Fate::There {
                    events.push(self.maker.event(series, n as u64));
                }
            }
            for _ in 0..count {
                let n = known.len();
                known.push(Fate::Unknown);
                numbers.push((series, n));
                events.push(self.maker.event(series, n as u64));
            }
        }
        (numbers, events)
    }

    fn acked(&self, numbers: &[(u64, usize)]) {
        for &(series, n) in numbers {
            self.known[usize::try_from(series).unwrap()].lock().unwrap()[n] = Fate::There;
        }
        self.counts
            .acked
            .fetch_add(numbers.len() as u64, Ordering::Relaxed);
    }

    async fn sync(mut self) -> Result<(), String> {
        loop {
            let (numbers, events) = self.batch();
            let sent = events.len();
            let request = wire::WriteEventRecordsSyncRequest {
                namespace: NAMESPACE.into(),
                events,
            };
            match self.client.write_event_records_sync(request).await {
                Ok(answer) => {
                    let written = answer.into_inner().written;
                    if usize::try_from(written) != Ok(sent) {
                        return Err(format!("{written} of {sent} written"));
                    }
                    self.acked(&numbers);
                }
                Err(status) => {
                    if ends(&status)? {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn queued(mut self) -> Result<(), String> {
        loop {
            // Queued events stay in doubt: they may be lost in a crash.
            let (_, events) = self.batch();
            let request = wire::WriteEventRecordsRequest {
                namespace: NAMESPACE.into(),
                events,
            };
            if let Err(status) = self.client.write_event_records(request).await
                && ends(&status)?
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(self.dice.below(20))).await;
        }
    }

    async fn ingest(mut self) -> Result<(), String> {
        let (send, receive) = tokio::sync::mpsc::channel(1);
        let batches = tokio_stream::wrappers::ReceiverStream::new(receive);
        let mut client = self.client.clone();
        let mut waiting = Waiting::new();
        let mut next = 0_u64;
        // The first batch goes ahead of the call: a server may answer nothing before it has one.
        let first = self.send_batch(&send, &mut waiting, &mut next).await;
        debug_assert!(first);
        let mut answers = match client.ingest_event_records(batches).await {
            Ok(answers) => answers.into_inner(),
            Err(status) => return ends(&status).map(|_| ()),
        };
        loop {
            while waiting.len() < 8 {
                if !self.send_batch(&send, &mut waiting, &mut next).await {
                    break;
                }
            }
            match answers.message().await {
                Ok(None) => return Ok(()),
                Err(status) => return ends(&status).map(|_| ()),
                Ok(Some(answer)) => {
                    let Some((numbers, sent)) = waiting.remove(&answer.batch_id) else {
                        return Err(format!(
                            "an answer to batch `{}`, which is not in flight",
                            answer.batch_id
                        ));
                    };
                    match answer.status {
                        None if usize::try_from(answer.written) == Ok(sent) => self.acked(&numbers),
                        None => return Err(format!("{} of {sent} written", answer.written)),
                        // In doubt, as any failed write.
                        Some(status) => {
                            if status.code == i32::from(tonic::Code::Internal) {
                                return Err(format!("a batch failed: {status:?}"));
                            }
                        }
                    }
                }
            }
        }
    }

    async fn send_batch(
        &mut self,
        send: &tokio::sync::mpsc::Sender<wire::IngestEventRecordsRequest>,
        waiting: &mut Waiting,
        next: &mut u64,
    ) -> bool {
        let (numbers, events) = self.batch();
        let batch_id = format!("batch {next}");
        *next += 1;
        waiting.insert(batch_id.clone(), (numbers, events.len()));
        send.send(wire::IngestEventRecordsRequest {
            namespace: NAMESPACE.into(),
            batch_id,
            events,
        })
        .await
        .is_ok()
    }

    async fn read(mut self) -> Result<(), String> {
        loop {
            let series = *self.dice.pick(&self.series);
            // Whatever is certain before the read begins has to be on it.
            let before: Vec<usize> = {
                let known = self.known[usize::try_from(series).unwrap()].lock().unwrap();
                known
                    .iter()
                    .enumerate()
                    .filter(|(_, fate)| **fate == Fate::There)
                    .map(|(n, _)| n)
                    .collect()
            };
            let ascending = self.dice.below(2) == 0;
            let page_size = *self.dice.pick(&[3_i32, 50, 1_000]);
            if page_size == 3 && before.len() > 300 {
                continue;
            }
            match read_series(&mut self.client, self.maker, series, ascending, page_size).await {
                Ok(mut returned) => {
                    returned.sort_unstable();
                    if let Some(lost) = before
                        .iter()
                        .find(|n| returned.binary_search(&(**n as u64)).is_err())
                    {
                        return Err(format!(
                            "series {series}: acked event {lost} is not on a read that began later"
                        ));
                    }
                    self.counts.reads.fetch_add(1, Ordering::Relaxed);
                }
                // Broken rules say so; everything else is the server going away.
                Err(why) if why.contains("out of order") || why.contains("an event") => return Err(why),
                Err(why) if why.contains("INTERNAL") || why.contains("UNKNOWN:") => return Err(why),
                Err(_) => return Ok(()),
            }
        }
    }
}

/// True when the connection is gone; false when the server refuses for now. Anything else that a server says is wrong.
fn ends(status: &tonic::Status) -> Result<bool, String> {
    match harness::reason(status).as_deref() {
        None => Ok(true),
        Some("SERVER_OVERLOADED" | "STORE_OVERLOADED" | "WRITE_QUEUE_FULL" | "DEADLINE_EXCEEDED") => {
            Ok(false)
        }
        Some("SERVER_DRAINING" | "STORE_UNREACHABLE" | "STORE_OUTCOME_UNKNOWN" | "WRITE_PARTLY_FAILED") => {
            Ok(true)
        }
        Some(_) => Err(format!("a write failed: {status:?}")),
    }
}
