//! One flipped bit, anywhere in the data folder.
//!
//! Two folders with every kind of file are made: one was closed, one was killed. Then, position by position: copy the
//! folder, flip one bit, open, read every row of every table both ways, close, open and read again. The only right
//! outcomes are *the same rows as were written*, or *an error that names the flipped file*. A wrong byte, a missing row,
//! or a process that ends without naming the file is a failure.
//!
//! The sweep runs on the engine with small segments and memtables (the code is the same, the files are just shorter), in
//! child processes, because damage met in the background ends a process on purpose. A sample runs through the real
//! binary.
//!
//! `ANABRANCH_FLIPS` says how many positions (2,000), `ANABRANCH_FLIPS_BINARY` how many of the real binary (24).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, reports on stdout, and runs real processes in real time"
)]

mod harness;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anabranch_proto::timeseries::v1 as wire;
use anabranch_storage::embedded::engine::{Engine, EngineError, EngineOptions, Row};
use harness::made::{Dice, Maker, check_order, mix};
use harness::{Server, Started};

/// Set for child processes: what to do, and where.
const JOB: &str = "ANABRANCH_BITFLIP_JOB";
const TABLES: [&str; 3] = ["n.data_wide", "n.data_other", "records"];
const SEED: u64 = 0xb17f_1195;

/// Rows of every table, as they were written.
type Truth = BTreeMap<&'static str, BTreeMap<Vec<u8>, Vec<u8>>>;

/// Table, key, value.
type TableRow = (&'static str, Vec<u8>, Vec<u8>);

/// The commits that make the folder, the same each time.
fn commits() -> Vec<Vec<TableRow>> {
    let mut dice = Dice::new(SEED);
    (0..900)
        .map(|_| {
            let rows = 1 + dice.below(16);
            (0..rows)
                .map(|_| {
                    let table = TABLES[[0, 0, 0, 0, 0, 0, 1, 2][usize::try_from(dice.below(8)).unwrap()]];
                    // Few enough keys that some are overwritten, so that old versions lie about in files.
                    let key = format!("{table}/{:08}", dice.below(6_000)).into_bytes();
                    let length = usize::try_from(20 + dice.below(2_400)).unwrap();
                    (table, key, dice.bytes(length))
                })
                .collect()
        })
        .collect()
}

fn truth() -> Truth {
    let mut truth: Truth = TABLES.iter().map(|&table| (table, BTreeMap::new())).collect();
    for (table, key, value) in commits().into_iter().flatten() {
        truth.get_mut(table).unwrap().insert(key, value);
    }
    truth
}

/// Makes the folder, and says so on stdout once all of it is acknowledged.
fn build(folder: &Path, close: bool) {
    let (engine, report) = Engine::open(folder, EngineOptions::small()).unwrap();
    assert!(report.created);
    let ids: BTreeMap<_, _> = TABLES
        .iter()
        .map(|&table| (table, engine.create_table(table).unwrap()))
        .collect();
    let commits = commits();
    let last = commits.len() - 30;
    for (number, commit) in commits.into_iter().enumerate() {
        if number == last {
            // Flush and compaction come to rest; what follows is in the log alone.
            std::thread::sleep(Duration::from_secs(2));
        }
        let rows = commit
            .into_iter()
            .map(|(table, key, value)| Row::put(ids[table], key, value));
        engine.commit_blocking(rows.collect()).unwrap();
    }
    if close {
        engine.close().unwrap();
        println!("BUILT");
        return;
    }
    println!("BUILT");
    std::io::stdout().flush().unwrap();
    // Until it is killed.
    std::thread::sleep(Duration::from_secs(600));
}

/// What became of one position.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Harmless,
    RefusedAtOpen,
    ErrorAtRead,
    /// The process ended by itself, after it had named the file.
    EndedNamingIt,
    /// Anything that may not be.
    Wrong(String),
}

/// An error and its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

fn open_and_read(folder: &Path, truth: &Truth) -> Result<Result<(), String>, (bool, EngineError)> {
    let (engine, _) = Engine::open(folder, EngineOptions::small()).map_err(|error| (true, error))?;
    let result = read_all(&engine, truth).map_err(|error| (false, error));
    engine.close().map_err(|error| (false, error))?;
    result
}

/// Every row of every table, both ways and some by key; the inner error is a silent one.
fn read_all(engine: &Engine, truth: &Truth) -> Result<Result<(), String>, EngineError> {
    for (table, rows) in truth {
        let Some(id) = engine.table(table) else {
            return Ok(Err(format!("table {table} is gone")));
        };
        let snapshot = engine.snapshot(id)?;
        let mut expected = rows.iter();
        for row in snapshot.range(Bound::Unbounded, Bound::Unbounded) {
            let (key, value) = row?;
            if expected.next() != Some((&key.to_vec(), &value.to_vec())) {
                return Ok(Err(format!(
                    "{table}: wrong row at {:?}",
                    String::from_utf8_lossy(&key)
                )));
            }
        }
        if let Some((key, _)) = expected.next() {
            return Ok(Err(format!(
                "{table}: {:?} is missing",
                String::from_utf8_lossy(key)
            )));
        }
        let mut expected = rows.iter().rev();
        for row in snapshot.range(Bound::Unbounded, Bound::Unbounded).rev() {
            let (key, value) = row?;
            if expected.next() != Some((&key.to_vec(), &value.to_vec())) {
                return Ok(Err(format!(
                    "{table}: wrong row at {:?}, backwards",
                    String::from_utf8_lossy(&key)
                )));
            }
        }
        if expected.next().is_some() {
            return Ok(Err(format!("{table}: a row is missing, backwards")));
        }
        for (key, value) in rows.iter().step_by(97) {
            if snapshot.get(key)?.as_deref() != Some(value.as_slice()) {
                return Ok(Err(format!(
                    "{table}: wrong or missing value of {:?}",
                    String::from_utf8_lossy(key)
                )));
            }
        }
    }
    Ok(Ok(()))
}

fn flip(file: &Path, byte: u64, bit: u8) {
    let mut bytes = fs::read(file).unwrap();
    bytes[usize::try_from(byte).unwrap()] ^= 1 << bit;
    fs::write(file, bytes).unwrap();
}

/// True when a message names a file of a folder.
fn names(message: &str, file: &Path) -> bool {
    message.contains(file.to_str().unwrap())
}

fn one_flip(template: &Path, work: &Path, position: &Position, truth: &Truth) -> Outcome {
    let _ = fs::remove_dir_all(work);
    harness::copy_folder(template, work);
    flip(&work.join(&position.file), position.byte, position.bit);
    for _ in 0..2 {
        match open_and_read(work, truth) {
            Ok(Ok(())) => {}
            Ok(Err(silent)) => return Outcome::Wrong(format!("SILENT: {silent}")),
            Err((at_open, error)) => {
                let message = chain(&error);
                return match (names(&message, &work.join(&position.file)), at_open) {
                    (false, _) => Outcome::Wrong(format!("does not name the file: {message}")),
                    (true, true) => Outcome::RefusedAtOpen,
                    (true, false) => Outcome::ErrorAtRead,
                };
            }
        }
    }
    Outcome::Harmless
}

/// One bit of one file.
#[derive(Clone, Debug)]
struct Position {
    file: PathBuf,
    byte: u64,
    bit: u8,
}

impl Position {
    fn to_line(&self) -> String {
        format!("{}\t{}\t{}", self.file.display(), self.byte, self.bit)
    }

    fn of_line(line: &str) -> Self {
        let parts: Vec<_> = line.split('\t').collect();
        Self {
            file: parts[0].into(),
            byte: parts[1].parse().unwrap(),
            bit: parts[2].parse().unwrap(),
        }
    }
}

/// The kind of a file: its path with the numbers left out.
fn kind(file: &Path) -> String {
    let mut kind = String::new();
    for character in file.to_str().unwrap().chars() {
        match character {
            '0'..='9' if kind.ends_with('#') => {}
            '0'..='9' => kind.push('#'),
            other => kind.push(other),
        }
    }
    kind
}

/// Positions, the same number for each kind of file, in the part of each file that was ever written.
fn positions(folder: &Path, count: u64, dice: &mut Dice) -> Vec<Position> {
    let mut kinds: BTreeMap<String, Vec<(PathBuf, u64)>> = BTreeMap::new();
    for file in harness::files(folder) {
        let bytes = fs::read(folder.join(&file)).unwrap();
        // Segments are written ahead of need: almost all flips in the rest would prove nothing.
        let used = bytes
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(bytes.len(), |last| (last + 64).min(bytes.len()));
        let of_kind = kinds.entry(kind(&file)).or_default();
        if used > 0 {
            of_kind.push((file, used as u64));
        }
    }
    println!(
        "  kinds: {:?}",
        kinds
            .iter()
            .map(|(kind, files)| (kind.as_str(), files.len()))
            .collect::<Vec<_>>()
    );
    kinds.retain(|_, files| !files.is_empty());
    let each = count.div_ceil(kinds.len() as u64);
    let mut positions = Vec::new();
    for files in kinds.values() {
        for _ in 0..each {
            let (file, used) = dice.pick(files);
            // Heads and ends of files hold what describes the rest: one in four falls there.
            let byte = match dice.below(8) {
                0 => dice.below((*used).min(256)),
                1 => used - 1 - dice.below((*used).min(256)),
                _ => dice.below(*used),
            };
            positions.push(Position {
                file: file.clone(),
                byte,
                bit: u8::try_from(dice.below(8)).unwrap(),
            });
        }
    }
    positions
}

/// What child processes do; nothing without a job.
#[test]
#[ignore = "run by the other tests, as a process of its own"]
fn child() {
    let Ok(job) = std::env::var(JOB) else { return };
    // As the binary does: an engine that gives up says why in the log.
    anabranch_runtime::telemetry::start_logs("warn").unwrap();
    let parts: Vec<_> = job.split('\n').collect();
    match parts[..] {
        ["build", folder, close] => build(Path::new(folder), close == "close"),
        ["flip", template, work, list] => {
            let truth = truth();
            for line in BufReader::new(fs::File::open(list).unwrap()).lines() {
                let line = line.unwrap();
                println!("\nTRY\t{line}");
                std::io::stdout().flush().unwrap();
                let outcome = one_flip(
                    Path::new(template),
                    Path::new(work),
                    &Position::of_line(&line),
                    &truth,
                );
                let text = match outcome {
                    Outcome::Harmless => "harmless".to_owned(),
                    Outcome::RefusedAtOpen => "open".to_owned(),
                    Outcome::ErrorAtRead => "read".to_owned(),
                    Outcome::EndedNamingIt => unreachable!(),
                    Outcome::Wrong(why) => format!("wrong {}", why.replace('\n', " ")),
                };
                println!("\nGOT\t{text}");
                std::io::stdout().flush().unwrap();
            }
        }
        _ => panic!("not a job: {job}"),
    }
}

fn child_process(job: &[&str], stderr: &Path) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture", "--test-threads=1"])
        .env(JOB, job.join("\n"))
        .env("ANABRANCH_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::from(fs::File::create(stderr).unwrap()))
        .spawn()
        .unwrap()
}

fn make_template(place: &Path, name: &str) -> PathBuf {
    let folder = place.join(name);
    let stderr = place.join("build.log");
    let mut child = child_process(&["build", folder.to_str().unwrap(), name], &stderr);
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let built = lines.any(|line| line.ends_with("BUILT"));
    assert!(
        built,
        "the folder was not made: {}",
        fs::read_to_string(stderr).unwrap()
    );
    if name == "close" {
        for _ in lines.by_ref() {}
    } else {
        child.kill().unwrap();
    }
    child.wait().unwrap();
    folder
}

/// Runs all positions in child processes, and starts another one when a child ended.
fn sweep(place: &Path, template: &Path, positions: &[Position]) -> Vec<(Position, Outcome)> {
    let (work, list, stderr) = (place.join("work"), place.join("list"), place.join("child.log"));
    let mut results: Vec<(Position, Outcome)> = Vec::new();
    while results.len() < positions.len() {
        harness::write_lines(&list, positions[results.len()..].iter().map(Position::to_line));
        let job = [
            "flip",
            template.to_str().unwrap(),
            work.to_str().unwrap(),
            list.to_str().unwrap(),
        ];
        let mut child = child_process(&job, &stderr);
        let mut tried = None;
        for line in BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok)
        {
            if let Some(position) = line.strip_prefix("TRY\t") {
                tried = Some(Position::of_line(position));
            } else if let Some(text) = line.strip_prefix("GOT\t") {
                let outcome = match text {
                    "harmless" => Outcome::Harmless,
                    "open" => Outcome::RefusedAtOpen,
                    "read" => Outcome::ErrorAtRead,
                    wrong => Outcome::Wrong(wrong.to_owned()),
                };
                results.push((tried.take().unwrap(), outcome));
            }
        }
        let status = child.wait().unwrap();
        if let Some(position) = tried {
            let said = fs::read_to_string(&stderr).unwrap();
            let outcome = if said.contains("panicked") {
                Outcome::Wrong(format!("panicked: {said}"))
            } else if names(&said, &work.join(&position.file)) {
                Outcome::EndedNamingIt
            } else {
                Outcome::Wrong(format!("ended with {status} and did not name the file: {said}"))
            };
            results.push((position, outcome));
        } else {
            assert!(
                results.len() == positions.len(),
                "a child ended early: {}",
                fs::read_to_string(&stderr).unwrap()
            );
        }
    }
    results
}

/// What the closing table counts for one kind of file.
#[derive(Default)]
struct Row4([u64; 5]);

#[test]
fn a_flipped_bit_is_harmless_or_named() {
    let flips = harness::number("ANABRANCH_FLIPS", 2_000);
    // In memory when there is such a place: each position is a copy of the folder.
    let shm = Path::new("/dev/shm");
    let builder = tempfile::Builder::new().prefix("anabranch-bitflip-").to_owned();
    let place = if shm.is_dir() {
        builder.tempdir_in(shm)
    } else {
        builder.tempdir()
    }
    .unwrap();
    let since = Instant::now();
    let mut dice = Dice::new(mix(&[SEED, harness::number("ANABRANCH_SEED", 1)]));
    let mut table: BTreeMap<String, Row4> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut total = 0;
    for (name, shown) in [("close", "closed"), ("kill", "killed")] {
        let template = make_template(place.path(), name);
        let size: u64 = harness::files(&template)
            .iter()
            .map(|file| template.join(file).metadata().unwrap().len())
            .sum();
        println!(
            "{shown} folder: {} files, {} KiB",
            harness::files(&template).len(),
            size >> 10
        );
        // The check has to pass on the folder as it is, and to notice a truth that is not the folder's.
        let untouched = place.path().join("untouched");
        harness::copy_folder(&template, &untouched);
        assert_eq!(open_and_read(&untouched, &truth()).unwrap(), Ok(()), "{shown}");
        let mut other = truth();
        other.get_mut(TABLES[0]).unwrap().values_mut().last().unwrap()[0] ^= 1;
        assert!(
            open_and_read(&untouched, &other).unwrap().is_err(),
            "a check that can not fail"
        );
        let _ = fs::remove_dir_all(&untouched);

        let positions = positions(&template, flips.div_ceil(2), &mut dice);
        let parts = 2;
        let results: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = positions
                .chunks(positions.len().div_ceil(parts))
                .enumerate()
                .map(|(part, chunk)| {
                    let (place, template) = (place.path().join(format!("{name}-{part}")), &template);
                    fs::create_dir_all(&place).unwrap();
                    scope.spawn(move || sweep(&place, template, chunk))
                })
                .collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().unwrap())
                .collect()
        });
        for (position, outcome) in results {
            total += 1;
            let row = table.entry(kind(&position.file)).or_default();
            let column = match &outcome {
                Outcome::Harmless => 0,
                Outcome::RefusedAtOpen => 1,
                Outcome::ErrorAtRead => 2,
                Outcome::EndedNamingIt => 3,
                Outcome::Wrong(why) => {
                    wrong.push(format!("{shown} {position:?}: {why}"));
                    4
                }
            };
            row.0[column] += 1;
        }
    }
    println!("{total} flipped bits in {:.0?}:", since.elapsed());
    println!(
        "{:<28}{:>10}{:>10}{:>10}{:>10}{:>10}",
        "file", "harmless", "at open", "at read", "ended", "WRONG"
    );
    for (kind, Row4(counts)) in &table {
        print!("{kind:<28}");
        for count in counts {
            print!("{count:>10}");
        }
        println!();
    }
    for why in wrong.iter().filter(|why| !why.contains("current\"")).take(40) {
        println!("{why}");
    }
    assert!(
        wrong.is_empty(),
        "{} of {total} flips were neither harmless nor named",
        wrong.len()
    );
    for file in ["log/#.seg", "log/low", "tables", "trees/#/tables/#"] {
        assert!(
            table.contains_key(file),
            "no file of kind {file} in {:?}",
            table.keys()
        );
    }
}

/// The same through the binary: it does not start and names the file, or a read does, or every event is right.
#[test]
fn the_binary_names_a_damaged_file() {
    const NAMESPACE: &str = "flip";
    const SERIES: u64 = 4;
    const EVENTS: u64 = 1_500;
    let flips = harness::number("ANABRANCH_FLIPS_BINARY", 24);
    let place = harness::folder("bitflip-binary");
    let maker = Maker {
        seed: SEED,
        start_micros: 1_767_571_200_000_000,
        step_micros: 60_000_000,
        an_instant: 2,
        value_bytes_max: 20_000,
    };
    let runtime = harness::runtime();
    let data = place.path().join("data");
    let server = Server::start(&data);
    runtime.block_on(async {
        harness::create(&mut server.admin().await, harness::namespace(NAMESPACE)).await;
        let mut client = server.events().await;
        for series in 0..SERIES {
            for start in (0..EVENTS).step_by(100) {
                let events = (start..start + 100).map(|n| maker.event(series, n)).collect();
                let request = wire::WriteEventRecordsSyncRequest {
                    namespace: NAMESPACE.into(),
                    events,
                };
                client.write_event_records_sync(request).await.unwrap();
            }
        }
    });
    server.kill();

    let mut dice = Dice::new(SEED);
    let mut outcomes: BTreeMap<&str, u64> = BTreeMap::new();
    let mut wrong = Vec::new();
    for position in positions(&data, flips, &mut dice)
        .into_iter()
        .take(usize::try_from(flips).unwrap())
    {
        let case = place.path().join("case");
        let _ = fs::remove_dir_all(&case);
        harness::copy_folder(&data, &case.join("data"));
        flip(
            &case.join("data").join(&position.file),
            position.byte,
            position.bit,
        );
        let outcome = match Started::serve(&case.join("data"), &[]).ready() {
            Err(why) if why.contains("panicked") => Err(why),
            Err(why) if names(&why, &position.file) => Ok("did not start, named the file"),
            Err(why) => Err(format!("does not name the file: {why}")),
            Ok(server) => {
                let read = runtime.block_on(read_events(&server, maker, NAMESPACE, SERIES, EVENTS));
                let log = server.log();
                match read {
                    Ok(()) => Ok("harmless"),
                    Err(why) if log.contains("panicked") => Err(format!("{why}; {log}")),
                    Err(why) if why.starts_with("SILENT") => Err(why),
                    Err(why) if names(&why, &position.file) || names(&log, &position.file) => {
                        Ok("failed to read, named the file")
                    }
                    Err(why) => Err(format!("does not name the file: {why}; {log}")),
                }
            }
        };
        match outcome {
            Ok(outcome) => *outcomes.entry(outcome).or_default() += 1,
            Err(why) => wrong.push(format!("{position:?}: {why}")),
        }
    }
    println!("real binary: {outcomes:?}, wrong {}", wrong.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

async fn read_events(
    server: &Server,
    maker: Maker,
    namespace: &str,
    series: u64,
    events: u64,
) -> Result<(), String> {
    let mut client = server.events().await;
    for series in 0..series {
        let request = wire::ReadEventRecordsRequest {
            namespace: namespace.into(),
            time_series_id: maker.series(series),
            latency_slo: Some(harness::duration(30)),
            ..wire::ReadEventRecordsRequest::default()
        };
        let records = harness::walk(&mut client, request)
            .await
            .map_err(|status| format!("{status:?}"))?;
        check_order(&records, false).map_err(|why| format!("SILENT: {why}"))?;
        for record in &records {
            maker
                .number(series, record)
                .map_err(|why| format!("SILENT: {why}"))?;
        }
        if records.len() as u64 != events {
            return Err(format!("SILENT: {} of {events} events", records.len()));
        }
    }
    Ok(())
}
