//! A namespace of one slice whose partitions are split by hand, with the checksums that a splitter would prove.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_model::namespace::{Rollout, WidePartition};
use anabranch_model::{
    Consistency, Direction, Event, EventRecord, EventTime, NamespaceSettings, PartitionKey, TimeInterval,
    TimeSeriesId, TimeSlice,
};
use anabranch_split::{
    Basis, Checksum, Serving, SplitReason, SplitRecord, SplitState, Step, Target, target_bucket,
};
use anabranch_storage::{
    EventBounds, EventStore, Moved, PartitionAppend, ScanRequest, SplitSlot, StoredSplit, TableKind,
    TableName,
};

use crate::context::ResponseContext;
use crate::read::AheadLimits;
use crate::read::request::{EventPage, Latency, Paging, ReadRequest};
use crate::settings::ServerSettings;
use crate::split::{OriginalReason, Splits};
use crate::testing::{HOUR, NOON, Server};

pub(super) fn time(micros: i64) -> EventTime {
    EventTime::from_micros(micros)
}

/// One slice for all time, buckets of an hour.
pub(super) fn settings(rollout: Rollout, event_buckets: u32) -> NamespaceSettings {
    let defaults = NamespaceSettings::default();
    NamespaceSettings {
        seconds_per_time_slice: 0,
        seconds_per_time_bucket: HOUR,
        event_buckets,
        wide_partition: WidePartition {
            rollout,
            compare_ratio: 1.0,
            detect_bytes: 4_096,
            ..defaults.wide_partition
        },
        ..defaults
    }
}

/// How a partition is split.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// Events in a target.
    pub(super) events: usize,
    /// The targets hold what comes before this.
    pub(super) boundary: EventTime,
    /// The targets up to this boundary are of an earlier generation.
    pub(super) extended_from: Option<EventTime>,
}

pub(super) struct Split(pub(super) Server);

impl Split {
    pub(super) async fn start(rollout: Rollout, event_buckets: u32) -> Self {
        Self::start_with(rollout, event_buckets, ServerSettings::default()).await
    }

    pub(super) async fn start_reading_ahead(
        rollout: Rollout,
        event_buckets: u32,
        limits: AheadLimits,
    ) -> Self {
        let mut settings = ServerSettings::default();
        settings.read.ahead = Some(limits);
        Self::start_with(rollout, event_buckets, settings).await
    }

    pub(super) async fn start_with(rollout: Rollout, event_buckets: u32, server: ServerSettings) -> Self {
        let server = Server::over(Arc::default(), NOON, server).await;
        server.create(settings(rollout, event_buckets)).await;
        server.settle().await;
        Self(server)
    }

    pub(super) fn splits(&self) -> &Splits {
        &self.0.core.splits
    }

    pub(super) fn originals(&self, reason: OriginalReason) -> u64 {
        self.splits().metrics().originals(reason)
    }

    pub(super) async fn slice(&self) -> TimeSlice {
        let view = self.0.core.namespaces.view(&self.0.ns()).await.unwrap();
        view.slice_of(time(0)).unwrap().clone()
    }

    pub(super) async fn table(&self, kind: TableKind) -> TableName {
        TableName {
            namespace: self.0.ns(),
            kind,
            slice: self.slice().await.name,
        }
    }

    pub(super) async fn write(&self, records: &[EventRecord]) {
        let (slice, table) = (self.slice().await, self.table(TableKind::Data).await);
        let mut parts: BTreeMap<PartitionKey, Vec<Event>> = BTreeMap::new();
        for record in records {
            let partition = slice.partition_of(&record.time_series_id, &record.event.key);
            parts.entry(partition).or_default().push(record.event.clone());
        }
        let append = |(partition, events)| PartitionAppend {
            table: table.clone(),
            partition,
            events,
            consistency: Consistency::default(),
        };
        let store = &self.0.faults.store;
        store
            .append(parts.into_iter().map(append).collect())
            .await
            .unwrap();
    }

    pub(super) async fn partitions(&self) -> Vec<PartitionKey> {
        let table = self.table(TableKind::Data).await;
        let store = &self.0.faults.store;
        store.partitions(&table, None, usize::MAX).await.unwrap()
    }

    pub(super) async fn partition(&self, id: &str) -> PartitionKey {
        let id = TimeSeriesId::new(id).unwrap();
        let all = self.partitions().await;
        all.into_iter()
            .find(|partition| partition.time_series_id == id)
            .unwrap()
    }

    pub(super) async fn stored(&self, partition: &PartitionKey) -> Option<StoredSplit> {
        match self
            .splits()
            .records()
            .get(&self.0.ns(), partition)
            .await
            .unwrap()
        {
            SplitSlot::Taken(stored) => Some(stored),
            SplitSlot::Free { .. } | SplitSlot::Unreadable(_) => None,
        }
    }

    pub(super) async fn basis(&self) -> Basis {
        let view = self.0.core.namespaces.view(&self.0.ns()).await.unwrap();
        Basis {
            incarnation: view.incarnation,
            epoch: self.slice().await.epoch,
        }
    }

    /// Writes the targets of a partition and stores that they are served. False when nothing lies before the boundary.
    pub(super) async fn split(&self, partition: &PartitionKey, cut: Cut) -> bool {
        let basis = self.basis().await;
        self.split_on(partition, cut, basis).await
    }

    pub(super) async fn split_on(&self, partition: &PartitionKey, cut: Cut, basis: Basis) -> bool {
        // What a read found broken may be invalidated at the same time.
        for _ in 0..5 {
            if let Some(split) = self.try_split(partition, cut, basis).await {
                return split;
            }
        }
        panic!("overtaken again and again");
    }

    async fn try_split(&self, partition: &PartitionKey, cut: Cut, basis: Basis) -> Option<bool> {
        let (ns, records) = (self.0.ns(), self.splits().records());
        let slot = records.get(&ns, partition).await.unwrap();
        let generation = match &slot {
            SplitSlot::Taken(stored) => stored.record.generation + 2,
            SplitSlot::Free { version } => u32::try_from(*version).unwrap() + 2,
            SplitSlot::Unreadable(unreadable) => panic!("{unreadable:?}"),
        };
        let mut targets = Vec::new();
        let middle = cut.extended_from.unwrap_or(cut.boundary).min(cut.boundary);
        for (generation, start, end) in [
            (generation - 1, TimeInterval::ALL.start, middle),
            (generation, middle, cut.boundary),
        ] {
            targets.extend(
                self.copy(partition, generation, TimeInterval { start, end }, cut.events)
                    .await,
            );
        }
        if targets.is_empty() {
            return Some(false);
        }
        let mut record = SplitRecord::detected(partition.clone(), 1 << 30, self.0.now());
        record.generation = generation;
        record.state = SplitState::Completed;
        record.serving = Some(Serving {
            generation,
            basis,
            boundary: cut.boundary,
            targets,
            since: self.0.now(),
        });
        let version = match slot {
            SplitSlot::Free { version } => version,
            SplitSlot::Taken(stored) => stored.version,
            SplitSlot::Unreadable(unreadable) => unreadable.version,
        };
        let moved = records.create(&ns, version, record).await.unwrap();
        if moved == Moved::Overtaken {
            return None;
        }
        self.splits().refresh_now().await;
        self.splits().forget(&ns, partition).await;
        Some(true)
    }

    async fn copy(
        &self,
        partition: &PartitionKey,
        generation: u32,
        interval: TimeInterval,
        events_max: usize,
    ) -> Vec<Target> {
        let (data, wide) = (
            self.table(TableKind::Data).await,
            self.table(TableKind::Wide).await,
        );
        let (store, slice) = (&self.0.faults.store, self.slice().await);
        store.create_table(&wide).await.unwrap();
        let scan = ScanRequest {
            table: data,
            partition: partition.clone(),
            bounds: EventBounds::of_interval(interval),
            direction: Direction::Ascending,
            events_max: usize::MAX,
            bytes_max: usize::MAX,
            consistency: Consistency::default(),
        };
        let events = store.scan(&scan).await.unwrap().events;
        let mut targets = Vec::new();
        for (index, events) in (0..).zip(events.chunks(events_max)) {
            let mut checksum = Checksum::default();
            for event in events.iter().rev() {
                checksum.add_event(&partition.time_series_id, event);
            }
            let buckets = slice.settings.event_buckets;
            let bucket = target_bucket(generation, buckets, partition.event_bucket, index);
            let target = Target {
                generation,
                event_bucket: bucket.unwrap(),
                oldest: events[0].key.clone(),
                newest: events[events.len() - 1].key.clone(),
                checksum,
            };
            let append = PartitionAppend {
                table: wide.clone(),
                partition: target.partition(partition),
                events: events.to_vec(),
                consistency: Consistency::default(),
            };
            store.append(vec![append]).await.unwrap();
            targets.push(target);
        }
        targets
    }

    /// Takes the event out of the target that holds it, or puts another in its place.
    pub(super) async fn damage(&self, partition: &PartitionKey, target: usize, events: Vec<Event>) {
        let serving = self.stored(partition).await.unwrap().record.serving.unwrap();
        let target = serving.targets[target].partition(partition);
        let (store, table) = (&self.0.faults.store, self.table(TableKind::Wide).await);
        store.delete_partition(&table, &target).await.unwrap();
        let append = PartitionAppend {
            table,
            partition: target,
            events,
            consistency: Consistency::default(),
        };
        store.append(vec![append]).await.unwrap();
    }

    pub(super) async fn target_events(&self, partition: &PartitionKey, target: usize) -> Vec<Event> {
        let serving = self.stored(partition).await.unwrap().record.serving.unwrap();
        let scan = ScanRequest {
            table: self.table(TableKind::Wide).await,
            partition: serving.targets[target].partition(partition),
            bounds: EventBounds::of_interval(TimeInterval::ALL),
            direction: Direction::Ascending,
            events_max: usize::MAX,
            bytes_max: usize::MAX,
            consistency: Consistency::default(),
        };
        self.0.faults.store.scan(&scan).await.unwrap().events
    }

    pub(super) async fn invalidate(&self, partition: &PartitionKey) {
        let Some(stored) = self.stored(partition).await else {
            return;
        };
        let step = Step::Invalidate {
            reason: SplitReason::Operator,
        };
        let records = self.splits().records();
        records
            .step(&self.0.ns(), &stored, step, self.0.now())
            .await
            .unwrap();
    }

    pub(super) fn request(&self, id: &str, direction: Direction, page_size: usize) -> ReadRequest {
        ReadRequest {
            namespace: self.0.ns(),
            time_series_id: TimeSeriesId::new(id).unwrap(),
            interval: TimeInterval::ALL,
            filters: Vec::new(),
            direction,
            paging: Paging {
                page_size,
                ..Paging::default()
            },
            latency: Latency::default(),
        }
    }

    pub(super) async fn page(&self, request: &ReadRequest) -> EventPage {
        let view = self.0.core.namespaces.view_for_read(&self.0.ns()).await.unwrap();
        self.0.core.reader.read(&view, request.clone()).await.unwrap()
    }

    pub(super) async fn walk(&self, request: &ReadRequest) -> (Vec<EventRecord>, Vec<ResponseContext>) {
        let (mut request, mut records, mut contexts) = (request.clone(), Vec::new(), Vec::new());
        loop {
            let page = self.page(&request).await;
            records.extend(page.records);
            contexts.push(page.context);
            request.paging.page_token = page.next_page_token;
            if request.paging.page_token.is_empty() {
                return (records, contexts);
            }
        }
    }

    /// Sets the rollout and has every server-side view follow.
    pub(super) async fn rollout(&self, rollout: Rollout) {
        let change = |settings: &NamespaceSettings| {
            let mut settings = settings.clone();
            settings.wide_partition.rollout = rollout;
            Ok(settings)
        };
        self.0.core.keeper.update(&self.0.ns(), change).await.unwrap();
        self.splits().refresh_now().await;
    }

    pub(super) async fn rollout_now(&self) -> Rollout {
        let view = self.0.core.namespaces.view(&self.0.ns()).await.unwrap();
        view.settings.wide_partition.rollout
    }
}

/// Events of an id, a second apart from the epoch on, of two items each.
pub(super) fn seconds_of(id: &str, events: i64) -> Vec<EventRecord> {
    let one = |n| {
        let mut record = crate::testing::event(id, time(n * 1_000_000), &format!("e{n:05}"), "value");
        let mut other = record.event.items[0].clone();
        other.key = anabranch_model::ItemKey::new("other").unwrap();
        record.event.items.push(other);
        record
    };
    (0..events).map(one).collect()
}

pub(super) fn whole(events: usize) -> Cut {
    Cut {
        events,
        boundary: time(HOUR * 1_000_000),
        extended_from: None,
    }
}
