//! A page cut by the deadline is a good answer: in order, complete as far as it says, and every request
//! gets on.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anabranch_model::TimeInterval;
use anabranch_model::query::EventFilter;
use anabranch_runtime::Deadline;

use super::support::{HOUR, World, bytes, item_key, record, records};
use crate::context::PartialReason;

#[tokio::test]
async fn a_slow_store_yields_partial_pages_that_lose_and_repeat_nothing() {
    let mut world = World::hours(&[(600, 2), (600, 2), (600, 2)]).await;
    let events = (0..180).map(|n| record("a", n * 60_000_000, "e", &[("k", "1")]));
    world.write(events.collect()).await;
    for yields in [false, true] {
        world.store.yields.store(yields, Ordering::Relaxed);
        world.store.takes(Duration::from_millis(400));
        let request = world.read_of("a");
        let pages = world.walk(&request).await;
        let partial = pages
            .iter()
            .filter(|page| page.context.partial == Some(PartialReason::Deadline));
        assert!(partial.count() > 2);
        assert_eq!(
            records(pages),
            world.expect(TimeInterval::ALL, request.direction, |_| true)
        );
    }
}

#[tokio::test]
async fn every_request_gets_on_even_when_one_call_takes_longer_than_it_may() {
    let mut world = World::hours(&[(600, 1), (600, 1), (600, 1)]).await;
    let events = (0..18).map(|n| record("a", n * 600_000_000, "e", &[("k", "1")]));
    world.write(events.collect()).await;
    world.store.takes(Duration::from_secs(5));
    world.store.yields.store(true, Ordering::Relaxed);
    let request = world.read_of("a");
    let pages = world.walk(&request).await;
    assert!(pages.len() <= 18 + 3 + 1, "{} pages", pages.len());
    assert_eq!(
        records(pages),
        world.expect(TimeInterval::ALL, request.direction, |_| true)
    );
}

#[tokio::test]
async fn empty_slices_are_passed_a_few_at_a_time() {
    let mut world = World::hours(&[(600, 1); 50]).await;
    world.write(vec![record("a", 5, "e", &[("k", "1")])]).await;
    world.store.takes(Duration::from_millis(300));
    let pages = world.walk(&world.read_of("a")).await;
    assert!(pages.len() > 5, "the deadline cuts it");
    let until = pages[0].context.complete_until.unwrap();
    assert!(until.micros() > 40 * HOUR, "and it says how far it came: {until}");
    assert_eq!(records(pages).len(), 1);
}

#[tokio::test]
async fn a_selective_filter_gets_on_by_what_was_looked_at() {
    let mut world = World::all_time((86_400, 1)).await;
    let events = (0..4_000).map(|n| {
        let value = if n == 0 { "rare" } else { "common" };
        record("a", n, "e", &[("k", value)])
    });
    world.write(events.collect()).await;
    world.store.takes(Duration::from_secs(2));
    let mut request = world.read_of("a");
    request.filters = vec![EventFilter {
        item_key: item_key("k"),
        item_value: Some(bytes("rare")),
    }];
    let pages = world.walk(&request).await;
    assert!(pages.len() > 2, "each page looks at one store page");
    assert!(pages.len() < 20, "{} pages", pages.len());
    let found = records(pages);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].event.key.time.micros(), 0);
}

#[tokio::test]
async fn the_answer_leaves_before_the_clients_deadline() {
    let mut world = World::all_time((60, 1)).await;
    let events = (0..100).map(|n| record("a", n * 60_000_000, "e", &[("k", "1")]));
    world.write(events.collect()).await;
    world.store.takes(Duration::from_millis(50));
    let mut request = world.read_of("a");
    request.latency.slo = Some(Duration::from_secs(60));
    request.latency.deadline = Some(Deadline::after(&*world.clock, Duration::from_secs(1)));
    let page = world.read(&request).await;
    assert_eq!(page.context.partial, Some(PartialReason::Deadline));
    assert!(page.context.time_taken <= Duration::from_millis(950));
    assert!(page.context.time_taken >= Duration::from_millis(850));
}
