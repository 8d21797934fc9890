use std::time::Duration;

use anabranch_catalog::{NamespaceRecord, SliceRecord, Stored, change_slice, store_slice};
use anabranch_model::{NamespaceSettings, PartitionSettings, TimeInterval, TimeSlice};
use anabranch_runtime::ManualClock;
use anabranch_storage::memory::MemoryStore;

use super::*;

const SETTLE: Duration = Duration::from_secs(30);
/// 600 s of accept limit, and 5 s of margin.
const BEHIND: i64 = 605;

fn at(seconds: i64) -> EventTime {
    EventTime::from_micros(seconds * 1_000_000)
}

fn namespace() -> NamespaceName {
    NamespaceName::new("ns").unwrap()
}

fn slice() -> SliceName {
    SliceName::new("19700101").unwrap()
}

struct World {
    records: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
    freezer: TimedFreezer,
}

impl World {
    /// A slice of a day; it is ten hours into it.
    async fn new() -> Self {
        let records = Arc::new(MemoryStore::new());
        let record = NamespaceRecord::new(NamespaceSettings::default(), 1, at(0));
        let key = NamespaceRecord::key(&namespace());
        let bytes = record.encode().unwrap();
        records.compare_and_set(&key, 0, Some(bytes)).await.unwrap();
        let interval = TimeInterval {
            start: at(0),
            end: at(86_400),
        };
        let settings = PartitionSettings {
            seconds_per_time_bucket: 3_600,
            event_buckets: 1,
        };
        let record = SliceRecord::new(TimeSlice::cut(slice(), interval, settings), 1);
        store_slice(&*records, &namespace(), 0, &record).await.unwrap();
        let clock = ManualClock::at(36_000 * 1_000_000);
        Self {
            freezer: TimedFreezer::new(records.clone(), clock.clone(), SETTLE),
            records,
            clock,
        }
    }

    async fn ask(&self, before: EventTime) -> Freeze {
        self.freezer.freeze(&namespace(), &slice(), before).await.unwrap()
    }

    async fn open(&self) {
        let open = |record: &mut SliceRecord| {
            record.slice.epoch += 1;
            record.slice.frozen_before = None;
        };
        change_slice(&*self.records, &namespace(), &slice(), 1, open)
            .await
            .unwrap();
    }
}

fn settled(before: i64, epoch: u64) -> Freeze {
    Freeze::Settled {
        before: at(before),
        basis: Basis {
            incarnation: 1,
            epoch,
        },
    }
}

#[tokio::test]
async fn a_freeze_counts_only_after_everyone_must_go_by_it() {
    let world = World::new().await;
    assert_eq!(world.ask(at(3_600)).await, Freeze::Waiting);
    world.clock.advance(SETTLE - Duration::from_secs(1));
    assert_eq!(world.ask(at(3_600)).await, Freeze::Waiting);
    world.clock.advance(Duration::from_secs(1));
    let first = settled(36_000 - BEHIND, 0);
    assert_eq!(world.ask(at(3_600)).await, first);
    assert_eq!(world.ask(at(7_200)).await, first, "partitions share a freeze");
}

#[tokio::test]
async fn a_time_that_is_always_a_little_later_is_reached() {
    let world = World::new().await;
    let mut settled = Vec::new();
    for _ in 0..200 {
        let now = world.clock.unix_micros() / 1_000_000;
        if let Freeze::Settled { before, .. } = world.ask(at(now - BEHIND)).await {
            settled.push(before);
        }
        world.clock.advance(Duration::from_secs(1));
    }
    assert!(settled.is_sorted());
    settled.dedup();
    assert!(settled.len() >= 3, "it moves on: {settled:?}");
}

#[tokio::test]
async fn what_was_seen_under_another_epoch_does_not_count() {
    let world = World::new().await;
    world.ask(at(3_600)).await;
    world.clock.advance(SETTLE);
    world.ask(at(3_600)).await;
    world.open().await;
    assert_eq!(world.ask(at(3_600)).await, Freeze::Waiting);
    world.clock.advance(SETTLE);
    assert!(matches!(world.ask(at(3_600)).await, Freeze::Settled { basis, .. } if basis.epoch == 1));
}

#[tokio::test]
async fn a_slice_that_is_not_there_is_not_frozen() {
    let world = World::new().await;
    let other = SliceName::new("20260101").unwrap();
    let outcome = world.freezer.freeze(&namespace(), &other, at(1)).await.unwrap();
    assert_eq!(outcome, Freeze::NotOpen);
}
