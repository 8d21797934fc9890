use std::collections::BTreeSet;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::*;

#[test]
fn every_reason_is_well_formed() {
    let mut seen = BTreeSet::new();
    for reason in Reason::ALL {
        let entry = reason.entry();
        assert!(seen.insert(entry.reason), "{reason} is listed twice");
        assert!(entry.reason.len() <= 63, "{reason} is too long for an ErrorInfo");
        assert!(entry.reason.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'));
        for text in [entry.summary, entry.fix, entry.example] {
            assert!(!text.is_empty() && !text.ends_with('.'), "{reason}: {text}");
        }
        if entry.detail == Detail::BadRequest {
            assert_eq!(entry.code, Code::InvalidArgument, "{reason}");
        }
        assert_eq!(Reason::named(entry.reason), Some(*reason));
    }
}

#[test]
fn every_reason_goes_over_the_wire_with_one_error_info_and_its_detail() {
    for reason in Reason::ALL {
        let mut error = ServiceError::new(*reason, "demo is wrong").with("namespace", "demo");
        if reason.entry().detail == Detail::BadRequest {
            error = error.field("some.field", "is wrong");
        }
        let status = Status::from(error);
        assert_eq!(
            (status.code(), status.message()),
            (reason.entry().code, "demo is wrong")
        );

        let details = status.get_error_details();
        let info = details.error_info().expect("an ErrorInfo");
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            (reason.name(), "anabranch.dev")
        );
        assert_eq!(info.metadata["namespace"], "demo");
        match reason.entry().detail {
            Detail::BadRequest => {
                let request = details.bad_request().expect("a BadRequest");
                assert_eq!(request.field_violations[0].field, "some.field");
            }
            Detail::PreconditionFailure => {
                let failure = details.precondition_failure().expect("a PreconditionFailure");
                assert_eq!(failure.violations[0].r#type, reason.name());
                assert_eq!(failure.violations[0].subject, "namespace:demo");
            }
            Detail::QuotaFailure => assert!(details.quota_failure().is_some()),
            Detail::ResourceInfo => {
                assert_eq!(
                    details.resource_info().expect("a ResourceInfo").resource_name,
                    "demo"
                );
            }
            Detail::None => {}
        }
        assert_eq!(
            details.retry_info().is_some(),
            reason.entry().retry_after_ms.is_some()
        );
        assert_eq!(reason_of(&status), Some(*reason));
    }
}

#[test]
fn several_fields_are_all_named() {
    let error = ServiceError::of_field(Reason::InvalidSetting, "event_buckets", "use 1 to 64")
        .field("tuning.mode", "use OFF, PROPOSE or APPLY");
    assert_eq!(error.to_string(), "INVALID_SETTING: event_buckets: use 1 to 64");
    let details = error.to_status().get_error_details();
    let fields = details
        .bad_request()
        .expect("a BadRequest")
        .field_violations
        .clone();
    let fields: Vec<_> = fields.iter().map(|v| v.field.as_str()).collect();
    assert_eq!(fields, ["event_buckets", "tuning.mode"]);
}

#[test]
fn details_stay_small_enough_for_a_header() {
    let mut error = ServiceError::new(Reason::InvalidEvent, "ü".repeat(5_000));
    for at in 0..10_000 {
        error = error.field(format!("events[{at}].event_id"), "ü".repeat(5_000));
    }
    let status = error.to_status();
    assert!(
        status.details().len() < 4 << 10,
        "{} bytes",
        status.details().len()
    );
    assert!(status.message().len() < 1 << 10);
}

#[test]
fn what_a_store_says_has_a_reason() {
    let source = || -> Box<dyn std::error::Error + Send + Sync> { "disk full".into() };
    let cases = [
        (
            StoreError::NoTable { table: "t".into() },
            Reason::StoreUnreachable,
        ),
        (
            StoreError::Corrupt {
                what: "row".into(),
                reason: "short".into(),
            },
            Reason::StoreCorrupt,
        ),
        (StoreError::Overloaded, Reason::ServerOverloaded),
        (
            StoreError::Unavailable {
                doing: "scanning",
                source: source(),
            },
            Reason::StoreUnreachable,
        ),
        (
            StoreError::Unknown {
                doing: "committing",
                source: source(),
            },
            Reason::StoreOutcomeUnknown,
        ),
        (
            StoreError::Refused {
                doing: "writing events",
                reason: "no right".into(),
            },
            Reason::StoreRefused,
        ),
    ];
    for (store, reason) in cases {
        assert_eq!(ServiceError::from(store).reason, reason);
    }
}

#[test]
fn bare_statuses_of_the_transport_get_a_reason() {
    let reason = |status| reason_of(&dress(status, "/a.B/C")).expect("a reason");
    let large = Status::out_of_range("Error, decoded message length too large: found 9 bytes");
    assert_eq!(reason(large), Reason::MessageTooLarge);
    assert_eq!(reason(Status::unimplemented("")), Reason::MethodNotFound);
    let bytes = Status::internal("failed to decode Protobuf message: buffer underflow");
    assert_eq!(reason(bytes), Reason::InvalidMessage);
    assert_eq!(
        reason(Status::not_found("service not registered")),
        Reason::ServiceNotFound
    );
    assert_eq!(reason(Status::unknown("oops")), Reason::Internal);
    let ours = ServiceError::new(Reason::IdBlocked, "blocked").to_status();
    assert_eq!(reason(ours), Reason::IdBlocked);
}

#[test]
fn nearest_name_is_near_or_none() {
    assert_eq!(
        nearest("GetNamespaces", ["GetNamespace", "ListNamespaces"]),
        Some("GetNamespace")
    );
    assert_eq!(nearest("q", ["GetNamespace"]), None);
    let error = ServiceError::namespace_not_found("dmeo", ["audit", "demo"]);
    assert_eq!(error.message, "no namespace `dmeo`; did you mean `demo`?");
}
