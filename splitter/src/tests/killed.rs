//! Workers that die, and stores that fail, between any two calls.

use std::time::Duration;

use anabranch_planner::Planner;

use super::world::World;
use crate::Splitter;

/// Rounds until something fails, or to the end.
async fn until_it_fails(world: &World, planner: &mut Planner, splitter: &mut Splitter) {
    for _ in 0..4 {
        if planner.round().await.is_err() {
            return;
        }
        world.keep().await;
        if splitter.round().await.is_err() {
            return;
        }
        world.clock.advance(Duration::from_secs(31));
    }
}

#[tokio::test]
async fn workers_that_died_anywhere_are_taken_over_and_the_split_is_the_same() {
    let undisturbed = World::with_a_wide_partition().await;
    until_it_fails(
        &undisturbed,
        &mut undisturbed.planner(1),
        &mut undisturbed.splitter(2),
    )
    .await;
    let expected = undisturbed.proved(0).await;
    let calls = undisturbed.eventful.calls();
    assert!(calls > 50, "{calls}");
    for call in 0..calls {
        let world = World::with_a_wide_partition().await;
        world.eventful.fail(call, u64::MAX);
        until_it_fails(&world, &mut world.planner(1), &mut world.splitter(2)).await;
        world.eventful.fail(u64::MAX, u64::MAX);
        let (mut planner, mut splitter) = (world.planner(3), world.splitter(4));
        world.settle(&mut planner, &mut splitter).await;
        let serving = world.proved(0).await;
        assert_eq!(serving.targets, expected.targets, "died at call {call}");
        assert_eq!(serving.boundary, expected.boundary);
    }
}

#[tokio::test]
async fn a_store_that_fails_once_anywhere_only_costs_time() {
    let undisturbed = World::with_a_wide_partition().await;
    until_it_fails(
        &undisturbed,
        &mut undisturbed.planner(1),
        &mut undisturbed.splitter(2),
    )
    .await;
    for call in (0..undisturbed.eventful.calls()).step_by(3) {
        let world = World::with_a_wide_partition().await;
        world.eventful.fail(call, call + 1);
        let (mut planner, mut splitter) = (world.planner(1), world.splitter(2));
        world.settle(&mut planner, &mut splitter).await;
        world.proved(0).await;
    }
}
