//! What namespaces promise, against the memory store.

use std::time::Duration;

use anabranch_model::{EventTime, NamespaceSettings};

use crate::errors::{Reason, ServiceError};
use crate::settings::ServerSettings;
use crate::testing::{NOON, Server, WEEK, event, name};
use crate::write::WriteRequest;

fn with_buckets(
    event_buckets: u32,
) -> impl Fn(&NamespaceSettings) -> Result<NamespaceSettings, ServiceError> {
    move |settings| {
        Ok(NamespaceSettings {
            event_buckets,
            ..settings.clone()
        })
    }
}

#[tokio::test]
async fn a_name_is_taken_once() {
    let server = Server::start().await;
    server.create(NamespaceSettings::default()).await;
    let again = server
        .core
        .admin
        .create_namespace(&name("ns"), NamespaceSettings::default())
        .await;
    assert_eq!(again.unwrap_err().reason, Reason::NamespaceAlreadyExists);
}

#[tokio::test]
async fn broken_settings_are_refused_by_field() {
    let server = Server::start().await;
    let settings = NamespaceSettings {
        event_buckets: 0,
        seconds_per_time_bucket: 0,
        ..NamespaceSettings::default()
    };
    let error = server
        .core
        .admin
        .create_namespace(&name("ns"), settings)
        .await
        .unwrap_err();
    assert_eq!(error.reason, Reason::InvalidSetting);
    let fields: Vec<&str> = error.fields.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(fields, ["seconds_per_time_bucket", "event_buckets"]);
    server.create(NamespaceSettings::default()).await;
    let update = server
        .core
        .admin
        .update_namespace(&name("ns"), with_buckets(99))
        .await;
    assert_eq!(update.unwrap_err().reason, Reason::InvalidSetting);
}

#[tokio::test]
async fn a_slice_has_few_buckets_where_the_store_can_not_say_which_an_id_has() {
    const FIELD: &str = "seconds_per_time_bucket";
    let before = Server::start().await;
    let narrow = NamespaceSettings {
        seconds_per_time_slice: 0,
        seconds_per_time_bucket: 3_600,
        ..NamespaceSettings::default()
    };
    before.create(narrow.clone()).await;
    before.faults.buckets_unknown();
    let server = Server::over(before.faults.clone(), NOON, ServerSettings::default()).await;
    let admin = &server.core.admin;
    let refused = admin.create_namespace(&name("new"), narrow).await.unwrap_err();
    assert_eq!(refused.fields[0].0, FIELD);
    // What it was before stands in the way of no other change, and may be mended.
    admin
        .update_namespace(&name("ns"), with_buckets(2))
        .await
        .unwrap();
    let width = |seconds_per_time_bucket| {
        move |settings: &NamespaceSettings| {
            Ok(NamespaceSettings {
                seconds_per_time_bucket,
                ..settings.clone()
            })
        }
    };
    let refused = admin.update_namespace(&name("ns"), width(60)).await.unwrap_err();
    assert_eq!(refused.fields[0].0, FIELD);
    let wider = |settings: &NamespaceSettings| {
        Ok(NamespaceSettings {
            seconds_per_time_slice: 604_800,
            seconds_per_time_bucket: 60,
            ..settings.clone()
        })
    };
    let refused = admin.update_namespace(&name("ns"), wider).await.unwrap_err();
    assert_eq!(refused.fields[0].0, FIELD);
    let century = admin.update_namespace(&name("ns"), width(3_153_600_000)).await;
    century.unwrap();
}

#[tokio::test]
async fn one_of_two_updates_at_once_is_told_that_it_lost() {
    let server = Server::start().await;
    server.create(NamespaceSettings::default()).await;
    let ns = server.ns();
    let admin = &server.core.admin;
    let (one, two) = tokio::join!(
        admin.update_namespace(&ns, with_buckets(2)),
        admin.update_namespace(&ns, with_buckets(3)),
    );
    let lost = match (&one, &two) {
        (Ok(won), Err(lost)) | (Err(lost), Ok(won)) => {
            let now = server.core.namespaces.view(&ns).await.unwrap();
            assert_eq!(now.settings, won.settings);
            lost
        }
        both => panic!("{both:?}"),
    };
    assert_eq!(lost.reason, Reason::NamespaceChanged);
    assert!(lost.retry_after.is_some());
}

#[tokio::test]
async fn a_change_is_seen_here_at_once_whatever_refresh_is_under_way() {
    let server = Server::start().await;
    server.create(NamespaceSettings::default()).await;
    let ns = server.ns();
    for round in 0..100u32 {
        let buckets = 1 + round % 64;
        // Refreshes that started before the change end at different moments after it.
        let refresh = async {
            for _ in 0..round % 7 {
                tokio::task::yield_now().await;
            }
            server.core.namespaces.refresh().await.unwrap();
        };
        let (_, _, updated) = tokio::join!(
            refresh,
            server.core.namespaces.refresh(),
            server.core.admin.update_namespace(&ns, with_buckets(buckets)),
        );
        updated.unwrap();
        let view = server.core.namespaces.view(&ns).await.unwrap();
        assert_eq!(view.settings.event_buckets, buckets);
    }
}

#[tokio::test]
async fn another_server_finds_a_new_namespace_at_once_and_a_change_within_a_refresh() {
    let one = Server::start().await;
    let two = Server::over(one.faults.clone(), NOON, ServerSettings::default()).await;
    one.create(NamespaceSettings::default()).await;
    assert!(two.core.namespaces.view(&name("ns")).await.is_ok());
    one.core
        .admin
        .update_namespace(&name("ns"), with_buckets(9))
        .await
        .unwrap();
    two.advance(Duration::from_secs(1)).await;
    let view = two.core.namespaces.view(&name("ns")).await.unwrap();
    assert_eq!(view.settings.event_buckets, 9);
}

#[tokio::test]
async fn an_update_that_changes_nothing_stores_nothing() {
    let server = Server::start().await;
    server.create(NamespaceSettings::default()).await;
    let before = server.core.admin.get_namespace(&name("ns")).await.unwrap();
    server.faults.take_log();
    let after = server
        .core
        .admin
        .update_namespace(&name("ns"), |settings| Ok(settings.clone()))
        .await
        .unwrap();
    assert_eq!(after, before);
    assert!(server.faults.take_log().is_empty());
}

#[tokio::test]
async fn a_server_that_slept_looks_for_new_slices_before_it_reads() {
    let server = Server::start().await;
    let any_time = NamespaceSettings {
        accept_limit: Duration::ZERO,
        ..NamespaceSettings::default()
    };
    server.create(any_time).await;
    let slept = Server::over(server.faults.clone(), NOON, ServerSettings::default()).await;
    let long_ago = EventTime::from_micros(NOON - 9 * WEEK * 1_000_000);
    let request = WriteRequest {
        namespace: server.ns(),
        events: vec![event("a", long_ago, "e", "x")],
        deadline: None,
    };
    server.core.writer.write_sync(request).await.unwrap();
    // Past the settings' lifetime, and nothing of it has run since.
    slept.clock.advance(Duration::from_secs(11));
    let view = slept.core.namespaces.view_for_read(&server.ns()).await.unwrap();
    assert!(view.slice_of(long_ago).is_some());
}
