//! S3, S5: several workers on one store.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anabranch_split::SplitState;
use tokio::sync::Notify;

use super::store::Eventful;
use super::world::{LEASE, World, buckets, make_wide_table};

#[tokio::test]
async fn two_planners_and_two_splitters_make_one_generation() {
    let world = World::with_a_wide_partition().await;
    let over = || Eventful::over(world.store.clone());
    let mut planners = [1, 2].map(|seed| world.planner_over(over(), seed, false));
    let mut splitters = [3, 4].map(|seed| world.splitter_over(over(), seed, false));
    for _ in 0..6 {
        let [one, two] = &mut planners;
        let [three, four] = &mut splitters;
        let rounds = tokio::join!(one.round(), two.round(), three.round(), four.round());
        assert!(rounds.0.is_ok() && rounds.1.is_ok() && rounds.2.is_ok() && rounds.3.is_ok());
        world.keep().await;
        world.clock.advance(Duration::from_secs(1));
    }
    let serving = world.proved(0).await;
    assert_eq!(serving.generation, 1);
    assert_eq!(world.wide_buckets().await, buckets(&serving));
}

/// A store whose call `at` waits until the bell rings; it rings another one when it has come to that.
fn held_up(world: &World, at: u64) -> (Arc<Eventful>, Arc<Notify>, Arc<Notify>) {
    let store = Eventful::over(world.store.clone());
    let (reached, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let bells = (reached.clone(), go_on.clone());
    store.on(move |_| {
        let (reached, go_on) = bells.clone();
        async move {
            reached.notify_one();
            go_on.notified().await;
        }
    });
    store.deed_at.store(at, Ordering::Relaxed);
    (store, reached, go_on)
}

#[tokio::test]
async fn a_planner_that_slept_finds_its_survey_taken_over_and_stops() {
    let probe = World::with_a_wide_partition().await;
    probe.planner(1).round().await.unwrap();
    let calls = probe.eventful.calls();
    for call in (0..calls).step_by(4) {
        let world = World::with_a_wide_partition().await;
        let (store, reached, go_on) = held_up(&world, call);
        let mut sleeper = world.planner_over(store, 1, false);
        let mut other = world.planner_over(Eventful::over(world.store.clone()), 2, false);
        let mut splitter = world.splitter(3);
        let (slept, ()) = tokio::join!(sleeper.round(), async {
            reached.notified().await;
            for _ in 0..3 {
                other.round().await.unwrap();
                world.clock.advance(LEASE);
            }
            world.settle(&mut other, &mut splitter).await;
            assert_eq!(
                world.record(0).await.state,
                SplitState::Completed,
                "asleep at call {call}"
            );
            go_on.notify_one();
        });
        slept.unwrap();
        world.settle(&mut other, &mut splitter).await;
        assert_eq!(world.proved(0).await.generation, 1, "asleep at call {call}");
    }
}

#[tokio::test]
async fn a_splitter_that_slept_finds_its_split_taken_over_and_changes_nothing() {
    let probe = World::with_a_wide_partition().await;
    probe.planner(1).round().await.unwrap();
    make_wide_table(&probe.store).await;
    let before = probe.eventful.calls();
    probe.splitter(2).round().await.unwrap();
    let calls = probe.eventful.calls() - before;
    for call in (0..calls).step_by(6) {
        let world = World::with_a_wide_partition().await;
        let mut planner = world.planner(1);
        planner.round().await.unwrap();
        world.keep().await;
        let (store, reached, go_on) = held_up(&world, call);
        let mut sleeper = world.splitter_over(store, 2, false);
        let mut other = world.splitter_over(Eventful::over(world.store.clone()), 3, false);
        let (slept, ()) = tokio::join!(sleeper.round(), async {
            reached.notified().await;
            for _ in 0..3 {
                other.round().await.unwrap();
                world.clock.advance(LEASE);
            }
            world.proved(0).await;
            go_on.notify_one();
        });
        slept.unwrap();
        let serving = world.proved(0).await;
        assert_eq!(serving.generation, 1, "asleep at call {call}");
        assert_eq!(world.wide_buckets().await, buckets(&serving));
    }
}
