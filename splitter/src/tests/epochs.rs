//! S4: what was immutable when a split began, and is opened before it ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anabranch_storage::TableKind;
use anabranch_storage::memory::MemoryStore;

use super::world::{World, at, event, open_again, partition, rows, write};

async fn open_and_write(store: Arc<MemoryStore>) {
    open_again(&store).await;
    write(&store, event(at(61), "late")).await;
}

#[tokio::test]
async fn a_slice_opened_anywhere_in_a_split_is_split_again_with_what_came_late() {
    let undisturbed = World::with_a_wide_partition().await;
    let (mut planner, mut splitter) = (undisturbed.planner(1), undisturbed.splitter(2));
    planner.round().await.unwrap();
    undisturbed.keep().await;
    splitter.round().await.unwrap();
    for call in (0..undisturbed.eventful.calls()).step_by(2) {
        let world = World::with_a_wide_partition().await;
        world.eventful.on(open_and_write);
        world.eventful.deed_at.store(call, Ordering::Relaxed);
        let (mut planner, mut splitter) = (world.planner(1), world.splitter(2));
        world.settle(&mut planner, &mut splitter).await;
        let serving = world.proved(0).await;
        assert_eq!(serving.basis.epoch, 1, "opened at call {call}");
        let original = rows(&world.store, TableKind::Data, &partition(0)).await;
        assert!(original.iter().any(|event| event.key.id.as_str() == "late"));
    }
}

#[tokio::test]
async fn a_slice_that_is_closed_loses_its_splits() {
    let world = World::with_a_wide_partition().await;
    let (mut planner, mut splitter) = (world.planner(1), world.splitter(2));
    world.settle(&mut planner, &mut splitter).await;
    world.proved(0).await;
    let close = |record: &mut anabranch_catalog::SliceRecord| {
        record.slice.state = anabranch_model::SliceState::Closed;
    };
    let (store, slice) = (&*world.store, partition(0).slice);
    anabranch_catalog::change_slice(store, &super::world::namespace(), &slice, 1, close)
        .await
        .unwrap();
    world.settle(&mut planner, &mut splitter).await;
    let record = world.record(0).await;
    assert_eq!(record.serving, None);
    assert_eq!(record.reason, Some(anabranch_split::SplitReason::SliceGone));
    assert!(world.wide_buckets().await.is_empty());
}
