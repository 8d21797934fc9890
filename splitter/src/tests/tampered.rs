//! S2: targets that do not hold exactly what the original holds are never served.

use std::sync::Arc;

use anabranch_model::{Event, PartitionKey};
use anabranch_split::{SplitReason, SplitState, Step};
use anabranch_storage::memory::MemoryStore;
use anabranch_storage::{EventStore, Moved, TableKind};
use bytes::Bytes;

use super::world::{World, append, at, buckets, namespace, rows, table};

#[derive(Clone, Copy, Debug)]
enum Harm {
    Drop,
    Double,
    Swap,
    Move,
    Flip,
}

/// Does it to the targets that were written last.
async fn harm(store: Arc<MemoryStore>, how: Harm) {
    let partitions = store
        .partitions(&table(TableKind::Wide), None, 1_000)
        .await
        .unwrap();
    let [.., other, target] = partitions.as_slice() else {
        panic!("there are several targets");
    };
    let mut events = rows(&store, TableKind::Wide, target).await;
    match how {
        Harm::Drop => drop(events.remove(3)),
        Harm::Double => append(&store, TableKind::Wide, other.clone(), vec![events[3].clone()]).await,
        Harm::Swap => {
            let (one, two) = (events[3].items.clone(), events[4].items.clone());
            (events[3].items, events[4].items) = (two, one);
        }
        Harm::Move => {
            let moved = events.remove(3);
            append(&store, TableKind::Wide, other.clone(), vec![moved]).await;
        }
        Harm::Flip => {
            let mut value = events[3].items[0].value.to_vec();
            value[7] ^= 1;
            events[3].items[0].value = Bytes::from(value);
        }
    }
    replace(&store, target, events).await;
}

async fn replace(store: &Arc<MemoryStore>, target: &PartitionKey, events: Vec<Event>) {
    store
        .delete_partition(&table(TableKind::Wide), target)
        .await
        .unwrap();
    append(store, TableKind::Wide, target.clone(), events).await;
}

async fn is_never_served(how: Harm) {
    let world = World::with_a_wide_partition().await;
    world.eventful.on(move |store| harm(store, how));
    *world.eventful.deed_before_reading_back.lock().unwrap() = true;
    let (mut planner, mut splitter) = (world.planner(1), world.splitter(2));
    world.settle(&mut planner, &mut splitter).await;
    let record = world.record(0).await;
    assert_eq!(record.state, SplitState::Quarantined, "{how:?}");
    assert_eq!(record.reason, Some(SplitReason::ChecksumMismatch));
    assert_eq!((record.serving, record.attempts, record.generation), (None, 3, 3));
    assert!(!record.detail.is_empty());
    assert!(world.wide_buckets().await.is_empty(), "what was tried is removed");

    // What did the harm is gone, and an operator sends it round again.
    *world.eventful.deed_before_reading_back.lock().unwrap() = false;
    let stored = world.stored(0).await;
    let moved = world.splits.step(&namespace(), &stored, Step::Retry, at(0)).await;
    assert!(matches!(moved.unwrap(), Moved::To(_)));
    world.settle(&mut planner, &mut splitter).await;
    let serving = world.proved(0).await;
    assert_eq!(serving.generation, 4);
    assert_eq!(world.wide_buckets().await, buckets(&serving));
}

#[tokio::test]
async fn a_target_without_a_row_is_never_served() {
    is_never_served(Harm::Drop).await;
}

#[tokio::test]
async fn a_row_that_is_there_twice_is_never_served() {
    is_never_served(Harm::Double).await;
}

#[tokio::test]
async fn rows_that_were_swapped_are_never_served() {
    is_never_served(Harm::Swap).await;
}

#[tokio::test]
async fn a_row_in_the_wrong_target_is_never_served() {
    is_never_served(Harm::Move).await;
}

#[tokio::test]
async fn a_flipped_bit_is_never_served() {
    is_never_served(Harm::Flip).await;
}
