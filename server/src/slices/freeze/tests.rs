//! What a freeze promises on a server, against the memory store.

use std::time::Duration;

use anabranch_model::NamespaceSettings;

use super::*;
use crate::errors::Reason;
use crate::settings::ServerSettings;
use crate::slices::testing::{any_time, current, freeze, frozen, limit, write_at};
use crate::testing::{HOUR, NOON, Server, name, seconds};

#[tokio::test]
async fn what_is_frozen_is_refused_here_at_once_whatever_the_settings_say() {
    let server = Server::start().await;
    server.create(any_time()).await;
    let (now, older) = (server.now(), server.now().saturating_sub(seconds(60)));
    write_at(&server, older, "1").await.unwrap();
    server
        .core
        .admin
        .seal_time_slices(&name("ns"), Some(now))
        .await
        .unwrap();
    assert_eq!(frozen(freeze(&server, now).await).before, now);
    // The seal goes by itself, as no opening would let it.
    let loaded = server.core.namespaces.reload(&name("ns")).await.unwrap().unwrap();
    let namespaces = &server.core.namespaces;
    namespaces
        .store_change(&loaded, |record| {
            record.sealed_before = None;
            Ok(())
        })
        .await
        .unwrap();
    let error = write_at(&server, older, "2").await.unwrap_err();
    assert_eq!(error.reason, Reason::EventTooOld);
    assert_eq!(error.metadata["frozenBefore"], now.to_string());
    assert_eq!(error.metadata["acceptedFrom"], now.to_string());
    write_at(&server, now, "2").await.unwrap();
    assert_eq!(server.read("a").await.len(), 2);
}

#[tokio::test]
async fn a_server_whose_clock_is_an_hour_behind_refuses_what_was_frozen_elsewhere() {
    let one = Server::start().await;
    let settings = ServerSettings::default();
    let two = Server::over(one.faults.clone(), NOON - HOUR * 1_000_000, settings).await;
    one.create(NamespaceSettings::default()).await;
    let theirs = two.now();
    write_at(&two, theirs, "1").await.unwrap();
    let outcome = frozen(freeze(&one, one.now()).await);
    assert_eq!(outcome.before, one.now().saturating_sub(seconds(605)));
    // It has not heard of it, and by its clock this is new: why a freeze counts only after `settle`.
    write_at(&two, theirs, "2").await.unwrap();
    two.advance(Duration::from_secs(1)).await;
    let error = write_at(&two, theirs, "3").await.unwrap_err();
    assert_eq!(error.reason, Reason::EventTooOld);
    assert_eq!(error.metadata["frozenBefore"], outcome.before.to_string());
    assert_eq!(one.read("a").await.len(), 2);
}

#[tokio::test]
async fn a_freeze_refuses_nothing_that_was_taken_before() {
    let server = Server::start().await;
    server.create(limit(600)).await;
    freeze(&server, server.now()).await;
    let oldest = server.now().saturating_sub(seconds(600));
    write_at(&server, oldest, "1").await.unwrap();
}

#[tokio::test]
async fn a_freeze_returns_when_the_writes_admitted_before_it_have_ended() {
    let server = Server::start().await;
    server.create(limit(600)).await;
    let time = server.now().saturating_sub(seconds(600));
    server.faults.hold_appends(true);
    let core = server.core.clone();
    let writing = server._tasks.spawn("test", async move {
        crate::slices::testing::write(&core, time, "1").await
    });
    server.settle().await;
    assert_eq!(server.faults.held(), 1);
    server.advance(seconds(10)).await;
    let slice = current(&server).await.name;
    let (core, now) = (server.core.clone(), server.now());
    let freezing = server._tasks.spawn("test", async move {
        core.keeper.freeze(&name("ns"), &slice, now).await
    });
    server.settle().await;
    assert!(
        current(&server)
            .await
            .frozen_before
            .is_some_and(|before| before > time)
    );
    assert!(!freezing.is_finished());
    server.faults.hold_appends(false);
    assert!(matches!(
        freezing.await.unwrap().unwrap(),
        FreezeOutcome::Frozen(_)
    ));
    writing.await.unwrap().unwrap();
    assert_eq!(server.read("a").await.len(), 1);
}

#[tokio::test]
async fn nothing_is_frozen_of_a_slice_that_takes_any_time_or_is_not_there() {
    let server = Server::start().await;
    server.create(any_time()).await;
    assert_eq!(freeze(&server, server.now()).await, FreezeOutcome::NotJustified);
    let another = SliceName::new("19990101").unwrap();
    let outcome = server
        .core
        .keeper
        .freeze(&name("ns"), &another, server.now())
        .await;
    assert_eq!(outcome.unwrap(), FreezeOutcome::NotOpen);
}
