//! Splits: listed, planned, sent round again, invalidated.

use std::collections::BTreeSet;

use anabranch_model::NamespaceSettings;
use anabranch_model::namespace::WidePartition;
use anabranch_split::{Lease, RetryPolicy, Survey, SurveyTask};

use super::*;
use crate::testing::{HOUR, Server, event, name, seconds};

fn page(page_size: usize, page_token: &str) -> PageRequest {
    PageRequest {
        page_size,
        page_token: page_token.to_owned(),
    }
}

async fn with_rollout(rollout: Rollout) -> Server {
    let server = Server::start().await;
    let defaults = NamespaceSettings::default();
    server
        .create(NamespaceSettings {
            wide_partition: WidePartition {
                rollout,
                ..defaults.wide_partition
            },
            ..defaults
        })
        .await;
    server
}

async fn server() -> Server {
    with_rollout(Rollout::Serve).await
}

/// A partition of the slice that holds now.
async fn partition(server: &Server, id: &str) -> PartitionKey {
    let view = server.core.namespaces.view(&server.ns()).await.unwrap();
    let slice = view.slice_of(server.now()).unwrap();
    let key = event(id, server.now(), "e", "v").event.key;
    slice.partition_of(&TimeSeriesId::new(id).unwrap(), &key)
}

async fn plan(server: &Server, id: &str) -> PartitionKey {
    let partition = partition(server, id).await;
    let admin = &server.core.admin;
    let record = admin.plan_split(&server.ns(), &partition).await.unwrap();
    assert_eq!(record.state, SplitState::Detected);
    partition
}

/// Fails a split as often as is allowed.
async fn quarantine(server: &Server, partition: &PartitionKey) {
    let splits = server.core.admin.splits();
    let SplitSlot::Taken(split) = splits.get(&server.ns(), partition).await.unwrap() else {
        panic!("it is planned");
    };
    let task = SurveyTask {
        basis: anabranch_split::Basis {
            incarnation: 1,
            epoch: 1,
        },
        extends: false,
        boundary: server.now(),
        aim: anabranch_split::Aim {
            target_bytes: 1,
            targets_max: 2,
        },
        survey: Survey::new(1, 16),
    };
    let lease = Lease { owner: 1 };
    let survey = Step::Survey { lease, task };
    let moved = splits.step(&server.ns(), &split, survey, server.now()).await;
    let Moved::To(split) = moved.unwrap() else {
        panic!("nobody else moves it");
    };
    let fail = Step::Fail {
        fence: split.record.fence,
        reason: SplitReason::StoreFailed,
        detail: "a test".to_owned(),
        retry: RetryPolicy {
            attempts_max: 1,
            ..RetryPolicy::default()
        },
    };
    let moved = splits.step(&server.ns(), &split, fail, server.now()).await;
    assert!(matches!(moved.unwrap(), Moved::To(_)));
}

#[tokio::test]
async fn pages_of_splits_neither_skip_nor_repeat() {
    let server = server().await;
    let mut expected = Vec::new();
    for id in ["a", "b/c", "d/1/2", "e", "/"] {
        expected.push(plan(&server, id).await);
    }
    expected.sort();
    for size in 1..7 {
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let page = server
                .core
                .admin
                .list_splits(&server.ns(), None, &page(size, &token))
                .await
                .unwrap();
            assert!(page.entries.len() <= size);
            found.extend(page.entries.iter().map(|split| split.partition().clone()));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        found.sort();
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn splits_are_listed_by_state() {
    let server = server().await;
    for id in ["a", "b", "c"] {
        plan(&server, id).await;
    }
    let b = partition(&server, "b").await;
    quarantine(&server, &b).await;
    let admin = &server.core.admin;
    let list = async |state, page: PageRequest| {
        let page = admin.list_splits(&server.ns(), state, &page).await.unwrap();
        (page.entries.len(), page.next_page_token)
    };
    assert_eq!(list(Some("QUARANTINED"), page(0, "")).await, (1, String::new()));
    assert_eq!(list(Some("DETECTED"), page(0, "")).await.0, 2);
    assert_eq!(list(Some("COMPLETED"), page(0, "")).await, (0, String::new()));
    let token = list(Some("DETECTED"), page(1, "")).await.1;
    assert_eq!(list(Some("DETECTED"), page(1, &token)).await, (1, String::new()));
    let other = admin.list_splits(&server.ns(), None, &page(1, &token)).await;
    assert_eq!(other.unwrap_err().reason, Reason::PageTokenMismatch);
}

#[tokio::test]
async fn a_split_that_is_not_known_is_not_found() {
    let server = server().await;
    let unknown = partition(&server, "a").await;
    let admin = &server.core.admin;
    for error in [
        admin.get_split(&server.ns(), &unknown).await.unwrap_err(),
        admin.retry_split(&server.ns(), &unknown).await.unwrap_err(),
        admin.invalidate_split(&server.ns(), &unknown).await.unwrap_err(),
    ] {
        assert_eq!(error.reason, Reason::SplitNotFound);
    }
    let error = admin.get_split(&name("other"), &unknown).await.unwrap_err();
    assert_eq!(error.reason, Reason::NamespaceNotFound);
}

#[tokio::test]
async fn a_plan_is_made_once_and_left_alone_while_it_is_under_way() {
    let server = server().await;
    let partition = plan(&server, "a").await;
    let admin = &server.core.admin;
    let before = admin.get_split(&server.ns(), &partition).await.unwrap();
    server.advance(seconds(5)).await;
    let again = admin.plan_split(&server.ns(), &partition).await.unwrap();
    assert_eq!(again, *before.read().unwrap().record);
}

#[tokio::test]
async fn a_step_that_the_state_does_not_take_is_refused() {
    let server = server().await;
    let partition = plan(&server, "a").await;
    let admin = &server.core.admin;
    let error = admin.retry_split(&server.ns(), &partition).await.unwrap_err();
    assert_eq!(error.reason, Reason::SplitState);
    assert_eq!(error.metadata["state"], "DETECTED");
    let gone = admin.invalidate_split(&server.ns(), &partition).await.unwrap();
    assert_eq!(
        gone.state,
        SplitState::Retired,
        "nothing was written that is to be removed"
    );
    let error = admin
        .invalidate_split(&server.ns(), &partition)
        .await
        .unwrap_err();
    assert_eq!(error.reason, Reason::SplitState);
}

#[tokio::test]
async fn what_is_in_quarantine_goes_round_again() {
    let server = server().await;
    let admin = &server.core.admin;
    for by_plan in [true, false] {
        let id = if by_plan { "a" } else { "b" };
        let partition = plan(&server, id).await;
        quarantine(&server, &partition).await;
        let record = if by_plan {
            admin.plan_split(&server.ns(), &partition).await.unwrap()
        } else {
            admin.retry_split(&server.ns(), &partition).await.unwrap()
        };
        assert_eq!((record.state, record.attempts), (SplitState::Detected, 0));
        assert_eq!(record.reason, Some(SplitReason::Operator));
    }
}

#[tokio::test]
async fn only_a_partition_that_the_namespace_can_have_is_planned() {
    let server = server().await;
    let good = partition(&server, "a").await;
    let admin = &server.core.admin;
    let refused = async |partition: PartitionKey| {
        let dry = admin.preview_split(&server.ns(), &partition).await.unwrap_err();
        let error = admin.plan_split(&server.ns(), &partition).await.unwrap_err();
        assert_eq!(dry, error);
        error.reason
    };
    let slice = SliceName::new("19991231").unwrap();
    assert_eq!(
        refused(PartitionKey {
            slice,
            ..good.clone()
        })
        .await,
        Reason::TimeSliceNotFound
    );
    for (time_bucket, event_bucket) in [
        (good.time_bucket, 1),
        (7, 0),
        (-1, 0),
        (i64::MAX, 0),
        (i64::MIN, 0),
    ] {
        let wrong = PartitionKey {
            time_bucket,
            event_bucket,
            ..good.clone()
        };
        assert_eq!(refused(wrong).await, Reason::InvalidPartition);
    }
    let listed = admin.list_splits(&server.ns(), None, &page(0, "")).await.unwrap();
    assert_eq!(listed.entries, []);
}

#[tokio::test]
async fn nothing_is_planned_where_nothing_is_split() {
    for rollout in [Rollout::Off, Rollout::Detect] {
        let server = with_rollout(rollout).await;
        let partition = partition(&server, "a").await;
        let error = server.core.admin.plan_split(&server.ns(), &partition).await;
        assert_eq!(error.unwrap_err().reason, Reason::SplittingOff);
    }
}

#[tokio::test]
async fn a_record_that_can_not_be_read_is_shown_and_left_alone() {
    let server = server().await;
    let mut all = BTreeSet::new();
    for id in ["a", "b", "c"] {
        all.insert(plan(&server, id).await);
    }
    let (newer, damaged) = (partition(&server, "a").await, partition(&server, "b").await);
    let (of_newer, of_damaged) = (r#"{"v2":{"state":"Frozen","more":1}}"#, "{");
    server.put_split(&newer, of_newer).await;
    server.put_split(&damaged, of_damaged).await;
    let admin = &server.core.admin;
    let listed = admin.list_splits(&server.ns(), None, &page(0, "")).await.unwrap();
    let partitions: BTreeSet<PartitionKey> = listed
        .entries
        .iter()
        .map(|split| split.partition().clone())
        .collect();
    assert_eq!(partitions, all);
    let unreadable = admin
        .list_splits(&server.ns(), Some("UNREADABLE"), &page(0, ""))
        .await;
    assert_eq!(unreadable.unwrap().entries.len(), 2);
    let detected = admin
        .list_splits(&server.ns(), Some("DETECTED"), &page(0, ""))
        .await;
    assert_eq!(detected.unwrap().entries.len(), 1);
    for (partition, bytes, why) in [
        (&newer, of_newer, "NEWER_FORMAT"),
        (&damaged, of_damaged, "DAMAGED"),
    ] {
        let shown = admin.get_split(&server.ns(), partition).await.unwrap();
        let wire = crate::wire::split::listed_with_targets(&shown);
        assert_eq!(
            (wire.state().as_str_name(), wire.reason.as_str()),
            ("UNREADABLE", why)
        );
        for error in [
            admin.plan_split(&server.ns(), partition).await.unwrap_err(),
            admin.retry_split(&server.ns(), partition).await.unwrap_err(),
            admin.invalidate_split(&server.ns(), partition).await.unwrap_err(),
        ] {
            assert_eq!(error.reason, Reason::SplitRecordUnreadable);
            assert_eq!(error.metadata["why"], why);
        }
        assert_eq!(server.split_bytes(partition).await, bytes);
    }
}

#[derive(Debug)]
struct Small;

#[async_trait]
impl PlanPreview for Small {
    async fn preview(
        &self,
        _namespace: &NamespaceName,
        _partition: &PartitionKey,
    ) -> Result<PlanPreviewed, ServiceError> {
        Ok(PlanPreviewed {
            boundary: None,
            bytes: 3,
            rows: 1,
            plan: None,
            reason: Some(SplitReason::Small),
        })
    }
}

#[tokio::test]
async fn a_preview_is_the_planners_and_stores_nothing() {
    let server = server().await;
    let partition = partition(&server, "a").await;
    let admin = &server.core.admin;
    let error = admin.preview_split(&server.ns(), &partition).await.unwrap_err();
    assert_eq!(error.reason, Reason::PlanPreviewUnavailable);
    admin.set_plan_preview(Arc::new(Small));
    let previewed = admin.preview_split(&server.ns(), &partition).await.unwrap();
    assert_eq!(previewed.bytes, 3);
    let error = admin.get_split(&server.ns(), &partition).await.unwrap_err();
    assert_eq!(error.reason, Reason::SplitNotFound);
}

#[test]
fn a_partition_is_read_back_from_its_text() {
    for id in ["a", "a/b", "/", "a/1/2", "//"] {
        let partition = PartitionKey {
            slice: SliceName::new("20260101").unwrap(),
            time_series_id: TimeSeriesId::new(id).unwrap(),
            time_bucket: -HOUR,
            event_bucket: 7,
        };
        assert_eq!(partition_of(&partition.to_string()), Some(partition));
    }
    assert_eq!(partition_of("a/b"), None);
}
