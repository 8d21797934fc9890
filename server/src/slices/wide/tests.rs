//! What tables of targets promise, against the memory store.

use std::time::Duration;

use anabranch_model::NamespaceSettings;
use anabranch_model::namespace::Retention;

use super::*;
use crate::errors::Reason;
use crate::settings::ServerSettings;
use crate::slices::testing::{current, freeze, frozen, limit};
use crate::testing::{HOUR, NOON, Server, name, seconds};

const DAY: i64 = 86_400;

fn wide_lines(server: &Server) -> Vec<String> {
    let log = server.faults.take_log().into_iter();
    log.filter(|line| line.contains("wide_data_")).collect()
}

#[tokio::test]
async fn the_first_freeze_makes_the_table_and_no_other_does() {
    let server = Server::start().await;
    server.create(limit(600)).await;
    server.advance(Duration::from_secs(1)).await;
    server.faults.take_log();
    let outcome = frozen(freeze(&server, server.now()).await);
    assert_eq!(outcome.wide_table, WideTable::Made);
    assert_eq!(
        server.faults.take_log(),
        ["slice 20260326", "create ns.wide_data_20260326", "slice 20260326"]
    );
    assert_eq!(current(&server).await.wide_table, WideTable::Made);
    server.advance(Duration::from_secs(60)).await;
    frozen(freeze(&server, server.now()).await);
    assert_eq!(
        server.faults.take_log(),
        ["slice 20260326"],
        "only the freeze itself"
    );
}

#[tokio::test]
async fn a_table_that_could_not_be_made_is_made_by_the_timer() {
    let server = Server::start().await;
    server.create(limit(600)).await;
    server.advance(Duration::from_secs(1)).await;
    server.faults.tables_down(true);
    let slice = current(&server).await.name;
    let outcome = server.core.keeper.freeze(&name("ns"), &slice, server.now()).await;
    assert_eq!(outcome.unwrap_err().reason, Reason::StoreUnreachable);
    assert_eq!(current(&server).await.wide_table, WideTable::Wanted);
    server.faults.tables_down(false);
    // Another process, after a crash.
    server._tasks.stopping().cancel();
    let next = Server::over(server.faults.clone(), NOON, ServerSettings::default()).await;
    next.advance(Duration::from_secs(1)).await;
    assert_eq!(current(&next).await.wide_table, WideTable::Made);
    assert_eq!(wide_lines(&next), ["create ns.wide_data_20260326"]);
}

#[tokio::test]
async fn of_two_keepers_on_a_store_one_makes_it() {
    let settings = ServerSettings::default().shared(Duration::from_secs(5));
    let one = Server::over(Default::default(), NOON, settings).await;
    let two = Server::over(one.faults.clone(), NOON + 1, settings).await;
    one.create(limit(600)).await;
    two.core.namespaces.refresh().await.unwrap();
    for server in [&one, &two] {
        server.advance(Duration::from_secs(1)).await;
    }
    one.faults.take_log();
    assert_eq!(
        frozen(freeze(&one, one.now()).await).wide_table,
        WideTable::Wanted
    );
    two.core.namespaces.refresh().await.unwrap();
    for server in [&one, &two] {
        server.clock.advance(Duration::from_secs(1));
    }
    for server in [&one, &two, &one, &two] {
        server.advance(Duration::from_secs(1)).await;
        assert_eq!(current(server).await.wide_table, WideTable::Made);
    }
    assert_eq!(wide_lines(&one), ["create ns.wide_data_20260326"]);
}

#[tokio::test]
async fn the_claim_of_a_keeper_that_is_gone_is_taken_over_after_the_lease() {
    let settings = ServerSettings::default().shared(Duration::from_secs(5));
    let one = Server::over(Default::default(), NOON, settings).await;
    one.create(limit(600)).await;
    one.faults.tables_down(true);
    freeze(&one, one.now()).await;
    one.advance(Duration::from_secs(1)).await;
    one._tasks.stopping().cancel();
    one.faults.tables_down(false);
    // An hour ahead: what the claim says of its time does not count.
    let two = Server::over(one.faults.clone(), NOON + HOUR * 1_000_000, settings).await;
    for _ in 0..29 {
        two.advance(Duration::from_secs(1)).await;
    }
    assert_eq!(current(&two).await.wide_table, WideTable::Wanted);
    two.advance(Duration::from_secs(1)).await;
    two.advance(Duration::from_secs(1)).await;
    assert_eq!(current(&two).await.wide_table, WideTable::Made);
}

#[tokio::test]
async fn retention_drops_the_table_of_targets_first() {
    let server = Server::start().await;
    server
        .create(NamespaceSettings {
            seconds_per_time_slice: DAY,
            retention: Retention {
                close_after: Some(seconds(DAY)),
                delete_after: Some(seconds(DAY) + Duration::from_secs(1)),
            },
            ..limit(600)
        })
        .await;
    frozen(freeze(&server, server.now()).await);
    let slice = current(&server).await.name;
    server.advance(seconds(DAY + 12 * HOUR)).await;
    assert_eq!(server.slices().await[0].state, SliceState::Closed);
    let outcome = server.core.keeper.freeze(&name("ns"), &slice, server.now()).await;
    assert_eq!(outcome.unwrap(), anabranch_catalog::FreezeOutcome::NotOpen);
    server.faults.take_log();
    server.advance(Duration::from_secs(30)).await;
    server.advance(Duration::from_secs(1)).await;
    let log = server.faults.take_log();
    let dropped: Vec<&str> = log
        .iter()
        .map(String::as_str)
        .filter(|line| line.starts_with("drop"))
        .collect();
    assert_eq!(dropped, ["drop ns.wide_data_20260328", "drop ns.data_20260328"]);
    let slice = server.slices().await.remove(0);
    assert_eq!(
        (slice.state, slice.wide_table),
        (SliceState::Dropped, WideTable::None)
    );
}

#[tokio::test]
async fn a_deletion_drops_every_table_of_targets_first() {
    let server = Server::start().await;
    server.create(limit(600)).await;
    server.advance(Duration::from_secs(1)).await;
    frozen(freeze(&server, server.now()).await);
    server.faults.take_log();
    server.core.admin.delete_namespace(&name("ns")).await.unwrap();
    let log = server.faults.take_log();
    let dropped: Vec<&str> = log
        .iter()
        .map(String::as_str)
        .filter(|line| line.starts_with("drop"))
        .collect();
    assert_eq!(
        dropped,
        [
            "drop ns.wide_data_20260326",
            "drop ns.data_20260326",
            "drop ns.data_20260402"
        ]
    );
    assert!(server.faults.store.namespaces().is_empty());
}
