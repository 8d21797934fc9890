//! What comes of a detection when nothing is in the way.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anabranch_bus::DetectionBus;
use anabranch_model::namespace::Rollout;
use anabranch_model::{Consistency, NamespaceSettings};
use anabranch_planner::DryPlan;
use anabranch_split::{SplitReason, SplitRecord, SplitState};
use anabranch_storage::{SplitSlot, TableKind};

use super::store::Eventful;
use super::world::{EVENTS, HOUR, RETIRE_AFTER, World, at, buckets, event, namespace, partition, rows};

#[tokio::test]
async fn a_detected_partition_is_split_and_holds_the_same_rows() {
    let world = World::with_a_wide_partition().await;
    let before = rows(&world.store, TableKind::Data, &partition(0)).await;
    let (mut planner, mut splitter) = (world.planner(1), world.splitter(2));
    world.settle(&mut planner, &mut splitter).await;
    let serving = world.proved(0).await;
    assert_eq!(serving.boundary, at(HOUR));
    assert!(serving.targets.len() >= 5);
    assert_eq!(buckets(&serving), world.wide_buckets().await);
    assert_eq!(
        rows(&world.store, TableKind::Data, &partition(0)).await,
        before,
        "S1"
    );
    assert!(world.bus.receive(10).await.unwrap().is_empty());

    world.detect(partition(0)).await;
    world.settle(&mut planner, &mut splitter).await;
    assert_eq!(world.proved(0).await, serving, "all of it is split");
}

#[tokio::test]
async fn workers_see_what_was_acked_whatever_the_namespace_is_content_with() {
    for (write, survey) in [
        (Consistency::LocalOne, "LOCAL_QUORUM"),
        (Consistency::LocalQuorum, "LOCAL_QUORUM"),
        (Consistency::Quorum, "QUORUM"),
        (Consistency::EachQuorum, "LOCAL_QUORUM"),
    ] {
        let world = World::with_a_wide_partition().await;
        let content = |settings: &mut NamespaceSettings| {
            settings.write_consistency = write;
            settings.read_consistency = Consistency::LocalOne;
        };
        world.change(content).await;
        let (mut planner, mut splitter) = (world.planner(1), world.splitter(2));
        world.settle(&mut planner, &mut splitter).await;
        world.proved(0).await;
        let asked = world.eventful.asked.lock().unwrap().clone();
        let expected = [
            ("read a target", "LOCAL_QUORUM"),
            ("read an original", survey),
            ("write a target", "LOCAL_QUORUM"),
        ];
        assert_eq!(asked, BTreeSet::from(expected), "{write:?}");
    }
}

#[tokio::test]
async fn a_plan_waits_for_the_table_of_its_targets() {
    let world = World::with_a_wide_partition().await;
    let (mut planner, mut splitter) = (world.planner(1), world.splitter(2));
    assert_eq!(planner.round().await.unwrap().moved, 1);
    let progress = splitter.round().await.unwrap();
    assert_eq!((progress.moved, progress.waiting), (0, 1));
    world.keep().await;
    assert_eq!(splitter.round().await.unwrap().moved, 1);
    world.proved(0).await;
}

#[tokio::test]
async fn how_far_healing_goes_is_the_namespaces_to_say() {
    for (rollout, detected) in [(Rollout::Off, false), (Rollout::Detect, true)] {
        let world = World::at(12 * HOUR, rollout).await;
        world.fill(0, EVENTS, 10).await;
        world.detect(partition(0)).await;
        let (mut planner, mut splitter) = (world.planner(1), world.splitter(2));
        world.settle(&mut planner, &mut splitter).await;
        let slot = world.splits.get(&namespace(), &partition(0)).await.unwrap();
        match slot {
            SplitSlot::Taken(stored) => {
                assert!(detected);
                assert_eq!(stored.record.state, SplitState::Detected);
            }
            SplitSlot::Free { .. } => assert!(!detected),
            SplitSlot::Unreadable(unreadable) => panic!("{unreadable:?}"),
        }
        assert!(world.bus.receive(10).await.unwrap().is_empty(), "it was acked");
    }
}

#[tokio::test]
async fn detections_of_nothing_are_acked() {
    let world = World::at(12 * HOUR, Rollout::Split).await;
    let mut elsewhere = partition(0);
    elsewhere.slice = anabranch_model::SliceName::new("20200101").unwrap();
    world.detect(elsewhere).await;
    world.detect(partition(1_000)).await;
    assert_eq!(world.planner(1).round().await.unwrap().detections, 2);
    assert!(world.bus.receive(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_small_partition_is_left_alone() {
    let world = World::at(12 * HOUR, Rollout::Split).await;
    world.fill(0, 20, 10).await;
    world.detect(partition(0)).await;
    let (mut planner, mut splitter) = (world.planner(1), world.splitter(2));
    world.settle(&mut planner, &mut splitter).await;
    let record = world.record(0).await;
    assert_eq!(record.state.name(), "NOT_WORTH_IT");
    assert_eq!(record.reason, Some(SplitReason::Small));
}

#[tokio::test]
async fn a_partition_that_is_still_mutable_is_parked() {
    let world = World::at(HOUR + 60, Rollout::Split).await;
    world.fill(HOUR, EVENTS, 10).await;
    world.detect(partition(1)).await;
    let mut planner = world.planner(1);
    planner.round().await.unwrap();
    let record = world.record(1).await;
    assert_eq!(record.state.name(), "PARKED");
    assert_eq!(record.reason, Some(SplitReason::Mutable));
    assert_eq!(
        planner.round().await.unwrap().needed,
        0,
        "nothing can have changed"
    );
}

#[tokio::test]
async fn the_prefix_of_a_mutable_partition_is_split_and_extended() {
    // 40 minutes of the hour have passed; events are accepted 10 minutes back.
    let world = World::at(40 * 60, Rollout::Split).await;
    world.fill(0, EVENTS / 2, 10).await;
    world.detect(partition(0)).await;
    let (mut planner, mut splitter) = (world.planner(1), world.splitter(2));
    for _ in 0..3 {
        planner.round().await.unwrap();
        world.keep().await;
        splitter.round().await.unwrap();
    }
    let first = world.proved(0).await;
    assert!(first.boundary > at(25 * 60) && first.boundary < at(32 * 60));
    let late = rows(&world.store, TableKind::Data, &partition(0)).await;
    assert!(late.iter().all(|event| event.key.time < first.boundary) || first.targets.len() > 1);

    world.fill(31 * 60, EVENTS / 2, 5).await;
    world.clock.advance(Duration::from_secs(60 * 60));
    world.detect(partition(0)).await;
    world.settle(&mut planner, &mut splitter).await;
    let second = world.proved(0).await;
    assert_eq!(second.boundary, at(HOUR));
    assert!(second.generation > first.generation);
    let (kept, added) = second.targets.split_at(first.targets.len());
    assert_eq!(kept, first.targets);
    assert!(!added.is_empty());
    assert!(added.iter().all(|target| target.oldest.time >= first.boundary));
}

#[tokio::test]
async fn an_extension_without_room_divides_the_whole_again() {
    let world = World::at(40 * 60, Rollout::Split).await;
    world.fill(0, EVENTS / 2, 10).await;
    world.detect(partition(0)).await;
    let (mut planner, mut splitter) = (world.planner(1), world.splitter(2));
    for _ in 0..3 {
        planner.round().await.unwrap();
        world.keep().await;
        splitter.round().await.unwrap();
    }
    let first = world.proved(0).await;
    let targets_max = u32::try_from(first.targets.len() + 1).unwrap();
    world
        .change(|settings| settings.wide_partition.targets_max = targets_max)
        .await;
    world.fill(31 * 60, EVENTS / 2, 5).await;
    world.clock.advance(Duration::from_secs(60 * 60));
    world.detect(partition(0)).await;
    world.settle(&mut planner, &mut splitter).await;
    let second = world.proved(0).await;
    assert_eq!(second.boundary, at(HOUR));
    assert_eq!(second.targets.len(), targets_max as usize);
    assert!(
        second
            .targets
            .iter()
            .all(|target| target.generation == second.generation),
        "none is kept"
    );
    assert_eq!(
        world.wide_buckets().await,
        buckets(&second),
        "the first are removed"
    );
}

#[tokio::test]
async fn a_partition_without_generations_left_is_for_an_operator() {
    let world = World::at(12 * HOUR, Rollout::Split).await;
    world.fill(0, EVENTS, 10).await;
    let record = SplitRecord {
        // The last of which the wide table's column holds all event buckets.
        generation: (1 << 21) - 1,
        ..SplitRecord::detected(partition(0), 1 << 20, at(0))
    };
    world.splits.create(&namespace(), 0, record).await.unwrap();
    let (mut planner, mut splitter) = (world.planner(1), world.splitter(2));
    assert_eq!(
        planner.dry().plan(&namespace(), &partition(0)).await.unwrap(),
        DryPlan::Exhausted
    );
    world.settle(&mut planner, &mut splitter).await;
    let record = world.record(0).await;
    assert_eq!(record.state, SplitState::Quarantined);
    assert_eq!(record.reason, Some(SplitReason::GenerationsExhausted));
    assert_eq!(record.serving, None);
}

#[tokio::test]
async fn targets_are_removed_only_when_nobody_can_read_them_any_more() {
    let world = World::with_a_wide_partition().await;
    let (mut planner, mut splitter) = (world.planner(1), world.splitter(2));
    world.settle(&mut planner, &mut splitter).await;
    let serving = world.proved(0).await;
    world.invalidate(0, SplitReason::Operator).await;
    splitter.round().await.unwrap();
    world.clock.advance(RETIRE_AFTER - Duration::from_secs(1));
    splitter.round().await.unwrap();
    assert_eq!(world.wide_buckets().await, buckets(&serving));
    // Another process has only seen them now.
    let mut other = world.splitter(3);
    other.round().await.unwrap();
    world.clock.advance(Duration::from_secs(1));
    other.round().await.unwrap();
    assert_eq!(world.wide_buckets().await, buckets(&serving));
    splitter.round().await.unwrap();
    assert!(world.wide_buckets().await.is_empty());
    let record = world.record(0).await;
    assert_eq!((record.state, record.retiring.len()), (SplitState::Retired, 0));
}

/// As where the clock of who wrote them is ahead of that of who removes them.
#[tokio::test]
async fn targets_that_outlive_their_removal_are_removed_again() {
    let world = World::with_a_wide_partition().await;
    let (mut planner, mut splitter) = (world.planner(1), world.splitter(2));
    world.settle(&mut planner, &mut splitter).await;
    let serving = world.proved(0).await;
    world.invalidate(0, SplitReason::Operator).await;
    let store = Eventful::over(world.store.clone());
    store.deaf_to_removals.store(2, Ordering::Relaxed);
    let mut splitter = world.splitter_over(store, 3, false);
    splitter.round().await.unwrap();
    world.clock.advance(RETIRE_AFTER);
    for _ in 0..2 {
        splitter.round().await.unwrap();
        assert_eq!(world.wide_buckets().await, buckets(&serving));
        assert_eq!(world.record(0).await.retiring.len(), 1);
    }
    splitter.round().await.unwrap();
    assert!(world.wide_buckets().await.is_empty());
    assert_eq!(world.record(0).await.state, SplitState::Retired);
}

#[tokio::test]
async fn a_damaged_split_is_made_again_by_itself() {
    let world = World::with_a_wide_partition().await;
    let (mut planner, mut splitter) = (world.planner(1), world.splitter(2));
    world.settle(&mut planner, &mut splitter).await;
    let first = world.proved(0).await;
    world.invalidate(0, SplitReason::TargetDamaged).await;
    world.settle(&mut planner, &mut splitter).await;
    let second = world.proved(0).await;
    assert!(second.generation > first.generation);
    assert_eq!(world.wide_buckets().await, buckets(&second));
}

#[tokio::test]
async fn a_dry_plan_is_the_plan_that_would_be_made_and_leaves_no_record() {
    let world = World::with_a_wide_partition().await;
    let (mut planner, mut splitter) = (world.planner(1), world.splitter(2));
    let dry = planner.dry().plan(&namespace(), &partition(0)).await.unwrap();
    let slot = world.splits.get(&namespace(), &partition(0)).await.unwrap();
    assert_eq!(slot, SplitSlot::Free { version: 0 });
    world.settle(&mut planner, &mut splitter).await;
    let DryPlan::Plan { plan, total } = dry else {
        panic!("it is wide");
    };
    let serving = world.proved(0).await;
    assert_eq!((plan.targets, total), (serving.targets.clone(), serving.total()));

    world.write(event(at(11 * HOUR + 3_599), "e")).await;
    let dry = planner.dry();
    assert!(matches!(
        dry.plan(&namespace(), &partition(1)).await.unwrap(),
        DryPlan::TooSmall { .. }
    ));
    assert!(matches!(
        dry.plan(&namespace(), &partition(23)).await.unwrap(),
        DryPlan::Mutable { .. }
    ));
    assert_eq!(
        dry.plan(&namespace(), &partition(24)).await.unwrap(),
        DryPlan::Unknown
    );
}
