//! One store for the whole world, and the way to it of each process: slow, failing, and at times unsure.
//!
//! ```text
//! process ─▶ FaultyStore: pause? ─▶ delay ─▶ fate ─▶ MemoryStore ─▶ delay ─▶ pause? ─▶ answer
//!                                              ├─ refused   nothing happened, and it says so
//!                                              ├─ lost      nothing happened, and nobody says so
//!                                              ├─ unsure    it happened, and nobody says so
//!                                              └─ late      an append that happens after the answer was given up on
//! ```
//!
//! - Every call lets others run, so calls of different processes interleave.
//! - An append is applied within [`Disk::write_max`] of being asked for, or never: the bound that a real store's driver
//!   keeps, and on which freezes and removals rely. All other calls may hang for as long as their process is paused.
//! - A process that is killed drops its calls where they stand: applied or not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anabranch_model::{Direction, PartitionKey, SliceName, TimeSeriesId};
use anabranch_runtime::Tasks;
use anabranch_split::SplitRecord;
use anabranch_storage::memory::MemoryStore;
use anabranch_storage::{
    AppendFailure, CasOutcome, EventStore, PartitionAppend, RecordKey, RecordPrefix, RecordStore, ScanPage,
    ScanRequest, StoreError, TableKind, TableName, VersionedRecord,
};
use async_trait::async_trait;
use bytes::Bytes;

use crate::actors::damage::spoil;
use crate::clock::{SimClock, sleep};
use crate::conduct::Conduct;
use crate::dice::Dice;
use crate::scenario::{REQUEST_MAX, Scenario};
use crate::trace::Trace;

/// The store of a world, with what everybody's way to it has in common.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) memory: Arc<MemoryStore>,
    pub(crate) trace: Trace,
    /// Failing calls in a thousand.
    pub(crate) failing: AtomicU32,
    /// No append is applied later than this after it was asked for.
    pub(crate) write_max: Duration,
    /// Processes fall asleep in the middle of a call, once in a while.
    sleepy: bool,
    /// An append may be applied after its answer was given up on: not so where the store is in the process.
    remote: bool,
    short_pages: bool,
    /// What is written to targets is at times not what was to be written.
    damage: bool,
    /// Appends that nobody waits for any more.
    pub(crate) late: Tasks,
    slices_made: Mutex<BTreeMap<SliceName, Duration>>,
    conduct: Conduct,
}

impl Disk {
    pub(crate) fn new(trace: Trace, scenario: &Scenario) -> Self {
        Self {
            memory: Arc::new(MemoryStore::new()),
            trace,
            failing: AtomicU32::new(0),
            write_max: REQUEST_MAX,
            sleepy: scenario.chaos,
            remote: !scenario.alone,
            short_pages: scenario.short_pages,
            damage: scenario.damage,
            late: Tasks::new(),
            slices_made: Mutex::default(),
            conduct: Conduct::new(scenario.damage),
        }
    }

    /// How processes behave towards it.
    pub(crate) fn conduct(&self) -> &Conduct {
        &self.conduct
    }

    /// When a slice became visible, if it did.
    pub(crate) fn slice_made(&self, slice: &SliceName) -> Option<Duration> {
        self.slices().get(slice).copied()
    }

    fn slices(&self) -> MutexGuard<'_, BTreeMap<SliceName, Duration>> {
        self.slices_made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A process's way to the store.
#[derive(Debug)]
pub(crate) struct FaultyStore {
    disk: Arc<Disk>,
    who: Arc<str>,
    clock: Arc<SimClock>,
    dice: Dice,
}

/// Of so many reading calls, one puts its process to sleep.
const SLEEPLESS: u64 = 700;

/// What is more dangerous to sleep over than anything else: targets may be gone afterwards.
const SCAN_TARGET: &str = "scan target";

/// Events of a page that ends early, at most.
const SHORT_PAGE_MAX: u64 = 8;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Fine,
    Refused,
    Lost,
    Unsure,
    Late,
}

impl FaultyStore {
    pub(crate) fn new(disk: Arc<Disk>, who: Arc<str>, clock: Arc<SimClock>, dice: Dice) -> Self {
        Self {
            disk,
            who,
            clock,
            dice,
        }
    }

    async fn delay(&self) {
        match self.dice.below(100) {
            0..70 => tokio::task::yield_now().await,
            70..97 => {
                sleep(
                    self.dice
                        .duration(Duration::from_millis(1), Duration::from_millis(30)),
                )
                .await
            }
            _ => {
                sleep(
                    self.dice
                        .duration(Duration::from_millis(100), Duration::from_secs(3)),
                )
                .await
            }
        }
    }

    /// The process stops right here, before it can see an answer.
    fn fall_asleep(&self, op: &'static str) {
        // Only while the store has its faults: at the end everything is awake.
        let may = self.disk.sleepy && self.disk.failing.load(Ordering::Relaxed) > 0;
        let sleepless = if op == SCAN_TARGET {
            SLEEPLESS / 10
        } else {
            SLEEPLESS
        };
        if may && self.dice.below(sleepless) == 0 {
            let length = self
                .dice
                .duration(Duration::from_secs(1), Duration::from_secs(1_200));
            self.disk
                .trace
                .note(&self.who, "falls asleep", length.as_secs(), || {
                    format!("for {length:?}")
                });
            self.clock.pause(length);
        }
    }

    fn failing(&self) -> bool {
        self.dice.chance(self.disk.failing.load(Ordering::Relaxed))
    }

    fn fate(&self) -> Fate {
        match self.failing() {
            false => Fate::Fine,
            true => match self.dice.below(4) {
                0 => Fate::Refused,
                1 => Fate::Lost,
                _ => Fate::Unsure,
            },
        }
    }

    /// A call that changes nothing.
    async fn read<T>(
        &self,
        op: &'static str,
        call: impl Future<Output = Result<T, StoreError>>,
        words: impl FnOnce(&T) -> (u64, String),
    ) -> Result<T, StoreError> {
        self.clock.wake().await;
        self.delay().await;
        self.fall_asleep(op);
        if self.failing() {
            self.disk.trace.note(&self.who, op, 0, || "fails".to_owned());
            self.clock.wake().await;
            return Err(unavailable(op));
        }
        // It reads what there is before the sleep, or after it.
        if self.dice.chance(500) {
            self.clock.wake().await;
        }
        let answer = call.await;
        match &answer {
            Ok(answer) => {
                let mut said = None;
                let (number, text) = words(answer);
                said.get_or_insert(text);
                self.disk
                    .trace
                    .note(&self.who, op, number, || said.unwrap_or_default());
            }
            Err(error) => self.disk.trace.note(&self.who, op, 1, || error.to_string()),
        }
        // What was read is old news by the time that a paused process sees it.
        self.clock.wake().await;
        answer
    }

    /// A call that changes something, but no append.
    async fn write<T>(
        &self,
        op: &'static str,
        call: impl Future<Output = Result<T, StoreError>>,
        words: impl FnOnce(&T) -> (u64, String),
    ) -> Result<T, StoreError> {
        self.clock.wake().await;
        self.delay().await;
        let fate = self.fate();
        let answer = match fate {
            Fate::Refused => Err(unavailable(op)),
            Fate::Lost => Err(unknown(op)),
            Fate::Fine | Fate::Unsure | Fate::Late => call.await,
        };
        let (number, text) = match &answer {
            Ok(answer) => words(answer),
            Err(error) => (
                1,
                if self.disk.trace.told() {
                    error.to_string()
                } else {
                    String::new()
                },
            ),
        };
        self.disk
            .trace
            .note(&self.who, op, number ^ ((fate as u64) << 60), || {
                format!("{text} {fate:?}")
            });
        if self.dice.chance(300) {
            self.delay().await;
        }
        self.clock.wake().await;
        match fate {
            Fate::Unsure => answer.and_then(|_| Err(unknown(op))),
            _ => answer,
        }
    }

    async fn append_part(&self, mut part: PartitionAppend) -> Result<(), StoreError> {
        // At the end nothing fails any more, neither this.
        let spoils = self.disk.damage && self.disk.failing.load(Ordering::Relaxed) > 0;
        if spoils && part.table.kind == TableKind::Wide && self.dice.chance(30) {
            let which = spoil(&self.dice, &mut part.events);
            self.disk
                .trace
                .note(&self.who, "spoils", which, || part.partition.to_string());
        }
        let fate = match self.failing() {
            false => Fate::Fine,
            true => match self.dice.below(5) {
                0 | 1 => Fate::Refused,
                2 => Fate::Lost,
                3 => Fate::Unsure,
                _ if self.disk.remote => Fate::Late,
                _ => Fate::Unsure,
            },
        };
        let events = part.events.len() as u64;
        self.disk
            .trace
            .note(&self.who, "append", events ^ ((fate as u64) << 60), || {
                format!("{} {} events {events} {fate:?}", part.table, part.partition)
            });
        match fate {
            Fate::Refused => Err(unavailable("append")),
            Fate::Lost => Err(unknown("append")),
            Fate::Fine => apply(&self.disk.memory, part).await,
            Fate::Unsure => apply(&self.disk.memory, part)
                .await
                .and_then(|()| Err(unknown("append"))),
            Fate::Late => {
                let (disk, who) = (self.disk.clone(), self.who.clone());
                let left = disk.write_max.saturating_sub(Duration::from_secs(4));
                let after = self.dice.duration(Duration::from_millis(1), left);
                self.disk.late.spawn("late append", async move {
                    sleep(after).await;
                    disk.trace
                        .note(&who, "late", events, || part.partition.to_string());
                    // Its table may be gone by now, and nobody is told.
                    let _ = apply(&disk.memory, part).await;
                });
                Err(unknown("append"))
            }
        }
    }
}

async fn apply(memory: &MemoryStore, part: PartitionAppend) -> Result<(), StoreError> {
    match memory.append(vec![part]).await {
        Ok(()) => Ok(()),
        Err(failure) => Err(failure
            .failed
            .into_iter()
            .next()
            .map_or_else(|| unavailable("append"), |(_, error)| error)),
    }
}

fn unavailable(doing: &'static str) -> StoreError {
    StoreError::Unavailable {
        doing,
        source: "the simulation says no".into(),
    }
}

fn unknown(doing: &'static str) -> StoreError {
    StoreError::Unknown {
        doing,
        source: "the simulation says nothing".into(),
    }
}

#[async_trait]
impl EventStore for FaultyStore {
    async fn create_table(&self, table: &TableName) -> Result<(), StoreError> {
        let call = self.disk.memory.create_table(table);
        self.write("create table", call, |()| (0, table.to_string()))
            .await
    }

    async fn drop_table(&self, table: &TableName) -> Result<(), StoreError> {
        let call = self.disk.memory.drop_table(table);
        self.write("drop table", call, |()| (0, table.to_string())).await
    }

    async fn append(&self, parts: Vec<PartitionAppend>) -> Result<(), AppendFailure> {
        let count = parts.len();
        self.delay().await;
        if self.clock.is_paused() && self.dice.chance(500) {
            // The process stopped with the request in its hands; by the time it wakes it is too late for it.
            self.clock.wake().await;
            let failed = (0..count).map(|part| (part, unavailable("append"))).collect();
            return Err(AppendFailure { failed });
        }
        if !self.disk.remote && self.dice.chance(250) {
            // What an engine of its own takes in is applied late only if it is answered late.
            let longest = self.disk.write_max.saturating_sub(Duration::from_secs(4));
            sleep(self.dice.duration(Duration::from_secs(1), longest)).await;
        }
        let mut failed = Vec::new();
        for (index, part) in parts.into_iter().enumerate() {
            if let Err(error) = self.append_part(part).await {
                failed.push((index, error));
            }
            if self.dice.chance(100) {
                tokio::task::yield_now().await;
            }
        }
        self.delay().await;
        self.clock.wake().await;
        match failed.is_empty() {
            true => Ok(()),
            false => Err(AppendFailure { failed }),
        }
    }

    async fn delete_partition(&self, table: &TableName, partition: &PartitionKey) -> Result<(), StoreError> {
        let call = self.disk.memory.delete_partition(table, partition);
        self.write("delete partition", call, |()| (0, format!("{table} {partition}")))
            .await
    }

    async fn scan(&self, request: &ScanRequest) -> Result<ScanPage, StoreError> {
        let told = self.disk.trace.told();
        let op = match request.table.kind {
            TableKind::Data => "scan",
            TableKind::Wide => SCAN_TARGET,
        };
        let mut request = request.clone();
        if self.disk.short_pages {
            let events_max = 1 + usize::try_from(self.dice.below(SHORT_PAGE_MAX)).unwrap_or(0);
            request.events_max = request.events_max.min(events_max);
        }
        self.read(op, self.disk.memory.scan(&request), |page| {
            let words = match told {
                true => format!(
                    "{} {} found {}",
                    request.table,
                    request.partition,
                    page.events.len()
                ),
                false => String::new(),
            };
            (page.bytes_read, words)
        })
        .await
    }

    fn finds_time_buckets(&self) -> bool {
        self.disk.memory.finds_time_buckets()
    }

    async fn next_time_bucket(
        &self,
        table: &TableName,
        time_series_id: &TimeSeriesId,
        from: i64,
        to: i64,
        direction: Direction,
    ) -> Result<Option<i64>, StoreError> {
        let call = self
            .disk
            .memory
            .next_time_bucket(table, time_series_id, from, to, direction);
        self.read("next bucket", call, |found| {
            (found.map_or(0, i64::cast_unsigned), String::new())
        })
        .await
    }

    async fn partitions(
        &self,
        table: &TableName,
        after: Option<&PartitionKey>,
        partitions_max: usize,
    ) -> Result<Vec<PartitionKey>, StoreError> {
        let call = self.disk.memory.partitions(table, after, partitions_max);
        self.read("partitions", call, |found| (found.len() as u64, String::new()))
            .await
    }
}

#[async_trait]
impl RecordStore for FaultyStore {
    async fn get(&self, key: &RecordKey) -> Result<Option<VersionedRecord>, StoreError> {
        let told = self.disk.trace.told();
        self.read("get", RecordStore::get(&*self.disk.memory, key), |found| {
            let words = if told { name(key) } else { String::new() };
            (found.as_ref().map_or(0, |found| found.version), words)
        })
        .await
    }

    async fn compare_and_set(
        &self,
        key: &RecordKey,
        expected: u64,
        value: Option<Bytes>,
    ) -> Result<CasOutcome, StoreError> {
        let told = self.disk.trace.told();
        let value_words = if told {
            describe(key, value.as_deref())
        } else {
            String::new()
        };
        let call = self.disk.memory.compare_and_set(key, expected, value.clone());
        self.disk.conduct.asks(&self.who, key, value.as_deref());
        self.write("set", call, |outcome| {
            let applied = matches!(outcome, CasOutcome::Applied { .. });
            if applied {
                self.disk.conduct.stored(&self.who, key, value.as_deref());
            }
            if let (true, RecordKey::TimeSlice { slice, .. }) = (applied, key) {
                let mut slices = self.disk.slices();
                slices.entry(slice.clone()).or_insert(self.disk.trace.now());
            }
            let words = match told {
                true => format!(
                    "{} from {expected} {} {value_words}",
                    name(key),
                    if applied { "applied" } else { "overtaken" }
                ),
                false => String::new(),
            };
            (expected << 1 | u64::from(applied), words)
        })
        .await
    }

    async fn list(
        &self,
        prefix: &RecordPrefix,
        after: Option<&RecordKey>,
        records_max: usize,
    ) -> Result<Vec<(RecordKey, VersionedRecord)>, StoreError> {
        let told = self.disk.trace.told();
        let call = self.disk.memory.list(prefix, after, records_max);
        self.read("list", call, |found| {
            let words = if told {
                format!("{prefix:?}")
            } else {
                String::new()
            };
            (found.len() as u64, words)
        })
        .await
    }
}

fn name(key: &RecordKey) -> String {
    match key {
        RecordKey::Namespace { .. } => "namespace".to_owned(),
        RecordKey::TimeSlice { slice, .. } => format!("slice {slice}"),
        RecordKey::Split { partition, .. } => format!("split {partition}"),
        RecordKey::SplitMarker { slice, shard, .. } => format!("marker {slice}/{shard}"),
        RecordKey::Detection { partition, .. } => format!("detection {partition}"),
        other => format!("{other:?}"),
    }
}

/// What is stored, short enough to be read in a trace.
fn describe(key: &RecordKey, value: Option<&[u8]>) -> String {
    let Some(value) = value else {
        return "removed".to_owned();
    };
    match key {
        RecordKey::Split { .. } => match SplitRecord::decode(value) {
            Ok(record) => format!(
                "{} generation {} fence {} attempts {} {:?} serving {:?} retiring {}",
                record.state.name(),
                record.generation,
                record.fence,
                record.attempts,
                record.reason,
                record.serving.as_ref().map(|serving| (
                    serving.generation,
                    serving.basis.epoch,
                    serving.boundary,
                    serving.targets.len()
                )),
                record.retiring.len()
            ),
            Err(error) => error.to_string(),
        },
        RecordKey::TimeSlice { .. } => String::from_utf8_lossy(value).into_owned(),
        RecordKey::Namespace { .. } => {
            let text = String::from_utf8_lossy(value);
            let at = text.find("\"revision\"").unwrap_or(0);
            text.get(at..).unwrap_or_default().to_owned()
        }
        _ => String::new(),
    }
}
