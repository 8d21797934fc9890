//! Reads made both ways.

use anabranch_model::Direction;
use anabranch_model::namespace::Rollout;
use anabranch_split::{SplitReason, SplitState};

use super::support::{Cut, Split, seconds_of, time, whole};
use crate::context::ServedFrom;
use crate::testing::event;

async fn compared(world: &Split, pages: usize) {
    for _ in 0..pages {
        for direction in [Direction::Ascending, Direction::Descending] {
            let page = world.page(&world.request("a", direction, 30)).await;
            assert_eq!(page.records.len(), 30);
            assert_eq!(page.context.served_from, Some(ServedFrom::Original));
            world.0.settle().await;
        }
    }
}

#[tokio::test]
async fn equal_reads_are_counted_and_what_they_took_is_stored() {
    let world = Split::start(Rollout::Compare, 1).await;
    world.write(&seconds_of("a", 100)).await;
    let partition = world.partition("a").await;
    let cut = Cut {
        boundary: time(80_000_000),
        ..whole(20)
    };
    world.split(&partition, cut).await;
    compared(&world, 8).await;
    let metrics = world.splits().metrics();
    assert_eq!(
        (metrics.compared.get(), metrics.compare_mismatches.get()),
        (16, 0)
    );
    let gain = world.stored(&partition).await.unwrap().record.gain.unwrap();
    assert_eq!(gain.reads, 16);
    assert_eq!(world.rollout_now().await, Rollout::Compare);
}

#[tokio::test]
async fn a_mismatch_invalidates_the_split_and_steps_the_namespace_back() {
    for gone in [false, true] {
        let world = Split::start(Rollout::Compare, 1).await;
        world.write(&seconds_of("a", 100)).await;
        let partition = world.partition("a").await;
        world.split(&partition, whole(40)).await;
        compared(&world, 1).await;
        assert_eq!(world.rollout_now().await, Rollout::Compare);
        let mut held = world.target_events(&partition, 0).await;
        if gone {
            // The page ends inside of the target, so that its rows alone do not show it.
            held.remove(3);
        } else {
            held[3] = event("a", held[3].key.time, held[3].key.id.as_str(), "other").event;
            let second = held[4].items[1].clone();
            held[3].items.push(second);
        }
        world.damage(&partition, 0, held).await;
        world.page(&world.request("a", Direction::Ascending, 30)).await;
        world.0.settle().await;
        assert_eq!(world.splits().metrics().compare_mismatches.get(), 1, "{gone}");
        let record = world.stored(&partition).await.unwrap().record;
        assert_eq!(record.state, SplitState::Invalidated);
        assert_eq!(record.reason, Some(SplitReason::CompareMismatch));
        assert_eq!(world.rollout_now().await, Rollout::Split);
    }
}

#[tokio::test]
async fn a_tail_that_grows_between_the_reads_is_no_mismatch() {
    let world = Split::start(Rollout::Compare, 1).await;
    world.write(&seconds_of("a", 100)).await;
    let partition = world.partition("a").await;
    let cut = Cut {
        boundary: time(80_000_000),
        ..whole(20)
    };
    world.split(&partition, cut).await;
    let page = world.page(&world.request("a", Direction::Descending, 30)).await;
    assert_eq!(page.records.len(), 30);
    let late: Vec<_> = (80..100)
        .map(|n| event("a", time(n * 1_000_000 + 5), "late", "value"))
        .collect();
    world.write(&late).await;
    world.0.settle().await;
    let metrics = world.splits().metrics();
    assert_eq!((metrics.compared.get(), metrics.compare_mismatches.get()), (1, 0));
}

#[tokio::test]
async fn one_comparison_at_a_time_and_none_where_nothing_is_split() {
    let world = Split::start(Rollout::Compare, 1).await;
    world.write(&seconds_of("a", 100)).await;
    world.splits().refresh_now().await;
    world.page(&world.request("a", Direction::Descending, 30)).await;
    world.split(&world.partition("a").await, whole(20)).await;
    for _ in 0..3 {
        world.page(&world.request("a", Direction::Descending, 30)).await;
    }
    world.0.settle().await;
    let metrics = world.splits().metrics();
    assert_eq!((metrics.compared.get(), metrics.compare_skipped.get()), (1, 2));
}
