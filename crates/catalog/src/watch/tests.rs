use std::collections::BTreeSet;
use std::sync::Arc;

use anabranch_model::{NamespaceSettings, PartitionSettings, TimeInterval, TimeSeriesId, TimeSlice};
use anabranch_split::{SplitReason, SplitRecord, Step};
use anabranch_storage::memory::MemoryStore;
use anabranch_storage::{CasOutcome, Moved, RecordKey, RecordStore, SplitSlot};

use super::*;
use crate::load::load;
use crate::stored::{NamespaceRecord, SliceRecord, Stored};

const NOW: EventTime = EventTime::from_micros(1_000_000);
const WHOLE: Duration = Duration::from_secs(300);

struct World {
    records: Arc<MemoryStore>,
    splits: SplitRecords,
    watch: SplitWatch,
    elapsed: Duration,
}

fn name() -> NamespaceName {
    NamespaceName::new("ns").unwrap()
}

fn slice_name() -> SliceName {
    SliceName::new("all").unwrap()
}

fn partition(id: &str) -> PartitionKey {
    PartitionKey {
        slice: slice_name(),
        time_series_id: TimeSeriesId::new(id).unwrap(),
        time_bucket: 0,
        event_bucket: 0,
    }
}

impl World {
    async fn new() -> Self {
        let records = Arc::new(MemoryStore::new());
        let splits = SplitRecords::new(records.clone());
        let world = Self {
            watch: SplitWatch::new(splits.clone(), WHOLE),
            records,
            splits,
            elapsed: Duration::ZERO,
        };
        let namespace = NamespaceRecord::new(NamespaceSettings::default(), 1, NOW);
        let key = NamespaceRecord::key(&name());
        world.put(&key, 0, namespace.encode().unwrap()).await;
        world.put_slice(0, 1).await;
        for id in ["a", "b", "c", "d"] {
            let record = SplitRecord::detected(partition(id), 1, NOW);
            world.splits.create(&name(), 0, record).await.unwrap();
        }
        world
    }

    async fn put(&self, key: &RecordKey, version: u64, bytes: bytes::Bytes) {
        let outcome = self.records.compare_and_set(key, version, Some(bytes)).await;
        assert!(matches!(outcome.unwrap(), CasOutcome::Applied { .. }));
    }

    async fn put_slice(&self, version: u64, epoch: u64) {
        let settings = PartitionSettings {
            seconds_per_time_bucket: 3_600,
            event_buckets: 1,
        };
        let mut slice = TimeSlice::cut(slice_name(), TimeInterval::ALL, settings);
        slice.epoch = epoch;
        let record = SliceRecord::new(slice, 1);
        let key = RecordKey::TimeSlice {
            namespace: name(),
            slice: slice_name(),
        };
        self.put(&key, version, record.encode().unwrap()).await;
    }

    /// The ids that a sweep looks at.
    async fn sweep(&mut self, now: EventTime, answer: Look) -> BTreeSet<String> {
        let namespace = load(&*self.records, &name(), None).await.unwrap().unwrap();
        let mut looked = BTreeSet::new();
        let mut look = |stored: &StoredSplit| {
            looked.insert(stored.record.partition.time_series_id.to_string());
            answer
        };
        let needed = self
            .watch
            .sweep(&namespace, self.elapsed, now, &mut look)
            .await
            .unwrap();
        assert_eq!(
            needed.len(),
            if answer == Look::Needed { looked.len() } else { 0 }
        );
        looked
    }

    async fn invalidate(&self, id: &str) {
        let SplitSlot::Taken(stored) = self.splits.get(&name(), &partition(id)).await.unwrap() else {
            panic!("it was created");
        };
        let reason = SplitReason::Operator;
        let moved = self
            .splits
            .step(&name(), &stored, Step::Invalidate { reason }, NOW)
            .await;
        assert!(matches!(moved.unwrap(), Moved::To(_)));
    }
}

const IDLE: Look = Look::Idle(Wake::Change);

fn all() -> BTreeSet<String> {
    ["a", "b", "c", "d"].map(String::from).into()
}

#[tokio::test]
async fn what_waits_for_somebody_stands_still_and_what_is_only_detected_does_not() {
    for (look, stalled) in [(Look::Idle(Wake::Next), Some(NOW)), (IDLE, None)] {
        let mut world = World::new().await;
        world.sweep(NOW, look).await;
        assert_eq!(world.watch.stalled_since(), stalled);
    }
}

#[tokio::test]
async fn a_namespace_that_is_gone_is_named_once() {
    let mut world = World::new().await;
    world.sweep(NOW, IDLE).await;
    assert_eq!(world.watch.retain(&BTreeSet::from([name()])), []);
    assert_eq!(world.watch.retain(&BTreeSet::new()), [name()]);
    assert_eq!(world.watch.retain(&BTreeSet::new()), []);
}

#[tokio::test]
async fn what_did_not_change_is_not_looked_at_again() {
    let mut world = World::new().await;
    assert_eq!(world.sweep(NOW, IDLE).await, all());
    assert_eq!(world.sweep(NOW, IDLE).await, BTreeSet::new());
    assert_eq!(world.watch.states(&name())["DETECTED"], 4);
    assert_eq!(world.watch.stalled_since(), None);
    world.invalidate("b").await;
    let looked = world.sweep(NOW, IDLE).await;
    assert!(looked.contains("b"));
    let shard = |id: &str| split_shard(&partition(id).time_series_id);
    assert!(looked.iter().all(|id| shard(id) == shard("b")));
    assert_eq!(world.watch.states(&name())["DETECTED"], 3);
}

#[tokio::test]
async fn records_are_looked_at_again_when_they_ask_for_it() {
    let mut world = World::new().await;
    let later = NOW.saturating_add(Duration::from_secs(1));
    assert_eq!(world.sweep(NOW, Look::Needed).await, all());
    assert_eq!(world.sweep(NOW, Look::Idle(Wake::Next)).await, all());
    assert_eq!(world.sweep(NOW, Look::Idle(Wake::At(later))).await, all());
    assert_eq!(world.sweep(NOW, IDLE).await, BTreeSet::new());
    assert_eq!(world.sweep(later, IDLE).await, all());
    world.watch.note(&name(), &partition("c"));
    assert!(world.sweep(later, IDLE).await.contains("c"));
}

#[tokio::test]
async fn a_slice_that_changed_has_its_records_looked_at() {
    let mut world = World::new().await;
    world.sweep(NOW, IDLE).await;
    world.put_slice(1, 2).await;
    assert_eq!(world.sweep(NOW, IDLE).await, all());
    assert_eq!(world.sweep(NOW, IDLE).await, BTreeSet::new());
}

#[tokio::test]
async fn a_record_whose_marker_was_lost_is_found_by_the_whole_sweep() {
    let mut world = World::new().await;
    world.sweep(NOW, IDLE).await;
    // As a crash between the record and its marker leaves it.
    let key = RecordKey::Split {
        namespace: name(),
        partition: partition("e"),
    };
    let record = SplitRecord::detected(partition("e"), 1, NOW);
    world.put(&key, 0, record.encode().unwrap().into()).await;
    world.elapsed += WHOLE / 2;
    assert!(!world.sweep(NOW, IDLE).await.contains("e"));
    world.elapsed += WHOLE / 2;
    assert!(world.sweep(NOW, IDLE).await.contains("e"));
}

#[tokio::test]
async fn forgotten_records_are_not_counted() {
    let mut world = World::new().await;
    world.sweep(NOW, IDLE).await;
    world.splits.forget(&name(), Some(&slice_name())).await.unwrap();
    world.sweep(NOW, IDLE).await;
    assert_eq!(world.watch.states(&name()).values().sum::<u64>(), 0);
    assert_eq!(world.watch.stalled_since(), None);
}

#[tokio::test]
async fn records_that_can_not_be_read_are_counted_and_stop_no_other() {
    let mut world = World::new().await;
    for (id, bytes) in [("e", r#"{"v2":{}}"#), ("f", r#"{"v2":{}}"#), ("g", "{")] {
        let key = RecordKey::Split {
            namespace: name(),
            partition: partition(id),
        };
        world.put(&key, 0, bytes.as_bytes().into()).await;
    }
    let unreadable = [("NEWER_FORMAT", 2), ("DAMAGED", 1)];
    assert_eq!(world.sweep(NOW, IDLE).await, all());
    assert_eq!(world.watch.unreadable(&name()), BTreeMap::from(unreadable));
    assert_eq!(world.watch.states(&name())["DETECTED"], 4);
    // They are not looked at again and again, and are found gone.
    assert_eq!(world.sweep(NOW, IDLE).await, BTreeSet::new());
    assert_eq!(world.watch.unreadable(&name()), BTreeMap::from(unreadable));
    world.splits.forget(&name(), Some(&slice_name())).await.unwrap();
    assert_eq!(world.sweep(NOW, IDLE).await, BTreeSet::new());
    assert_eq!(
        world.watch.unreadable(&name()),
        BTreeMap::from([("NEWER_FORMAT", 0), ("DAMAGED", 0)])
    );
}
