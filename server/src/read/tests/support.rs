//! A small world: a store that can be slow, a namespace, a reader, and a model of what is stored.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anabranch_model::layout::slice_at;
use anabranch_model::{
    Consistency, Direction, Event, EventId, EventItem, EventKey, EventRecord, EventTime, ItemKey,
    NamespaceName, NamespaceSettings, PartitionKey, PartitionSettings, SliceName, TimeInterval, TimeSeriesId,
    TimeSlice,
};
use anabranch_runtime::telemetry::Metrics;
use anabranch_runtime::{Clock, ManualClock};
use anabranch_storage::memory::MemoryStore;
use anabranch_storage::{
    AppendFailure, EventStore, PartitionAppend, ScanEnd, ScanPage, ScanRequest, StoreError, TableKind,
    TableName,
};
use async_trait::async_trait;
use bytes::Bytes;

use crate::namespaces::{NamespaceView, ReadView};
use crate::read::request::{EventPage, Latency, Paging, ReadRequest};
use crate::read::{PageTokens, ReadLimits, Reader};

pub(super) const HOUR: i64 = 3_600_000_000;

pub(super) fn time(micros: i64) -> EventTime {
    EventTime::from_micros(micros)
}

pub(super) fn series(id: &str) -> TimeSeriesId {
    TimeSeriesId::new(id).unwrap()
}

pub(super) fn item_key(key: &str) -> ItemKey {
    ItemKey::new(key).unwrap()
}

pub(super) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(super) fn interval(start: i64, end: i64) -> TimeInterval {
    TimeInterval {
        start: time(start),
        end: time(end),
    }
}

pub(super) fn record(id: &str, micros: i64, event_id: &str, items: &[(&str, &str)]) -> EventRecord {
    let items: BTreeMap<&str, &str> = items.iter().copied().collect();
    EventRecord {
        time_series_id: series(id),
        event: Event {
            key: EventKey {
                time: time(micros),
                id: EventId::new(event_id).unwrap(),
            },
            items: items
                .into_iter()
                .map(|(key, value)| EventItem {
                    key: item_key(key),
                    value: bytes(value),
                })
                .collect(),
        },
    }
}

/// A store that takes its time on a clock moved by hand, counts what it is asked, and can lose a table.
#[derive(Debug)]
pub(super) struct SlowStore {
    inner: MemoryStore,
    clock: Arc<ManualClock>,
    pub(super) call_takes: Mutex<Duration>,
    /// Whether a call lets others run first, as a store on a network does.
    pub(super) yields: AtomicBool,
    pub(super) scans: AtomicUsize,
    pub(super) bucket_calls: AtomicUsize,
    pub(super) scanned_events: AtomicUsize,
    pub(super) broken: AtomicBool,
    /// Whether a scan yields fewer events than it was asked for, or none, though there are more.
    pub(super) short_pages: AtomicBool,
}

impl SlowStore {
    async fn take_time(&self) -> Result<(), StoreError> {
        let takes = *self.call_takes.lock().unwrap();
        self.clock.advance(takes);
        if self.yields.load(Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
        if self.broken.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable {
                doing: "a test",
                source: "unplugged".into(),
            });
        }
        Ok(())
    }

    pub(super) fn takes(&self, duration: Duration) {
        *self.call_takes.lock().unwrap() = duration;
    }

    pub(super) fn counted(counter: &AtomicUsize) -> usize {
        counter.swap(0, Ordering::Relaxed)
    }
}

/// Takes events from the end of a page, and from some pages all of them.
fn shorten(page: &mut ScanPage, scans: usize, request: &ScanRequest) {
    let kept = page.events.len().min(scans % 4);
    let after = match (kept.checked_sub(1), request.direction) {
        (Some(last), _) => page.events[last].key.clone(),
        (None, Direction::Ascending) => match &request.bounds.lower {
            Bound::Excluded(key) => key.clone(),
            _ => return,
        },
        (None, Direction::Descending) => match &request.bounds.upper {
            Bound::Excluded(key) => key.clone(),
            _ => return,
        },
    };
    if kept < page.events.len() {
        page.events.truncate(kept);
        page.end = ScanEnd::More { after };
    }
}

#[async_trait]
impl EventStore for SlowStore {
    async fn create_table(&self, table: &TableName) -> Result<(), StoreError> {
        self.inner.create_table(table).await
    }

    async fn drop_table(&self, table: &TableName) -> Result<(), StoreError> {
        self.inner.drop_table(table).await
    }

    async fn append(&self, parts: Vec<PartitionAppend>) -> Result<(), AppendFailure> {
        self.inner.append(parts).await
    }

    async fn delete_partition(&self, table: &TableName, partition: &PartitionKey) -> Result<(), StoreError> {
        self.take_time().await?;
        self.inner.delete_partition(table, partition).await
    }

    async fn scan(&self, request: &ScanRequest) -> Result<ScanPage, StoreError> {
        self.take_time().await?;
        self.scans.fetch_add(1, Ordering::Relaxed);
        let mut page = self.inner.scan(request).await?;
        if self.short_pages.load(Ordering::Relaxed) {
            shorten(&mut page, self.scans.load(Ordering::Relaxed), request);
        }
        self.scanned_events
            .fetch_add(page.events.len(), Ordering::Relaxed);
        Ok(page)
    }

    fn finds_time_buckets(&self) -> bool {
        self.inner.finds_time_buckets()
    }

    async fn next_time_bucket(
        &self,
        table: &TableName,
        id: &TimeSeriesId,
        from: i64,
        to: i64,
        direction: Direction,
    ) -> Result<Option<i64>, StoreError> {
        self.take_time().await?;
        self.bucket_calls.fetch_add(1, Ordering::Relaxed);
        self.inner.next_time_bucket(table, id, from, to, direction).await
    }

    async fn partitions(
        &self,
        table: &TableName,
        after: Option<&PartitionKey>,
        partitions_max: usize,
    ) -> Result<Vec<PartitionKey>, StoreError> {
        self.take_time().await?;
        self.inner.partitions(table, after, partitions_max).await
    }
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) clock: Arc<ManualClock>,
    pub(super) store: Arc<SlowStore>,
    pub(super) view: ReadView,
    pub(super) reader: Reader,
    pub(super) model: BTreeMap<(TimeSeriesId, EventKey), BTreeMap<ItemKey, Bytes>>,
}

/// Width of a bucket in seconds and event buckets.
pub(super) type Buckets = (i64, u32);

fn slice(name: SliceName, interval: TimeInterval, (seconds, event_buckets): Buckets) -> TimeSlice {
    let settings = PartitionSettings {
        seconds_per_time_bucket: seconds,
        event_buckets,
    };
    TimeSlice::cut(name, interval, settings)
}

impl World {
    /// One slice for all time.
    pub(super) async fn all_time(buckets: Buckets) -> Self {
        let (name, whole) = slice_at(time(0), 0).unwrap();
        Self::of(vec![slice(name, whole, buckets)]).await
    }

    /// Slices of an hour from the epoch on, each with its own buckets.
    pub(super) async fn hours(buckets: &[Buckets]) -> Self {
        let hour = |(index, buckets): (usize, &Buckets)| {
            let (name, whole) = slice_at(time(HOUR * index as i64), 3_600).unwrap();
            slice(name, whole, *buckets)
        };
        Self::of(buckets.iter().enumerate().map(hour).collect()).await
    }

    async fn of(slices: Vec<TimeSlice>) -> Self {
        let clock = ManualClock::at(0);
        let store = Arc::new(SlowStore {
            inner: MemoryStore::new(),
            clock: clock.clone(),
            call_takes: Mutex::default(),
            yields: AtomicBool::new(false),
            scans: AtomicUsize::new(0),
            bucket_calls: AtomicUsize::new(0),
            scanned_events: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
            short_pages: AtomicBool::new(false),
        });
        let view = NamespaceView {
            name: NamespaceName::new("ns").unwrap(),
            settings: NamespaceSettings::default(),
            version: 1,
            incarnation: 1,
            slices: Arc::new(slices),
            blocked: Arc::default(),
            sealed_before: None,
        };
        let view = ReadView::new(Arc::new(view), Duration::MAX);
        let world = Self {
            reader: reader(store.clone(), clock.clone()),
            clock,
            store,
            view,
            model: BTreeMap::new(),
        };
        for slice in world.view.slices.iter() {
            world.store.create_table(&world.table(slice)).await.unwrap();
        }
        world
    }

    /// As after a restart, or on another server: nothing remembered but what is stored.
    pub(super) fn restart(&mut self) {
        self.reader = reader(self.store.clone(), self.clock.clone());
    }

    /// A reader with other limits.
    pub(super) fn limit(&mut self, change: impl FnOnce(&mut ReadLimits)) {
        let mut limits = ReadLimits::default();
        change(&mut limits);
        let tokens = PageTokens::new(&[7; 32]);
        self.reader = Reader::new(
            self.store.clone(),
            self.clock.clone(),
            tokens,
            &Metrics::default(),
            limits,
        );
    }

    pub(super) fn table(&self, slice: &TimeSlice) -> TableName {
        TableName {
            namespace: self.view.name.clone(),
            kind: TableKind::Data,
            slice: slice.name.clone(),
        }
    }

    pub(super) async fn write(&mut self, records: Vec<EventRecord>) {
        let mut parts: BTreeMap<PartitionKey, PartitionAppend> = BTreeMap::new();
        for record in records {
            let slice = self.view.slice_of(record.event.key.time).unwrap();
            let partition = slice.partition_of(&record.time_series_id, &record.event.key);
            let table = self.table(slice);
            let items = self
                .model
                .entry((record.time_series_id, record.event.key.clone()))
                .or_default();
            items.extend(
                record
                    .event
                    .items
                    .iter()
                    .map(|item| (item.key.clone(), item.value.clone())),
            );
            parts
                .entry(partition.clone())
                .or_insert_with(|| PartitionAppend {
                    table,
                    partition,
                    events: Vec::new(),
                    consistency: Consistency::default(),
                })
                .events
                .push(record.event);
        }
        self.store.append(parts.into_values().collect()).await.unwrap();
    }

    /// What is stored at the times of an interval and passes, in event order over all ids.
    pub(super) fn expect(
        &self,
        interval: TimeInterval,
        direction: Direction,
        keep: impl Fn(&EventRecord) -> bool,
    ) -> Vec<EventRecord> {
        let mut records: Vec<EventRecord> = self
            .model
            .iter()
            .map(|((id, key), items)| EventRecord {
                time_series_id: id.clone(),
                event: Event {
                    key: key.clone(),
                    items: items
                        .iter()
                        .map(|(key, value)| EventItem {
                            key: key.clone(),
                            value: value.clone(),
                        })
                        .collect(),
                },
            })
            .filter(|record| interval.contains(record.event.key.time) && keep(record))
            .collect();
        records.sort_by(|a, b| {
            direction.compare(
                &(&a.event.key, &a.time_series_id),
                &(&b.event.key, &b.time_series_id),
            )
        });
        records
    }

    pub(super) fn read_of(&self, id: &str) -> ReadRequest {
        ReadRequest {
            namespace: self.view.name.clone(),
            time_series_id: series(id),
            interval: TimeInterval::ALL,
            filters: Vec::new(),
            direction: Direction::Descending,
            paging: Paging::default(),
            latency: Latency::default(),
        }
    }

    pub(super) async fn read(&self, request: &ReadRequest) -> EventPage {
        self.reader.read(&self.view, request.clone()).await.unwrap()
    }

    /// Every page of a read.
    pub(super) async fn walk(&self, request: &ReadRequest) -> Vec<EventPage> {
        let mut request = request.clone();
        let mut pages = Vec::new();
        loop {
            let page = self.read(&request).await;
            request.paging.page_token = page.next_page_token.clone();
            pages.push(page);
            if request.paging.page_token.is_empty() {
                return pages;
            }
            assert!(pages.len() < 20_000, "a walk ends");
        }
    }
}

fn reader(store: Arc<SlowStore>, clock: Arc<dyn Clock>) -> Reader {
    let tokens = PageTokens::new(&[7; 32]);
    Reader::new(store, clock, tokens, &Metrics::default(), ReadLimits::default())
}

pub(super) fn records(pages: Vec<EventPage>) -> Vec<EventRecord> {
    pages.into_iter().flat_map(|page| page.records).collect()
}

/// Runs a future to its end, for tests that are not async themselves.
pub(super) fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}
