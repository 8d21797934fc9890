//! R2: a walk through targets is the walk of the originals, whatever happens to the splits between its pages.

use anabranch_model::namespace::Rollout;
use anabranch_model::{Direction, EventRecord, TimeInterval};
use anabranch_storage::{EventStore, TableKind};
use proptest::prelude::*;

use super::support::{Cut, Split, time};
use crate::read::AheadLimits;
use crate::read::request::{EventPage, ReadRequest, SearchRequest};
use crate::settings::ServerSettings;
use crate::testing::event;

/// Two buckets of an hour.
const END: i64 = 7_200_000_000;

/// What happens between two pages.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Nothing,
    /// Everything is split (again).
    Split(Cut),
    /// Every split is invalidated, and servers hear of it, or not yet.
    Invalidated {
        heard: bool,
    },
    /// The targets are gone, and no server has heard of it.
    Vanished,
}

fn at() -> impl Strategy<Value = i64> {
    prop_oneof![
        3 => prop::sample::select(vec![0i64, 1, 5_000_000, 3_599_999_999, 3_600_000_000, END - 1]),
        2 => 0..END,
    ]
}

fn events() -> impl Strategy<Value = Vec<EventRecord>> {
    let one = (at(), 0u32..10, prop::bool::ANY).prop_map(|(at, n, two)| {
        let mut record = event("a", time(at), &format!("e{n}"), &format!("v{at}"));
        if two {
            let mut other = record.event.items[0].clone();
            other.key = anabranch_model::ItemKey::new("other").unwrap();
            record.event.items.push(other);
        }
        record
    });
    prop::collection::vec(one, 0..120)
}

fn cut() -> impl Strategy<Value = Cut> {
    let boundary = prop_oneof![Just(END), at()];
    (1usize..12, boundary, prop::option::of(at())).prop_map(|(events, boundary, from)| Cut {
        events,
        boundary: time(boundary),
        extended_from: from.map(time),
    })
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => Just(Happens::Nothing),
        3 => cut().prop_map(Happens::Split),
        1 => prop::bool::ANY.prop_map(|heard| Happens::Invalidated { heard }),
        1 => Just(Happens::Vanished),
    ]
}

async fn happen(world: &Split, what: Happens) {
    match what {
        Happens::Nothing => {}
        Happens::Split(cut) => {
            for partition in world.partitions().await {
                if !world.split(&partition, cut).await {
                    world.invalidate(&partition).await;
                    world.splits().forget(&world.0.ns(), &partition).await;
                }
            }
        }
        Happens::Invalidated { heard } => {
            for partition in world.partitions().await {
                world.invalidate(&partition).await;
                if heard {
                    world.splits().forget(&world.0.ns(), &partition).await;
                }
            }
            world.splits().refresh_now().await;
        }
        Happens::Vanished => {
            let table = world.table(TableKind::Wide).await;
            world.0.faults.store.drop_table(&table).await.unwrap();
        }
    }
}

/// A page of one id in event order, or of everything in partition order.
async fn page(world: &Split, request: &ReadRequest, everything: bool) -> EventPage {
    if !everything {
        return world.page(request).await;
    }
    let request = SearchRequest {
        namespace: request.namespace.clone(),
        interval: request.interval,
        query: None,
        direction: request.direction,
        paging: request.paging.clone(),
        latency: request.latency,
    };
    let namespaces = &world.0.core.namespaces;
    let view = namespaces.view_for_read(&request.namespace).await.unwrap();
    world.0.core.reader.search(&view, request).await.unwrap()
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_walk_is_the_same_whatever_happens_to_the_splits(
        events in events(), event_buckets in 1u32..4, page_size in 1usize..40, ascending in any::<bool>(),
        bounds in prop::option::of((at(), at())), first in cut(),
        happening in prop::collection::vec(happens(), 1..12), everything in any::<bool>(),
        ahead in any::<bool>(),
    ) {
        run(async move {
            let mut settings = ServerSettings::default();
            settings.read.ahead = ahead.then(AheadLimits::default);
            let world = Split::start_with(Rollout::Serve, event_buckets, settings).await;
            world.write(&events).await;
            let direction = if ascending { Direction::Ascending } else { Direction::Descending };
            let mut request = world.request("a", direction, 10_000);
            if let Some((a, b)) = bounds {
                request.interval = TimeInterval { start: time(a.min(b)), end: time(a.max(b)) };
            }
            let expected = page(&world, &request, everything).await;
            assert_eq!(expected.next_page_token, "");
            happen(&world, Happens::Split(first)).await;
            request.paging.page_size = page_size;
            let mut found = Vec::new();
            for n in 0.. {
                let page = page(&world, &request, everything).await;
                found.extend(page.records);
                request.paging.page_token = page.next_page_token;
                if request.paging.page_token.is_empty() {
                    break;
                }
                happen(&world, happening[n % happening.len()]).await;
            }
            assert_eq!(found, expected.records);
        });
    }
}
