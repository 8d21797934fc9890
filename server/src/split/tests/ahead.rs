//! Targets that are read before a walk asks for them.

use std::time::Duration;

use anabranch_model::Direction;
use anabranch_model::namespace::Rollout;

use super::support::{Split, seconds_of, whole};
use crate::context::ServedFrom;
use crate::read::AheadLimits;
use crate::read::request::ReadRequest;

const EVENTS: usize = 200;
const PAGE: usize = 5;

async fn world(limits: AheadLimits) -> Split {
    let world = Split::start_reading_ahead(Rollout::Serve, 1, limits).await;
    world
        .write(&seconds_of("a", i64::try_from(EVENTS).unwrap()))
        .await;
    let partition = world.partition("a").await;
    assert!(world.split(&partition, whole(10)).await);
    world
}

/// Pages that follow each other; where the last of them came from.
async fn walk(world: &Split, request: &mut ReadRequest, pages: usize) -> Option<ServedFrom> {
    let mut from = None;
    for _ in 0..pages {
        let page = world.page(request).await;
        assert_eq!(page.records.len(), PAGE);
        request.paging.page_token = page.next_page_token;
        from = page.context.served_from;
        // Whoever reads ahead has its turn.
        world.0.settle().await;
    }
    from
}

#[tokio::test]
async fn pages_of_a_walk_come_from_what_was_read_ahead() {
    for direction in [Direction::Descending, Direction::Ascending] {
        let world = world(AheadLimits::default()).await;
        let mut request = world.request("a", direction, PAGE);
        walk(&world, &mut request, 9).await;
        world.0.faults.wide_down(true);
        // Four targets ahead of the fifth, two pages each; the one it stands in was begun before that.
        assert_eq!(walk(&world, &mut request, 8).await, Some(ServedFrom::Targets));
        world.0.faults.wide_down(false);
        let rest = EVENTS / PAGE - 9 - 8;
        assert_eq!(walk(&world, &mut request, rest).await, Some(ServedFrom::Targets));
        assert_eq!(request.paging.page_token, "");
        let counted = world.0.metrics.encode().unwrap();
        for name in ["read_ahead_read_bytes_total", "read_ahead_served_bytes_total"] {
            let counter = |line: &str| {
                line.split_once(' ')
                    .filter(|(of, _)| of.ends_with(name))?
                    .1
                    .parse()
                    .ok()
            };
            let bytes: Option<u64> = counted.lines().find_map(counter);
            assert!(bytes > Some(0), "{name}: {bytes:?}");
        }
    }
}

#[tokio::test]
async fn who_reads_a_page_or_two_has_nothing_read_ahead() {
    let world = world(AheadLimits::default()).await;
    let mut request = world.request("a", Direction::Descending, PAGE);
    walk(&world, &mut request, 2).await;
    world.0.faults.wide_down(true);
    assert_eq!(walk(&world, &mut request, 1).await, Some(ServedFrom::Original));
}

#[tokio::test]
async fn without_room_nothing_is_read_ahead_and_what_nobody_asks_for_is_let_go() {
    let none = AheadLimits {
        bytes_max: 10,
        ..AheadLimits::default()
    };
    let world = world(none).await;
    let mut request = world.request("a", Direction::Descending, PAGE);
    walk(&world, &mut request, 9).await;
    world.0.faults.wide_down(true);
    assert_eq!(walk(&world, &mut request, 2).await, Some(ServedFrom::Original));

    let world = self::world(AheadLimits::default()).await;
    let mut request = world.request("a", Direction::Descending, PAGE);
    walk(&world, &mut request, 9).await;
    for _ in 0..6 {
        world.0.advance(Duration::from_secs(1)).await;
    }
    world.0.faults.wide_down(true);
    assert_eq!(walk(&world, &mut request, 2).await, Some(ServedFrom::Original));
}
