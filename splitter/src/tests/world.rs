//! One namespace with one slice of a day, a clock that does not wait, and workers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anabranch_bus::{Detection, DetectionBus, StoreBus};
use anabranch_catalog::{NamespaceRecord, SliceRecord, Stored, change_slice, read_namespace, store_slice};
use anabranch_model::namespace::Rollout;
use anabranch_model::{
    Consistency, Event, EventId, EventItem, EventKey, EventTime, ItemKey, NamespaceName, NamespaceSettings,
    PartitionKey, PartitionSettings, SliceName, TimeInterval, TimeSeriesId, TimeSlice, WideTable,
};
use anabranch_planner::{Planner, PlannerMetrics, PlannerParts, PlannerSettings, TimedFreezer};
use anabranch_runtime::telemetry::Metrics;
use anabranch_runtime::{Clock, Randomness};
use anabranch_split::{RetryPolicy, Serving, SplitReason, SplitRecord, SplitState, Step};
use anabranch_storage::memory::MemoryStore;
use anabranch_storage::{
    CasOutcome, EventBounds, EventStore, Moved, PartitionAppend, RecordStore, SplitRecords, SplitSlot,
    StoredSplit, TableKind, TableName, Walk,
};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;

use super::store::Eventful;
use crate::{Splitter, SplitterMetrics, SplitterParts, SplitterSettings};

/// Midnight.
const START: i64 = 1_774_656_000;
pub(super) const HOUR: i64 = 3_600;
pub(super) const LEASE: Duration = Duration::from_secs(60);
pub(super) const RETIRE_AFTER: Duration = Duration::from_secs(120);
/// Value of an event; with 1 MiB a page, a partition of [`EVENTS`] takes three.
const VALUE_BYTES: usize = 8_000;
pub(super) const EVENTS: i64 = 320;

/// A time in the slice's day.
pub(super) fn at(seconds: i64) -> EventTime {
    EventTime::from_micros((START + seconds) * 1_000_000)
}

pub(super) fn namespace() -> NamespaceName {
    NamespaceName::new("ns").unwrap()
}

fn slice() -> SliceName {
    SliceName::new("20260328").unwrap()
}

pub(super) fn partition(time_bucket: i64) -> PartitionKey {
    PartitionKey {
        slice: slice(),
        time_series_id: TimeSeriesId::new("id").unwrap(),
        time_bucket,
        event_bucket: 0,
    }
}

pub(super) fn table(kind: TableKind) -> TableName {
    TableName {
        namespace: namespace(),
        kind,
        slice: slice(),
    }
}

pub(super) fn event(time: EventTime, id: &str) -> Event {
    let letter = time.micros().unsigned_abs().to_le_bytes()[0];
    Event {
        key: EventKey {
            time,
            id: EventId::new(id).unwrap(),
        },
        items: vec![EventItem {
            key: ItemKey::new("k").unwrap(),
            value: Bytes::from(vec![letter; VALUE_BYTES]),
        }],
    }
}

/// A clock on which nobody waits: a sleep moves it.
#[derive(Debug)]
pub(super) struct Skipping(Mutex<Duration>);

impl Skipping {
    pub(super) fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }
}

#[async_trait]
impl Clock for Skipping {
    fn unix_micros(&self) -> i64 {
        i64::try_from(self.elapsed().as_micros()).unwrap() + START * 1_000_000
    }

    fn elapsed(&self) -> Duration {
        *self.0.lock().unwrap()
    }

    async fn sleep(&self, duration: Duration) {
        self.advance(duration);
        tokio::task::yield_now().await;
    }
}

pub(super) struct World {
    pub(super) store: Arc<MemoryStore>,
    pub(super) eventful: Arc<Eventful>,
    pub(super) clock: Arc<Skipping>,
    pub(super) splits: SplitRecords,
    pub(super) bus: Arc<StoreBus>,
    /// Of all workers together.
    pub(super) metrics: Metrics,
}

impl World {
    /// A world at noon in which a partition of the first hour was found wide.
    pub(super) async fn with_a_wide_partition() -> Self {
        let world = Self::at(12 * HOUR, Rollout::Split).await;
        world.fill(0, EVENTS, 10).await;
        world.detect(partition(0)).await;
        world
    }

    pub(super) async fn at(seconds: i64, rollout: Rollout) -> Self {
        let store = Arc::new(MemoryStore::new());
        let mut settings = NamespaceSettings::default();
        settings.wide_partition.rollout = rollout;
        settings.wide_partition.target_bytes = 256 << 10;
        let record = NamespaceRecord::new(settings, 1, at(0));
        let key = NamespaceRecord::key(&namespace());
        let bytes = record.encode().unwrap();
        store.compare_and_set(&key, 0, Some(bytes)).await.unwrap();
        let interval = TimeInterval {
            start: at(0),
            end: at(24 * HOUR),
        };
        let settings = PartitionSettings {
            seconds_per_time_bucket: HOUR,
            event_buckets: 1,
        };
        let record = SliceRecord::new(TimeSlice::cut(slice(), interval, settings), 1);
        store_slice(&*store, &namespace(), 0, &record).await.unwrap();
        store.create_table(&table(TableKind::Data)).await.unwrap();
        let elapsed = Duration::from_secs(u64::try_from(seconds).unwrap());
        Self {
            eventful: Eventful::over(store.clone()),
            clock: Arc::new(Skipping(Mutex::new(elapsed))),
            splits: SplitRecords::new(store.clone()),
            // Beside the store that fails: what is tested is not the bus.
            bus: Arc::new(StoreBus::new(store.clone(), &Metrics::default())),
            metrics: Metrics::default(),
            store,
        }
    }

    /// Changes the namespace's settings.
    pub(super) async fn change(&self, change: impl Fn(&mut NamespaceSettings)) {
        let found = read_namespace(&*self.store, &namespace()).await.unwrap();
        let (mut record, version) = found.unwrap();
        change(&mut record.settings);
        let key = NamespaceRecord::key(&namespace());
        let bytes = record.encode().unwrap();
        let changed = self.store.compare_and_set(&key, version, Some(bytes)).await;
        assert!(matches!(changed.unwrap(), CasOutcome::Applied { .. }));
    }

    /// Writes events, `step` seconds apart, into the partitions that hold them.
    pub(super) async fn fill(&self, from: i64, count: i64, step: i64) {
        for n in 0..count {
            self.write(event(at(from + n * step), &format!("e{n}"))).await;
        }
    }

    pub(super) async fn write(&self, event: Event) {
        write(&self.store, event).await;
    }

    pub(super) async fn detect(&self, partition: PartitionKey) {
        let detection = Detection {
            namespace: namespace(),
            partition,
            bytes: 1 << 20,
            immutable: false,
        };
        self.bus.publish(&detection).await.unwrap();
    }

    pub(super) fn planner(&self, seed: u64) -> Planner {
        self.planner_over(self.eventful.clone(), seed, true)
    }

    pub(super) fn planner_over(&self, store: Arc<Eventful>, seed: u64, sole_owner: bool) -> Planner {
        let freezer = TimedFreezer::new(store.clone(), self.clock.clone(), Duration::ZERO);
        let parts = PlannerParts {
            events: store.clone(),
            records: store,
            bus: self.bus.clone(),
            freezer: Arc::new(freezer),
            clock: self.clock.clone(),
            foreground: None,
            nudge: Arc::new(Notify::new()),
            planned: Arc::new(Notify::new()),
        };
        let settings = PlannerSettings {
            lease: LEASE,
            sole_owner,
            checkpoint_bytes: 1 << 20,
            retry: retry(),
            ..PlannerSettings::default()
        };
        let metrics = PlannerMetrics::new(&self.metrics);
        Planner::new(parts, &Randomness::from_seed(seed), metrics, settings)
    }

    pub(super) fn splitter(&self, seed: u64) -> Splitter {
        self.splitter_over(self.eventful.clone(), seed, true)
    }

    pub(super) fn splitter_over(&self, store: Arc<Eventful>, seed: u64, sole_owner: bool) -> Splitter {
        let parts = SplitterParts {
            events: store.clone(),
            records: store,
            clock: self.clock.clone(),
            foreground: None,
            nudge: Arc::new(Notify::new()),
            completed: Arc::new(Notify::new()),
        };
        let settings = SplitterSettings {
            lease: LEASE,
            sole_owner,
            checkpoint_bytes: 128 << 10,
            retire_after: RETIRE_AFTER,
            retry: retry(),
            ..SplitterSettings::default()
        };
        let metrics = SplitterMetrics::new(&self.metrics);
        Splitter::new(parts, &Randomness::from_seed(seed), metrics, settings)
    }

    /// What the keeper of slices does: makes the table of targets once it is wanted.
    pub(super) async fn keep(&self) {
        make_wide_table(&self.store).await;
    }

    /// Rounds of both workers until there is nothing more to do for some minutes.
    pub(super) async fn settle(&self, planner: &mut Planner, splitter: &mut Splitter) {
        let mut quiet = 0;
        for _ in 0..200 {
            let planned = planner.round().await;
            self.keep().await;
            let split = splitter.round().await;
            let idle = planned.is_ok_and(|progress| progress.moved == 0)
                && split.is_ok_and(|progress| progress.moved == 0);
            quiet = if idle { quiet + 1 } else { 0 };
            if quiet == 12 {
                return;
            }
            self.clock.advance(Duration::from_secs(31));
        }
        panic!("the workers never came to rest");
    }

    pub(super) async fn invalidate(&self, time_bucket: i64, reason: SplitReason) {
        let stored = self.stored(time_bucket).await;
        let step = Step::Invalidate { reason };
        let moved = self.splits.step(&namespace(), &stored, step, at(0)).await;
        assert!(matches!(moved.unwrap(), Moved::To(_)));
    }

    pub(super) async fn stored(&self, time_bucket: i64) -> StoredSplit {
        let slot = self
            .splits
            .get(&namespace(), &partition(time_bucket))
            .await
            .unwrap();
        let SplitSlot::Taken(stored) = slot else {
            panic!("there is no record");
        };
        stored
    }

    pub(super) async fn record(&self, time_bucket: i64) -> SplitRecord {
        *self.stored(time_bucket).await.record
    }

    /// What is served, with the proof that it is what the original holds before the boundary.
    pub(super) async fn proved(&self, time_bucket: i64) -> Serving {
        let record = self.record(time_bucket).await;
        assert_eq!(record.state, SplitState::Completed);
        let serving = record.serving.unwrap();
        let mut targets = Vec::new();
        for target in serving.targets.iter().rev() {
            let partition = target.partition(&record.partition);
            let rows = rows(&self.store, TableKind::Wide, &partition).await;
            assert!(
                rows.iter()
                    .all(|row| (&target.oldest..=&target.newest).contains(&&row.key))
            );
            targets.extend(rows);
        }
        let mut original = rows(&self.store, TableKind::Data, &record.partition).await;
        original.retain(|event| event.key.time < serving.boundary);
        assert_eq!(targets, original);
        serving
    }

    /// The event buckets that hold anything in the wide table.
    pub(super) async fn wide_buckets(&self) -> Vec<u32> {
        let wide = table(TableKind::Wide);
        let partitions = self.store.partitions(&wide, None, 1_000).await.unwrap();
        partitions
            .iter()
            .map(|partition| partition.event_bucket)
            .collect()
    }
}

pub(super) fn buckets(serving: &Serving) -> Vec<u32> {
    serving.targets.iter().map(|target| target.event_bucket).collect()
}

fn retry() -> RetryPolicy {
    RetryPolicy {
        wait: Duration::from_secs(10),
        wait_max: Duration::from_secs(60),
        attempts_max: 3,
    }
}

pub(super) async fn make_wide_table(store: &Arc<MemoryStore>) {
    let wide = table(TableKind::Wide);
    let made = |record: &mut SliceRecord| {
        if record.slice.wide_table == WideTable::Wanted {
            record.slice.wide_table = WideTable::Made;
        }
    };
    store.create_table(&wide).await.unwrap();
    change_slice(&**store, &namespace(), &slice(), 1, made)
        .await
        .unwrap();
}

/// Opens the slice again, as the keeper does before it takes writes of a time that was immutable.
pub(super) async fn open_again(store: &Arc<MemoryStore>) {
    let open = |record: &mut SliceRecord| {
        record.slice.epoch += 1;
        record.slice.frozen_before = None;
    };
    change_slice(&**store, &namespace(), &slice(), 1, open)
        .await
        .unwrap();
}

pub(super) async fn write(store: &Arc<MemoryStore>, event: Event) {
    let seconds = event.key.time.micros() / 1_000_000 - START;
    append(store, TableKind::Data, partition(seconds / HOUR), vec![event]).await;
}

pub(super) async fn append(
    store: &Arc<MemoryStore>,
    kind: TableKind,
    partition: PartitionKey,
    events: Vec<Event>,
) {
    let part = PartitionAppend {
        table: table(kind),
        partition,
        events,
        consistency: Consistency::default(),
    };
    store.append(vec![part]).await.unwrap();
}

/// The events of a partition, newest first.
pub(super) async fn rows(store: &Arc<MemoryStore>, kind: TableKind, partition: &PartitionKey) -> Vec<Event> {
    let bounds = EventBounds::of_interval(TimeInterval::ALL);
    let mut walk = Walk::new(
        table(kind),
        partition.clone(),
        bounds,
        1 << 20,
        Consistency::default(),
    );
    let mut rows = Vec::new();
    while let Some(page) = walk.next(&**store).await.unwrap() {
        rows.extend(page.events);
    }
    rows
}
