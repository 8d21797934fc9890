//! A server over the memory store, a clock that is moved by hand, and faults on demand: for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anabranch_bus::{Detection, DetectionBus, StoreBus};
use anabranch_model::{
    Consistency, Direction, Event, EventId, EventItem, EventKey, EventRecord, EventTime, ItemKey,
    NamespaceName, NamespaceSettings, PartitionKey, SliceState, TimeInterval, TimeSeriesId, TimeSlice,
};
use anabranch_runtime::telemetry::Metrics;
use anabranch_runtime::{Clock, ManualClock, Randomness, Tasks};
use anabranch_storage::memory::MemoryStore;
use anabranch_storage::{
    AppendFailure, CasOutcome, EventBounds, EventStore, PartitionAppend, RecordKey, RecordPrefix,
    RecordStore, ScanPage, ScanRequest, Store, StoreError, TableKind, TableName, VersionedRecord,
    split_shard,
};
use async_trait::async_trait;
use bytes::Bytes;

use crate::core::Core;
use crate::namespaces::{NamespaceView, ReadView};
use crate::settings::ServerSettings;

pub(crate) const HOUR: i64 = 3_600;
pub(crate) const WEEK: i64 = 604_800;
/// 2026-03-28T12:00:00Z.
pub(crate) const NOON: i64 = (1_774_656_000 + 12 * HOUR) * 1_000_000;

pub(crate) fn name(name: &str) -> NamespaceName {
    NamespaceName::new(name).unwrap()
}

pub(crate) fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap())
}

/// A view of a namespace without slices.
pub(crate) fn empty_view() -> ReadView {
    let view = NamespaceView {
        name: name("ns"),
        settings: NamespaceSettings::default(),
        version: 1,
        incarnation: 1,
        slices: Arc::default(),
        blocked: Arc::default(),
        sealed_before: None,
    };
    ReadView::new(Arc::new(view), Duration::MAX)
}

/// An event of one item, `key`.
pub(crate) fn event(id: &str, time: EventTime, event_id: &str, value: &str) -> EventRecord {
    EventRecord {
        time_series_id: TimeSeriesId::new(id).unwrap(),
        event: Event {
            key: EventKey {
                time,
                id: EventId::new(event_id).unwrap(),
            },
            items: vec![EventItem {
                key: ItemKey::new("key").unwrap(),
                value: Bytes::from(value.to_owned()),
            }],
        },
    }
}

/// A server for tests.
pub(crate) struct Server {
    pub(crate) core: Arc<Core>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) faults: Arc<Faults>,
    pub(crate) bus: StoreBus,
    pub(crate) _tasks: Tasks,
    pub(crate) metrics: Metrics,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::over(Arc::new(Faults::default()), NOON, ServerSettings::default()).await
    }

    /// Another server over the same store.
    pub(crate) async fn over(faults: Arc<Faults>, unix_micros: i64, settings: ServerSettings) -> Self {
        let clock = ManualClock::at(unix_micros);
        let (tasks, metrics) = (Tasks::new(), Metrics::default());
        let status: Arc<dyn anabranch_storage::StoreStatus> = faults.store.clone();
        let store = Store::of_parts(faults.clone(), faults.clone(), status);
        let randomness = Randomness::from_seed(u64::try_from(unix_micros).unwrap());
        let bus = StoreBus::new(faults.clone(), &metrics);
        let core = Core::start(
            store,
            Arc::new(bus.clone()),
            clock.clone(),
            &randomness,
            &tasks,
            &metrics,
            settings,
        )
        .await
        .unwrap();
        Self {
            core,
            bus,
            clock,
            faults,
            _tasks: tasks,
            metrics,
        }
    }

    pub(crate) fn ns(&self) -> NamespaceName {
        name("ns")
    }

    pub(crate) fn now(&self) -> EventTime {
        EventTime::from_micros(self.clock.unix_micros())
    }

    pub(crate) async fn create(&self, settings: NamespaceSettings) {
        self.create_named("ns", settings).await;
    }

    pub(crate) async fn create_named(&self, namespace: &str, settings: NamespaceSettings) {
        self.core
            .admin
            .create_namespace(&name(namespace), settings)
            .await
            .unwrap();
    }

    /// Puts bytes in the place of a split record, as another version may, and moves its marker.
    pub(crate) async fn put_split(&self, partition: &PartitionKey, bytes: &'static str) {
        let (split, marker) = self.split_keys(partition);
        for (key, value) in [(split, Bytes::from(bytes)), (marker, Bytes::new())] {
            let stands = RecordStore::get(&*self.faults.store, &key).await.unwrap();
            let version = stands.map_or(0, |record| record.version);
            let put = self
                .faults
                .store
                .compare_and_set(&key, version, Some(value))
                .await;
            assert!(matches!(put.unwrap(), CasOutcome::Applied { .. }));
        }
    }

    /// The bytes of a split record.
    pub(crate) async fn split_bytes(&self, partition: &PartitionKey) -> Bytes {
        let (key, _) = self.split_keys(partition);
        let stands = RecordStore::get(&*self.faults.store, &key).await.unwrap();
        stands.unwrap().value.unwrap()
    }

    fn split_keys(&self, partition: &PartitionKey) -> (RecordKey, RecordKey) {
        let split = RecordKey::Split {
            namespace: self.ns(),
            partition: partition.clone(),
        };
        let marker = RecordKey::SplitMarker {
            namespace: self.ns(),
            slice: partition.slice.clone(),
            shard: split_shard(&partition.time_series_id),
        };
        (split, marker)
    }

    /// Moves the clock and lets every task do what is due.
    pub(crate) async fn advance(&self, by: Duration) {
        self.settle().await;
        self.clock.advance(by);
        self.settle().await;
    }

    /// Lets every task run until it waits.
    pub(crate) async fn settle(&self) {
        for _ in 0..500 {
            tokio::task::yield_now().await;
        }
    }

    /// The detections that wait on the bus, which are acked.
    pub(crate) async fn detections(&self) -> Vec<Detection> {
        let mut detections = Vec::new();
        for delivery in self.bus.receive(100).await.unwrap() {
            self.bus.ack(&delivery).await.unwrap();
            detections.push(delivery.detection);
        }
        detections
    }

    pub(crate) async fn slices(&self) -> Vec<TimeSlice> {
        let view = self.core.namespaces.view(&self.ns()).await.unwrap();
        view.slices.to_vec()
    }

    /// Every event of an id in the open slices, oldest first.
    pub(crate) async fn read(&self, id: &str) -> Vec<Event> {
        let mut events = Vec::new();
        for slice in self.slices().await {
            if slice.state != SliceState::Open {
                continue;
            }
            let table = TableName {
                namespace: self.ns(),
                kind: TableKind::Data,
                slice: slice.name.clone(),
            };
            for partition in self
                .faults
                .store
                .partitions(&table, None, usize::MAX)
                .await
                .unwrap()
            {
                if partition.time_series_id.as_str() == id {
                    events.extend(self.scan(&table, partition).await);
                }
            }
        }
        events.sort_by(|a, b| a.key.cmp(&b.key));
        events
    }

    async fn scan(&self, table: &TableName, partition: PartitionKey) -> Vec<Event> {
        let request = ScanRequest {
            table: table.clone(),
            partition,
            bounds: EventBounds::of_interval(TimeInterval::ALL),
            direction: Direction::Ascending,
            events_max: usize::MAX,
            bytes_max: usize::MAX,
            consistency: Consistency::default(),
        };
        self.faults.store.scan(&request).await.unwrap().events
    }
}

/// The memory store with faults on demand.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) store: Arc<MemoryStore>,
    failing: Mutex<BTreeMap<String, bool>>,
    records_down: AtomicBool,
    changes_left: Mutex<Option<usize>>,
    tables_down: AtomicBool,
    wide_down: AtomicBool,
    data_down: AtomicBool,
    buckets_unknown: AtomicBool,
    scan_takes: Mutex<Option<(Arc<ManualClock>, Duration)>>,
    hold: AtomicBool,
    held: AtomicUsize,
    pub(crate) log: Mutex<Vec<String>>,
    asked: Mutex<BTreeSet<(&'static str, &'static str)>>,
}

impl Faults {
    /// Appends to an id fail from now on, plainly or with an unknown outcome.
    pub(crate) fn fail(&self, id: &str, unknown: bool) {
        self.failing.lock().unwrap().insert(id.to_owned(), unknown);
    }

    pub(crate) fn heal(&self, id: &str) {
        self.failing.lock().unwrap().remove(id);
    }

    pub(crate) fn records_down(&self, down: bool) {
        self.records_down.store(down, Ordering::SeqCst);
    }

    /// After so many changes of records none is taken any more, until this is called again.
    pub(crate) fn changes_left(&self, changes: Option<usize>) {
        *self.changes_left.lock().unwrap() = changes;
    }

    fn take_change(&self) -> Result<(), StoreError> {
        let mut left = self.changes_left.lock().unwrap();
        match left.as_mut() {
            None => Ok(()),
            Some(0) => Err(unavailable()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    /// Tables can not be made.
    pub(crate) fn tables_down(&self, down: bool) {
        self.tables_down.store(down, Ordering::SeqCst);
    }

    /// Which time buckets an id has can not be said, for servers that start from now on.
    pub(crate) fn buckets_unknown(&self) {
        self.buckets_unknown.store(true, Ordering::SeqCst);
    }

    /// Targets can not be read.
    pub(crate) fn wide_down(&self, down: bool) {
        self.wide_down.store(down, Ordering::SeqCst);
    }

    /// Scans take so long on a clock.
    pub(crate) fn scans_take(&self, clock: &Arc<ManualClock>, duration: Duration) {
        *self.scan_takes.lock().unwrap() = Some((clock.clone(), duration));
    }

    /// Originals can not be read.
    pub(crate) fn data_down(&self, down: bool) {
        self.data_down.store(down, Ordering::SeqCst);
    }

    /// Appends wait at the door.
    pub(crate) fn hold_appends(&self, hold: bool) {
        self.hold.store(hold, Ordering::SeqCst);
    }

    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    /// What was done since the last call, of what is logged.
    pub(crate) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }

    /// What was done to which kind of table since the last call, at which consistency.
    pub(crate) fn take_asked(&self) -> BTreeSet<(&'static str, &'static str)> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    fn ask(&self, what: &'static str, consistency: Consistency) {
        self.asked.lock().unwrap().insert((what, consistency.as_str()));
    }

    fn note(&self, what: String) {
        self.log.lock().unwrap().push(what);
    }

    async fn records_up(&self) -> Result<(), StoreError> {
        // A real store takes a moment, in which others run.
        tokio::task::yield_now().await;
        if self.records_down.load(Ordering::SeqCst) {
            return Err(unavailable());
        }
        Ok(())
    }
}

fn unavailable() -> StoreError {
    StoreError::Unavailable {
        doing: "a test",
        source: "down".into(),
    }
}

#[async_trait]
impl EventStore for Faults {
    async fn create_table(&self, table: &TableName) -> Result<(), StoreError> {
        tokio::task::yield_now().await;
        if self.tables_down.load(Ordering::SeqCst) {
            return Err(unavailable());
        }
        self.note(format!("create {table}"));
        self.store.create_table(table).await
    }

    async fn drop_table(&self, table: &TableName) -> Result<(), StoreError> {
        tokio::task::yield_now().await;
        self.note(format!("drop {table}"));
        self.store.drop_table(table).await
    }

    async fn append(&self, parts: Vec<PartitionAppend>) -> Result<(), AppendFailure> {
        self.held.fetch_add(1, Ordering::SeqCst);
        while self.hold.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        let failing = self.failing.lock().unwrap().clone();
        for part in &parts {
            self.ask("append", part.consistency);
        }
        let mut failed = Vec::new();
        for (index, part) in parts.into_iter().enumerate() {
            match failing.get(part.partition.time_series_id.as_str()) {
                None => {
                    if let Err(failure) = self.store.append(vec![part]).await {
                        failed.extend(failure.failed.into_iter().map(|(_, error)| (index, error)));
                    }
                }
                Some(false) => failed.push((index, unavailable())),
                Some(true) => failed.push((
                    index,
                    StoreError::Unknown {
                        doing: "a test",
                        source: "unsure".into(),
                    },
                )),
            }
        }
        if failed.is_empty() {
            Ok(())
        } else {
            Err(AppendFailure { failed })
        }
    }

    async fn delete_partition(&self, table: &TableName, partition: &PartitionKey) -> Result<(), StoreError> {
        tokio::task::yield_now().await;
        self.note(format!("delete {table} {partition}"));
        self.store.delete_partition(table, partition).await
    }

    async fn scan(&self, request: &ScanRequest) -> Result<ScanPage, StoreError> {
        if let Some((clock, duration)) = &*self.scan_takes.lock().unwrap() {
            clock.advance(*duration);
        }
        let (down, what) = match request.table.kind {
            TableKind::Data => (&self.data_down, "scan an original"),
            TableKind::Wide => (&self.wide_down, "scan a target"),
        };
        self.ask(what, request.consistency);
        if down.load(Ordering::SeqCst) {
            return Err(unavailable());
        }
        self.store.scan(request).await
    }

    fn finds_time_buckets(&self) -> bool {
        !self.buckets_unknown.load(Ordering::SeqCst)
    }

    async fn next_time_bucket(
        &self,
        table: &TableName,
        time_series_id: &TimeSeriesId,
        from: i64,
        to: i64,
        direction: Direction,
    ) -> Result<Option<i64>, StoreError> {
        self.store
            .next_time_bucket(table, time_series_id, from, to, direction)
            .await
    }

    async fn partitions(
        &self,
        table: &TableName,
        after: Option<&PartitionKey>,
        partitions_max: usize,
    ) -> Result<Vec<PartitionKey>, StoreError> {
        self.store.partitions(table, after, partitions_max).await
    }
}

#[async_trait]
impl RecordStore for Faults {
    async fn get(&self, key: &RecordKey) -> Result<Option<VersionedRecord>, StoreError> {
        self.records_up().await?;
        RecordStore::get(&*self.store, key).await
    }

    async fn compare_and_set(
        &self,
        key: &RecordKey,
        expected: u64,
        value: Option<Bytes>,
    ) -> Result<CasOutcome, StoreError> {
        self.records_up().await?;
        self.take_change()?;
        let outcome = self.store.compare_and_set(key, expected, value).await?;
        if matches!(outcome, CasOutcome::Applied { .. }) {
            self.note(match key {
                RecordKey::Namespace { namespace } => format!("record {namespace}"),
                RecordKey::TimeSlice { slice, .. } => format!("slice {slice}"),
                _ => "other record".to_owned(),
            });
        }
        Ok(outcome)
    }

    async fn list(
        &self,
        prefix: &RecordPrefix,
        after: Option<&RecordKey>,
        records_max: usize,
    ) -> Result<Vec<(RecordKey, VersionedRecord)>, StoreError> {
        self.records_up().await?;
        self.store.list(prefix, after, records_max).await
    }
}
