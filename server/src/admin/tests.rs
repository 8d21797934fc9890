//! Lists and their pages.

use anabranch_model::{NamespaceSettings, TimeSeriesId};

use super::*;
use crate::errors::Reason;
use crate::testing::{Server, name};

fn page(page_size: usize, page_token: &str) -> PageRequest {
    PageRequest {
        page_size,
        page_token: page_token.to_owned(),
    }
}

#[tokio::test]
async fn pages_of_namespaces_neither_skip_nor_repeat() {
    let server = Server::start().await;
    for number in 0..7 {
        server
            .create_named(&format!("ns{number}"), NamespaceSettings::default())
            .await;
    }
    let (mut names, mut token) = (Vec::new(), String::new());
    loop {
        let page = server.core.admin.list_namespaces(&page(3, &token)).unwrap();
        names.extend(page.entries.into_iter().map(|info| info.name.to_string()));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(
        names,
        (0..7).map(|number| format!("ns{number}")).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn blocked_ids_are_listed_with_reason_and_time_and_keep_their_time() {
    let server = Server::start().await;
    server.create(NamespaceSettings::default()).await;
    let ids: Vec<TimeSeriesId> = (0..5)
        .map(|n| TimeSeriesId::new(format!("id{n}")).unwrap())
        .collect();
    let admin = &server.core.admin;
    let since = server.now();
    admin
        .block_time_series_ids(&name("ns"), &ids, "first")
        .await
        .unwrap();
    server.advance(std::time::Duration::from_secs(5)).await;
    let again = admin
        .block_time_series_ids(&name("ns"), &ids[..1], "second")
        .await
        .unwrap();
    assert_eq!((again[0].reason.as_str(), again[0].since), ("second", since));
    let first = admin
        .list_blocked_time_series_ids(&name("ns"), &page(4, ""))
        .await
        .unwrap();
    assert_eq!(first.entries.len(), 4);
    let rest = admin
        .list_blocked_time_series_ids(&name("ns"), &page(4, &first.next_page_token))
        .await
        .unwrap();
    assert_eq!(rest.entries.len(), 1);
    assert_eq!(rest.entries[0].time_series_id, ids[4]);
    assert!(rest.next_page_token.is_empty());
    assert_eq!(admin.unblock_time_series_ids(&name("ns"), &ids).await.unwrap(), 5);
    assert_eq!(admin.unblock_time_series_ids(&name("ns"), &ids).await.unwrap(), 0);
}

#[tokio::test]
async fn a_token_of_another_list_or_of_nothing_is_refused() {
    let server = Server::start().await;
    server.create(NamespaceSettings::default()).await;
    server.create_named("other", NamespaceSettings::default()).await;
    let admin = &server.core.admin;
    let token = admin.list_namespaces(&page(1, "")).unwrap().next_page_token;
    let error = admin
        .list_time_slices(&name("ns"), &page(1, &token))
        .await
        .unwrap_err();
    assert_eq!(error.reason, Reason::PageTokenMismatch);
    let error = admin.list_namespaces(&page(1, "rubbish!")).unwrap_err();
    assert_eq!(error.reason, Reason::PageTokenInvalid);
}

#[tokio::test]
async fn slices_are_listed_oldest_first_in_pages() {
    let server = Server::start().await;
    server.create(NamespaceSettings::default()).await;
    server.advance(std::time::Duration::from_secs(1)).await;
    let admin = &server.core.admin;
    let first = admin.list_time_slices(&name("ns"), &page(1, "")).await.unwrap();
    let second = admin
        .list_time_slices(&name("ns"), &page(1, &first.next_page_token))
        .await
        .unwrap();
    assert!(second.next_page_token.is_empty());
    assert_eq!(first.entries[0].interval.end, second.entries[0].interval.start);
}
