//! Both workers as they run, by timers, bus and bells, until they are told to stop.

use anabranch_model::namespace::Rollout;
use anabranch_split::SplitState;
use anabranch_storage::SplitSlot;
use tokio_util::sync::CancellationToken;

use super::world::{EVENTS, HOUR, World, namespace, partition};

/// Lets the workers run until a partition is split.
async fn until_completed(world: &World, time_bucket: i64) {
    for _ in 0..100_000 {
        tokio::task::yield_now().await;
        let slot = world.splits.get(&namespace(), &partition(time_bucket)).await;
        match slot.unwrap() {
            SplitSlot::Taken(stored) if stored.record.state == SplitState::Completed => return,
            SplitSlot::Taken(stored) if stored.record.plan().is_some() => world.keep().await,
            _ => {}
        }
    }
    panic!("{time_bucket} is never split");
}

#[tokio::test]
async fn workers_run_until_they_are_told_to_stop_and_go_on_after_the_store_has_failed() {
    let world = World::at(12 * HOUR, Rollout::Split).await;
    world.fill(0, EVENTS, 10).await;
    world.fill(HOUR, EVENTS, 10).await;
    let stopping = CancellationToken::new();
    let planner = world.planner(1).run(stopping.clone());
    let splitter = world.splitter(2).run(stopping.clone());
    let beside = async {
        world.detect(partition(0)).await;
        until_completed(&world, 0).await;
        let calls = world.eventful.calls();
        world.eventful.fail(calls, calls + 40);
        world.detect(partition(1)).await;
        until_completed(&world, 1).await;
        stopping.cancel();
    };
    tokio::join!(planner, splitter, beside);
    world.proved(0).await;
    world.proved(1).await;
}
