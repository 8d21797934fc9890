//! Every reason in the catalogue of errors is met over the real surface, by gRPC and by JSON, with the code, the one
//! `ErrorInfo` and the detail that it documents. And wrong input of any other kind is never INTERNAL, UNKNOWN or a panic.
//!
//! `ANABRANCH_FUZZ` says how many wrong requests are tried (3,000).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, reports on stdout, and runs a real process in real time"
)]

mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anabranch_proto::timeseries::v1 as wire;
use bytes::Bytes;
use harness::made::Dice;
use harness::{Server, Started, json, raw};
use serde_json::{Value, json};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

const CATALOGUE: &str = include_str!("../../../server/src/errors.toml");

/// Reasons that only a fault or a race reaches, and the test beside the code that reaches each: file, function.
const REACHED_BY_UNIT_TESTS: &[(&str, &str, &str)] = &[
    (
        "INTERNAL",
        "server/src/errors/tests.rs",
        "bare_statuses_of_the_transport_get_a_reason",
    ),
    (
        "NAMESPACE_CHANGED",
        "server/src/namespaces/tests.rs",
        "one_of_two_updates_at_once_is_told_that_it_lost",
    ),
    (
        "SERVER_DRAINING",
        "server/src/write/tests.rs",
        "a_stop_drains_the_queue_and_takes_nothing_more",
    ),
    (
        "STORE_CORRUPT",
        "server/src/errors/tests.rs",
        "what_a_store_says_has_a_reason",
    ),
    (
        "STORE_OUTCOME_UNKNOWN",
        "server/src/write/tests.rs",
        "parts_that_fail_are_named_and_the_others_stay",
    ),
    (
        "DEADLINE_EXCEEDED",
        "server/src/grpc/tests/transport.rs",
        "a_deadline_is_answered_as_one",
    ),
    (
        "WRITE_QUEUE_FULL",
        "server/src/write/tests.rs",
        "a_full_queue_says_so_and_counts_what_it_dropped",
    ),
    (
        "TOO_MANY_TIME_SLICES",
        "server/src/slices/tests.rs",
        "a_namespace_can_not_have_slices_without_end",
    ),
    (
        "SERVICE_NOT_FOUND",
        "server/src/grpc/tests/transport.rs",
        "health_says_not_serving_from_the_start_of_the_drain",
    ),
    (
        "STORE_REFUSED",
        "server/src/errors/tests.rs",
        "what_a_store_says_has_a_reason",
    ),
    (
        "STORE_UNREACHABLE",
        "server/src/write/tests.rs",
        "parts_that_fail_are_named_and_the_others_stay",
    ),
    (
        "WRITE_PARTLY_FAILED",
        "server/src/write/tests.rs",
        "parts_that_fail_are_named_and_the_others_stay",
    ),
    (
        "SPLIT_STATE",
        "server/src/admin/splits/tests.rs",
        "a_step_that_the_state_does_not_take_is_refused",
    ),
    (
        "SPLIT_RECORD_UNREADABLE",
        "server/src/admin/splits/tests.rs",
        "a_record_that_can_not_be_read_is_shown_and_left_alone",
    ),
    (
        "PLAN_PREVIEW_UNAVAILABLE",
        "server/src/admin/splits/tests.rs",
        "a_preview_is_the_planners_and_stores_nothing",
    ),
];

const EVENTS: &str = "anabranch.timeseries.v1.TimeSeriesService";
const ADMIN: &str = "anabranch.admin.v1.AdminService";

/// An entry of the catalogue.
#[derive(Debug, Clone)]
struct Entry {
    code: Code,
    detail: String,
    http: Option<u16>,
    retry: bool,
}

fn catalogue() -> BTreeMap<String, Entry> {
    let table: toml::Table = CATALOGUE.parse().unwrap();
    let text = |entry: &toml::Value, key: &str| entry[key].as_str().unwrap().to_owned();
    table["error"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            let parsed = Entry {
                code: code_named(&text(entry, "code")),
                detail: text(entry, "detail"),
                http: entry
                    .get("http")
                    .map(|http| u16::try_from(http.as_integer().unwrap()).unwrap()),
                retry: entry.get("retry_after_ms").is_some(),
            };
            (text(entry, "reason"), parsed)
        })
        .collect()
}

fn code_named(name: &str) -> Code {
    (0..17)
        .map(Code::from_i32)
        .find(|code| code_name(*code) == name)
        .unwrap_or_else(|| panic!("no gRPC code is called {name}"))
}

fn code_name(code: Code) -> String {
    let mut name = String::new();
    for (at, letter) in format!("{code:?}").chars().enumerate() {
        if at > 0 && letter.is_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// What must hold for every error, whatever its reason. Returns the reason.
fn check_status(status: &Status, catalogue: &BTreeMap<String, Entry>, what: &str) -> String {
    let details = status.get_error_details_vec();
    let infos = details
        .iter()
        .filter(|one| matches!(one, tonic_types::ErrorDetail::ErrorInfo(_)))
        .count();
    assert_eq!(infos, 1, "{what}: not exactly one ErrorInfo: {status:?}");
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.domain, "anabranch.dev", "{what}");
    let entry = catalogue
        .get(&info.reason)
        .unwrap_or_else(|| panic!("{what}: {} is in no catalogue", info.reason));
    assert_eq!(status.code(), entry.code, "{what}: {status:?}");
    let all = status.get_error_details();
    let mut there = BTreeSet::new();
    if let Some(bad) = all.bad_request() {
        assert!(
            !bad.field_violations.is_empty(),
            "{what}: a BadRequest that names no field"
        );
        there.insert("BadRequest");
    }
    if let Some(failed) = all.precondition_failure() {
        assert!(
            !failed.violations.is_empty(),
            "{what}: a PreconditionFailure without a violation"
        );
        there.insert("PreconditionFailure");
    }
    if let Some(quota) = all.quota_failure() {
        assert!(
            !quota.violations.is_empty(),
            "{what}: a QuotaFailure without a violation"
        );
        there.insert("QuotaFailure");
    }
    if all.resource_info().is_some() {
        there.insert("ResourceInfo");
    }
    let expected: BTreeSet<&str> = [entry.detail.as_str()]
        .into_iter()
        .filter(|detail| *detail != "None")
        .collect();
    assert_eq!(there, expected, "{what}: {status:?}");
    assert!(
        !entry.retry || all.retry_info().is_some(),
        "{what}: no RetryInfo: {status:?}"
    );
    assert!(!status.message().is_empty(), "{what}: no message");
    info.reason
}

/// The same for an answer of the JSON surface, which is a `google.rpc.Status` as JSON.
fn check_answer(answer: &json::Answer, catalogue: &BTreeMap<String, Entry>, what: &str) -> String {
    assert!(
        answer.status >= 400,
        "{what}: {} {}",
        answer.status,
        answer.text()
    );
    assert!(
        answer.head.contains("content-type: application/json"),
        "{what}: {}",
        answer.head
    );
    let body = answer.json();
    let details = body["details"]
        .as_array()
        .unwrap_or_else(|| panic!("{what}: no details: {body}"));
    let kind = |detail: &Value| {
        detail["@type"]
            .as_str()
            .unwrap_or_default()
            .rsplit('.')
            .next()
            .unwrap()
            .to_owned()
    };
    let infos: Vec<_> = details
        .iter()
        .filter(|detail| kind(detail) == "ErrorInfo")
        .collect();
    assert_eq!(infos.len(), 1, "{what}: not exactly one ErrorInfo: {body}");
    assert_eq!(infos[0]["domain"], "anabranch.dev", "{what}: {body}");
    let reason = infos[0]["reason"].as_str().unwrap().to_owned();
    let entry = catalogue
        .get(&reason)
        .unwrap_or_else(|| panic!("{what}: {reason} is in no catalogue"));
    assert_eq!(body["code"], json!(entry.code as i32), "{what}: {body}");
    if let Some(http) = entry.http {
        assert_eq!(answer.status, http, "{what}: {body}");
    }
    let kinds: BTreeSet<String> = details.iter().map(kind).collect();
    if entry.detail != "None" {
        assert!(
            kinds.contains(&entry.detail),
            "{what}: no {}: {body}",
            entry.detail
        );
    }
    assert!(
        !entry.retry || kinds.contains("RetryInfo"),
        "{what}: no RetryInfo: {body}"
    );
    assert!(
        body["message"]
            .as_str()
            .is_some_and(|message| !message.is_empty()),
        "{what}: {body}"
    );
    reason
}

fn event(id: &str, time: &str) -> Value {
    json!({"timeSeriesId": id, "eventTime": time, "eventId": "e",
        "eventItems": [{"eventItemKey": "k", "eventItemValue": "dg=="}]})
}

/// `event` with one field changed, in a write.
fn write(change: impl Fn(&mut Value)) -> Value {
    let mut event = event("a", "2026-01-01T00:00:00Z");
    change(&mut event);
    json!({"namespace": "any", "events": [event]})
}

fn read(more: Value) -> Value {
    merged(json!({"namespace": "any", "timeSeriesId": "a"}), more)
}

fn merged(mut request: Value, more: Value) -> Value {
    let Value::Object(more) = more else {
        panic!("not an object")
    };
    request.as_object_mut().unwrap().extend(more);
    request
}

/// A search query that nests so many levels.
fn deep(levels: usize) -> Value {
    (0..levels).fold(
        json!({"exists": {"eventItemKey": "k"}}),
        |inner, _| json!({"booleanQuery": {"operator": "NOT", "searchQuery": [inner]}}),
    )
}

/// Requests that are wrong in one way each: the reason, the method, the request.
fn cases(token: &str) -> Vec<(&'static str, String, Value)> {
    let events = |method: &str| format!("{EVENTS}/{method}");
    let admin = |method: &str| format!("{ADMIN}/{method}");
    let sync = events("WriteEventRecordsSync");
    let reads = events("ReadEventRecords");
    let search = events("SearchEventRecords");
    let aggregate = events("AggregateEventRecords");
    let query = |query: Value| json!({"namespace": "any", "searchQuery": query});
    let aggregation = |query: Value| json!({"namespace": "any", "aggregationQuery": query});
    let create = |more: Value| json!({"namespace": merged(json!({"name": "new"}), more)});
    let key = json!({"eventItemKey": "k"});
    let long = |length: usize| "x".repeat(length);
    let mut cases = vec![
        (
            "INVALID_NAMESPACE_NAME",
            admin("CreateNamespace"),
            json!({"namespace": {"name": "a/b"}}),
        ),
        ("INVALID_NAMESPACE_NAME", admin("CreateNamespace"), json!({})),
        (
            "INVALID_NAMESPACE_NAME",
            admin("CreateNamespace"),
            json!({"namespace": {"name": long(500)}}),
        ),
        ("INVALID_EVENT", sync.clone(), write(|e| e["eventId"] = json!(""))),
        (
            "INVALID_EVENT",
            sync.clone(),
            write(|e| e["eventItems"] = json!([])),
        ),
        (
            "INVALID_EVENT",
            sync.clone(),
            write(|e| e["eventItems"] = json!([key, key])),
        ),
        (
            "INVALID_EVENT",
            events("WriteEventRecords"),
            write(|e| e["eventItems"] = json!([])),
        ),
        (
            "FIELD_TOO_LARGE",
            sync.clone(),
            write(|e| e["eventItems"][0]["eventItemValue"] = json!(long(4 << 20))),
        ),
        (
            "FIELD_TOO_LARGE",
            sync.clone(),
            write(|e| e["eventId"] = json!(long(5_000))),
        ),
        (
            "FIELD_TOO_LARGE",
            sync.clone(),
            write(|e| e["eventItems"][0]["eventItemKey"] = json!(long(5_000))),
        ),
        (
            "INVALID_TIME_SERIES_ID",
            reads.clone(),
            json!({"namespace": "any"}),
        ),
        ("INVALID_PAGE_SIZE", reads.clone(), read(json!({"pageSize": -1}))),
        (
            "INVALID_PAGE_SIZE",
            reads.clone(),
            read(json!({"totalRecordLimit": -5})),
        ),
        (
            "INVALID_PAGE_SIZE",
            search.clone(),
            json!({"namespace": "any", "pageSize": -1}),
        ),
        (
            "INVALID_PAGE_SIZE",
            aggregate.clone(),
            merged(aggregation(json!({"count": {}})), json!({"pageSize": -1})),
        ),
        (
            "INVALID_PAGE_SIZE",
            admin("ListNamespaces"),
            json!({"pageSize": -1}),
        ),
        (
            "INVALID_PAGE_SIZE",
            admin("ListTimeSlices"),
            json!({"namespace": "any", "pageSize": -1}),
        ),
        (
            "INVALID_PAGE_SIZE",
            admin("ListBlockedTimeSeriesIds"),
            json!({"namespace": "any", "pageSize": -1}),
        ),
        (
            "INVALID_TIME_INTERVAL",
            reads.clone(),
            read(json!({"timeInterval": {"start": "2026-02-01T00:00:00Z", "end": "2026-01-01T00:00:00Z"}})),
        ),
        (
            "INVALID_TIMESTAMP",
            sync.clone(),
            write(|e| _ = e.as_object_mut().unwrap().remove("eventTime")),
        ),
        (
            "INVALID_EVENT_FILTER",
            reads.clone(),
            read(json!({"eventFilters": [{}]})),
        ),
        (
            "INVALID_LATENCY_SLO",
            reads.clone(),
            read(json!({"latencySlo": "-1s"})),
        ),
        (
            "INVALID_LATENCY_SLO",
            reads.clone(),
            read(json!({"latencySlo": "0s"})),
        ),
        ("INVALID_DIRECTION", reads.clone(), read(json!({"direction": 7}))),
        (
            "INVALID_READ_MASK",
            reads.clone(),
            read(json!({"readMask": "eventName"})),
        ),
        ("INVALID_SEARCH_QUERY", search.clone(), query(json!({}))),
        (
            "INVALID_SEARCH_QUERY",
            search.clone(),
            query(json!({"booleanQuery": {"operator": "AND"}})),
        ),
        (
            "INVALID_SEARCH_QUERY",
            search.clone(),
            query(json!({"booleanQuery": {"searchQuery": [deep(0)]}})),
        ),
        (
            "INVALID_SEARCH_QUERY",
            search.clone(),
            query(json!({"booleanQuery": {"operator": "NOT", "searchQuery": []}})),
        ),
        ("INVALID_SEARCH_QUERY", search.clone(), query(deep(40))),
        (
            "INVALID_SEARCH_QUERY",
            search.clone(),
            query(json!({"range": key})),
        ),
        (
            "INVALID_SEARCH_QUERY",
            search.clone(),
            query(json!({"exists": {}})),
        ),
        (
            "INVALID_SEARCH_QUERY",
            search.clone(),
            query(json!({"timeSeriesIds": {}})),
        ),
        (
            "INVALID_SEARCH_QUERY",
            search.clone(),
            query(json!({"equals": {"eventItemKey": "number", "eventItemValue": "dg=="}})),
        ),
        ("INVALID_AGGREGATION", aggregate.clone(), aggregation(json!({}))),
        (
            "INVALID_AGGREGATION",
            aggregate.clone(),
            json!({"namespace": "any"}),
        ),
        (
            "INVALID_AGGREGATION",
            aggregate.clone(),
            aggregation(json!({"sum": key})),
        ),
        (
            "INVALID_AGGREGATION",
            aggregate.clone(),
            aggregation(json!({"avg": key})),
        ),
        (
            "INVALID_AGGREGATION",
            aggregate.clone(),
            aggregation(json!({"min": {}})),
        ),
        (
            "INVALID_DURATION",
            aggregate,
            aggregation(json!({"count": {}, "groupBy": {"timeWidth": "-1s"}})),
        ),
        (
            "INVALID_UPDATE_MASK",
            admin("UpdateNamespace"),
            json!({"namespace": {"name": "any"}, "updateMask": "name"}),
        ),
        (
            "INVALID_UPDATE_MASK",
            admin("UpdateNamespace"),
            json!({"namespace": {"name": "any"}, "updateMask": "noSuchSetting"}),
        ),
        (
            "INVALID_SETTING",
            admin("CreateNamespace"),
            create(json!({"eventBuckets": 0})),
        ),
        (
            "INVALID_SETTING",
            admin("CreateNamespace"),
            create(json!({"secondsPerTimeSlice": "-1"})),
        ),
        (
            "INVALID_SETTING",
            admin("CreateNamespace"),
            create(json!({"secondsPerTimeSlice": "100", "secondsPerTimeBucket": "33"})),
        ),
        (
            "INVALID_SETTING",
            admin("CreateNamespace"),
            create(json!({"widePartition": {"compareRatio": 2}})),
        ),
        (
            "INVALID_SETTING",
            admin("CreateNamespace"),
            create(json!({"retention": {"closeAfter": "200s", "deleteAfter": "100s"}})),
        ),
        (
            "INVALID_REASON",
            admin("BlockTimeSeriesIds"),
            json!({"namespace": "any", "timeSeriesIds": ["a"], "reason": long(2_000)}),
        ),
        (
            "PAGE_TOKEN_INVALID",
            reads.clone(),
            read(json!({"pageToken": "x"})),
        ),
        (
            "PAGE_TOKEN_MISMATCH",
            search,
            json!({"namespace": "any", "pageToken": token}),
        ),
        (
            "PAGE_TOKEN_MISMATCH",
            reads.clone(),
            json!({"namespace": "any", "timeSeriesId": "b", "pageToken": token}),
        ),
        (
            "PAGE_TOKEN_MISMATCH",
            reads.clone(),
            read(json!({"direction": "ASCENDING", "pageToken": token})),
        ),
        (
            "INVALID_PAGE_SIZE",
            admin("ListSplits"),
            json!({"namespace": "any", "pageSize": -1}),
        ),
        (
            "INVALID_SPLIT_STATE",
            admin("ListSplits"),
            json!({"namespace": "any", "state": 99}),
        ),
        (
            "PAGE_TOKEN_INVALID",
            admin("ListSplits"),
            json!({"namespace": "any", "pageToken": "x"}),
        ),
        (
            "INVALID_PARTITION",
            admin("GetSplit"),
            json!({"namespace": "any"}),
        ),
        (
            "INVALID_PARTITION",
            admin("RetrySplit"),
            json!({"namespace": "any", "partition": {"timeSlice": "../x", "timeSeriesId": "a"}}),
        ),
        (
            "INVALID_PARTITION",
            admin("InvalidateSplit"),
            json!({"namespace": "any", "partition": {"timeSlice": "all", "timeSeriesId": ""}}),
        ),
        (
            "INVALID_PARTITION",
            admin("GetPartitionSizes"),
            json!({"namespace": "any", "timeSlice": "../x"}),
        ),
        (
            "TIME_SLICE_NOT_FOUND",
            admin("GetPartitionSizes"),
            json!({"namespace": "any", "timeSlice": "19991231"}),
        ),
        (
            "TIME_SLICE_NOT_FOUND",
            admin("PlanSplit"),
            json!({"namespace": "any", "dryRun": true,
                "partition": {"timeSlice": "19991231", "timeSeriesId": "a"}}),
        ),
        (
            "SPLIT_NOT_FOUND",
            admin("GetSplit"),
            json!({"namespace": "any", "partition": {"timeSlice": "19991231", "timeSeriesId": "a"}}),
        ),
        (
            "NAMESPACE_NOT_FOUND",
            admin("ListSplits"),
            json!({"namespace": "anx"}),
        ),
        (
            "SPLITTING_OFF",
            admin("PlanSplit"),
            json!({"namespace": "unsplit", "partition": {"timeSlice": "all", "timeSeriesId": "a"}}),
        ),
        ("METHOD_NOT_FOUND", admin("GetNamespaces"), json!({})),
        ("METHOD_NOT_FOUND", "no.such.Service/Method".to_owned(), json!({})),
        (
            "NAMESPACE_NOT_FOUND",
            admin("GetNamespace"),
            json!({"name": "anx"}),
        ),
        (
            "NAMESPACE_NOT_FOUND",
            admin("DeleteNamespace"),
            json!({"name": "anx"}),
        ),
        (
            "NAMESPACE_NOT_FOUND",
            reads.clone(),
            json!({"namespace": "anx", "timeSeriesId": "a"}),
        ),
        (
            "NAMESPACE_NOT_FOUND",
            sync.clone(),
            merged(write(|_| ()), json!({"namespace": "anx"})),
        ),
        (
            "NAMESPACE_ALREADY_EXISTS",
            admin("CreateNamespace"),
            json!({"namespace": {"name": "any"}}),
        ),
        (
            "TIME_SLICE_CLOSED",
            sync.clone(),
            merged(write(|_| ()), json!({"namespace": "closing"})),
        ),
        (
            "TIME_SLICE_SEALED",
            sync.clone(),
            merged(write(|_| ()), json!({"namespace": "sealed"})),
        ),
        (
            "EVENT_TOO_OLD",
            sync.clone(),
            merged(write(|_| ()), json!({"namespace": "strict"})),
        ),
        (
            "EVENT_TOO_FAR_AHEAD",
            sync.clone(),
            write(|e| e["eventTime"] = json!("2999-01-01T00:00:00Z")),
        ),
        (
            "ID_BLOCKED",
            reads,
            json!({"namespace": "any", "timeSeriesId": "blocked"}),
        ),
        (
            "FIELD_TOO_LARGE",
            events("WriteEventRecords"),
            // 90,000 bytes in a queue of 65,536.
            merged(
                write(|e| e["eventItems"][0]["eventItemValue"] = json!("A".repeat(120_000))),
                json!({"namespace": "narrow"}),
            ),
        ),
        (
            "MESSAGE_TOO_LARGE",
            sync.clone(),
            write(|e| e["eventId"] = json!(long(70 << 20))),
        ),
    ];
    let many: Vec<Value> = (0..50_000)
        .map(|n| json!({"timeSeriesId": "a", "eventId": n.to_string()}))
        .collect();
    cases.push((
        "TOO_MANY_EVENTS",
        sync,
        json!({"namespace": "any", "events": many}),
    ));
    cases
}

/// Reasons that a time in JSON can not have, because it would not be read as one: as protobuf.
async fn grpc_only(channel: &Channel, catalogue: &BTreeMap<String, Entry>) -> BTreeSet<String> {
    let mut met = BTreeSet::new();
    let admin = |method: &str| format!("{ADMIN}/{method}");
    let wrong = raw::call(
        channel,
        &admin("GetNamespace"),
        Bytes::from_static(&[0xff; 4]),
        &[],
    )
    .await
    .unwrap_err();
    assert_eq!(check_status(&wrong, catalogue, "0xff"), "INVALID_MESSAGE");
    met.insert("INVALID_MESSAGE".to_owned());
    let soon = raw::call(
        channel,
        &admin("ListNamespaces"),
        Bytes::new(),
        &[("grpc-timeout", "soon")],
    )
    .await;
    assert_eq!(
        check_status(&soon.unwrap_err(), catalogue, "grpc-timeout: soon"),
        "INVALID_DEADLINE"
    );
    met.insert("INVALID_DEADLINE".to_owned());

    let mut client = harness::events(channel.clone());
    let mut event = wire::EventRecord {
        time_series_id: "a".into(),
        event_time: Some(prost_types::Timestamp {
            seconds: 0,
            nanos: -1,
        }),
        event_id: "e".into(),
        event_items: vec![wire::EventItem {
            event_item_key: "k".into(),
            event_item_value: Bytes::new(),
        }],
    };
    let far = [
        (0, -1),
        (i64::MAX, 0),
        (i64::MIN, 0),
        (0, 1_000_000_000),
        (253_402_300_800, 0),
    ];
    for (seconds, nanos) in far {
        event.event_time = Some(prost_types::Timestamp { seconds, nanos });
        let request = wire::WriteEventRecordsSyncRequest {
            namespace: "any".into(),
            events: vec![event.clone()],
        };
        let status = client.write_event_records_sync(request).await.unwrap_err();
        assert_eq!(
            check_status(&status, catalogue, "a time"),
            "INVALID_TIMESTAMP",
            "{seconds}.{nanos}"
        );
    }
    met
}

/// Reasons about how JSON is written.
fn json_only(server: &Server, catalogue: &BTreeMap<String, Entry>) -> BTreeSet<String> {
    let reads = format!("{EVENTS}/ReadEventRecords");
    let path = format!("/api/{ADMIN}/ListNamespaces");
    let json_type = "content-type: application/json\r\n";
    let answers = [
        (
            "UNKNOWN_FIELD",
            json::call(server.address, &reads, &json!({"namespce": "any"})),
        ),
        (
            "INVALID_JSON",
            json::call_bytes(server.address, &format!("{ADMIN}/GetNamespace"), b"{\"name\": 7"),
        ),
        (
            "INVALID_JSON",
            json::call(server.address, &reads, &read(json!({"pageSize": "many"}))),
        ),
        (
            "INVALID_JSON",
            json::call_bytes(server.address, &reads, b"\xff\xfe\x00"),
        ),
        (
            "INVALID_JSON",
            json::call_bytes(server.address, &reads, "[".repeat(100_000).as_bytes()),
        ),
        (
            "HTTP_METHOD_NOT_ALLOWED",
            json::send(server.address, "GET", &path, "", b""),
        ),
        (
            "UNSUPPORTED_CONTENT_TYPE",
            json::send(
                server.address,
                "POST",
                &path,
                "content-type: text/xml\r\n",
                b"<a/>",
            ),
        ),
        (
            "METHOD_NOT_FOUND",
            json::send(
                server.address,
                "POST",
                &format!("/api/{EVENTS}/IngestEventRecords"),
                json_type,
                b"{}",
            ),
        ),
    ];
    let mut met = BTreeSet::new();
    for (reason, answer) in answers {
        assert_eq!(
            check_answer(&answer, catalogue, reason),
            reason,
            "{}",
            answer.text()
        );
        met.insert(reason.to_owned());
    }
    met
}

async fn overload(server: &Server, catalogue: &BTreeMap<String, Entry>) -> BTreeSet<String> {
    let mut met = BTreeSet::new();
    let channel = server.channel().await;
    let calls = (0..400).map(|_| {
        let channel = channel.clone();
        async move {
            let request = wire::AggregateEventRecordsRequest {
                namespace: "any".into(),
                aggregation_query: Some(wire::AggregationQuery {
                    aggregation: Some(wire::aggregation_query::Aggregation::Count(
                        wire::CountAggregation::default(),
                    )),
                    group_by: None,
                }),
                ..wire::AggregateEventRecordsRequest::default()
            };
            harness::events(channel)
                .aggregate_event_records(request)
                .await
                .err()
        }
    });
    for status in futures::future::join_all(calls).await.into_iter().flatten() {
        met.insert(check_status(&status, catalogue, "many calls at once"));
    }
    met
}

async fn prepare(server: &Server) -> String {
    let mut admin = server.admin().await;
    let any = anabranch_proto::admin::v1::Namespace {
        field_mapping: [(
            "number".to_owned(),
            anabranch_proto::admin::v1::namespace::FieldType::Integer.into(),
        )]
        .into(),
        ..harness::namespace("any")
    };
    harness::create(&mut admin, any).await;
    harness::create(&mut admin, harness::namespace("sealed")).await;
    let strict = anabranch_proto::admin::v1::Namespace {
        name: "strict".into(),
        ..Default::default()
    };
    harness::create(&mut admin, strict).await;
    let closing = anabranch_proto::admin::v1::Namespace {
        seconds_per_time_slice: Some(3_600),
        seconds_per_time_bucket: Some(3_600),
        retention: Some(anabranch_proto::admin::v1::Retention {
            close_after: Some(harness::duration(3_600)),
            delete_after: None,
        }),
        ..harness::namespace("closing")
    };
    harness::create(&mut admin, closing).await;
    let narrow = anabranch_proto::admin::v1::Namespace {
        queue_buffering: Some(anabranch_proto::admin::v1::QueueBuffering {
            coalesce: Some(harness::duration(1)),
            buffer_capacity_bytes: Some(65_536),
        }),
        ..harness::namespace("narrow")
    };
    harness::create(&mut admin, narrow).await;
    let unsplit = anabranch_proto::admin::v1::Namespace {
        seconds_per_time_slice: Some(0),
        wide_partition: Some(anabranch_proto::admin::v1::WidePartition {
            rollout: anabranch_proto::admin::v1::wide_partition::Rollout::Detect.into(),
            ..Default::default()
        }),
        ..harness::namespace("unsplit")
    };
    harness::create(&mut admin, unsplit).await;
    let block = anabranch_proto::admin::v1::BlockTimeSeriesIdsRequest {
        namespace: "any".into(),
        time_series_ids: vec!["blocked".into()],
        reason: "for the test".into(),
    };
    admin.block_time_series_ids(block).await.unwrap();
    let seal = anabranch_proto::admin::v1::SealTimeSlicesRequest {
        namespace: "sealed".into(),
        before: None,
    };
    admin.seal_time_slices(seal).await.unwrap();

    let mut client = server.events().await;
    let events = (0..50).map(|n| wire::EventRecord {
        time_series_id: "a".into(),
        event_time: Some(prost_types::Timestamp {
            seconds: 1_767_225_600 + n,
            nanos: 0,
        }),
        event_id: n.to_string(),
        event_items: vec![wire::EventItem {
            event_item_key: "k".into(),
            event_item_value: Bytes::from_static(b"v"),
        }],
    });
    let request = wire::WriteEventRecordsSyncRequest {
        namespace: "any".into(),
        events: events.collect(),
    };
    client.write_event_records_sync(request).await.unwrap();
    let request = wire::ReadEventRecordsRequest {
        namespace: "any".into(),
        time_series_id: "a".into(),
        page_size: 5,
        ..wire::ReadEventRecordsRequest::default()
    };
    client
        .read_event_records(request)
        .await
        .unwrap()
        .into_inner()
        .next_page_token
}

#[test]
fn every_reason_is_met_over_grpc_and_json() {
    let catalogue = catalogue();
    let place = harness::folder("catalogue");
    let server = Server::start(&place.path().join("data"));
    let runtime = harness::runtime();
    let pool = raw::pool();
    let mut met: BTreeMap<String, u64> = BTreeMap::new();
    let mut wrong = Vec::new();
    runtime.block_on(async {
        let token = prepare(&server).await;
        let channel = server.channel().await;
        for (reason, method, request) in cases(&token) {
            let what = format!("{reason} by {method} {:.120}", request.to_string());
            // What proto3 JSON can not say at all is refused before it is a message: the other half covers it.
            let message = raw::encode(&pool, &method, &request).unwrap_or_default();
            match raw::call(&channel, &method, message, &[]).await {
                Ok(_) => wrong.push(format!("{what}: gRPC answers OK")),
                Err(status) => {
                    let found = check_status(&status, &catalogue, &what);
                    if found == reason {
                        *met.entry(found).or_default() += 1;
                    } else {
                        wrong.push(format!("{what}: gRPC answers {found}: {}", status.message()));
                    }
                }
            }
            let answer = json::call(server.address, &method, &request);
            if answer.status < 400 {
                wrong.push(format!("{what}: JSON answers {}", answer.status));
                continue;
            }
            let found = check_answer(&answer, &catalogue, &what);
            if found == reason {
                *met.entry(found).or_default() += 1;
            } else {
                wrong.push(format!("{what}: JSON answers {found}: {}", answer.text()));
            }
        }
        for reason in grpc_only(&channel, &catalogue).await {
            *met.entry(reason).or_default() += 1;
        }
    });
    for reason in json_only(&server, &catalogue) {
        *met.entry(reason).or_default() += 1;
    }
    server.assert_no_panic();
    server.kill();

    // A server that takes one call at a time.
    let narrow = Started::serve_with(
        &place.path().join("data"),
        &[],
        &[("ANABRANCH_SERVER__REQUESTS_IN_FLIGHT_MAX", "1")],
    )
    .ready()
    .unwrap_or_else(|why| panic!("{why}"));
    for reason in runtime.block_on(overload(&narrow, &catalogue)) {
        *met.entry(reason).or_default() += 1;
    }
    narrow.assert_no_panic();

    for (reason, file, test) in REACHED_BY_UNIT_TESTS {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .join(file);
        let source =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(
            source.contains(&format!("fn {test}(")),
            "{reason}: no test {test} in {file}"
        );
        *met.entry((*reason).to_owned()).or_default() += 1;
    }
    println!("{} of {} reasons met: {met:?}", met.len(), catalogue.len());
    let missing: Vec<_> = catalogue
        .keys()
        .filter(|reason| !met.contains_key(*reason))
        .collect();
    assert!(
        wrong.is_empty(),
        "{} wrong answers:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(missing.is_empty(), "no request met {missing:?}");
}

/// One valid request of each unary method, to be broken.
fn valid(token: &str) -> Vec<(String, Value)> {
    let events = |method: &str| format!("{EVENTS}/{method}");
    let admin = |method: &str| format!("{ADMIN}/{method}");
    let interval = json!({"start": "2025-01-01T00:00:00Z", "end": "2027-01-01T00:00:00Z"});
    let query = json!({"booleanQuery": {"operator": "AND", "searchQuery": [
        {"equals": {"eventItemKey": "k", "eventItemValue": "dg=="}},
        {"range": {"eventItemKey": "number", "lowerBound": {"eventItemValue": "MQ==", "inclusive": true},
            "upperBound": {"eventItemValue": "OQ=="}}},
        {"booleanQuery": {"operator": "OR", "searchQuery": [
            {"prefix": {"eventItemKey": "k", "eventItemValue": "dg=="}}, {"exists": {"eventItemKey": "k"}}]}},
        {"booleanQuery": {"operator": "NOT", "searchQuery": [{"timeSeriesIds": {"ids": ["a", "b"]}}]}}]}});
    vec![
        (
            events("WriteEventRecordsSync"),
            json!({"namespace": "any", "events": [event("a", "2026-01-01T00:00:00Z")]}),
        ),
        (
            events("WriteEventRecords"),
            json!({"namespace": "any", "events": [event("b", "2026-01-01T00:00:00.123456Z")]}),
        ),
        (
            events("ReadEventRecords"),
            json!({"namespace": "any", "timeSeriesId": "a", "timeInterval": interval, "direction": "ASCENDING",
                "eventFilters": [{"matchEventItemKey": "k", "matchEventItemValue": "dg=="}], "readMask": "eventId",
                "latencySlo": "1s", "pageSize": 10, "totalRecordLimit": "100"}),
        ),
        (
            events("ReadEventRecords"),
            json!({"namespace": "any", "timeSeriesId": "a", "pageSize": 5, "pageToken": token}),
        ),
        (
            events("SearchEventRecords"),
            json!({"namespace": "any", "timeInterval": interval, "searchQuery": query, "direction": "DESCENDING",
                "latencySlo": "1s", "pageSize": 10, "totalRecordLimit": "100"}),
        ),
        (
            events("AggregateEventRecords"),
            json!({"namespace": "any", "timeInterval": interval, "searchQuery": query, "latencySlo": "1s",
                "aggregationQuery": {"avg": {"eventItemKey": "number"}, "groupBy": {"timeWidth": "3600s"}},
                "pageSize": 10}),
        ),
        (
            admin("CreateNamespace"),
            json!({"namespace": {"name": "fuzzed", "secondsPerTimeSlice": "3600", "secondsPerTimeBucket": "60",
                "eventBuckets": 2, "acceptLimit": "10s", "acceptAheadLimit": "10s",
                "retention": {"closeAfter": "7200s", "deleteAfter": "9000s"},
                "queueBuffering": {"coalesce": "1s", "bufferCapacityBytes": "100000"},
                "consistency": {"write": "ONE", "read": "ALL"},
                "slos": {"read": {"target": "0.5s", "max": "1s"}}, "fieldMapping": {"number": "INTEGER"},
                "widePartition": {"rollout": "OFF", "detectBytes": "4194304", "compareRatio": 0.5},
                "tuning": {"mode": "OFF", "densityMinBytes": "2097152", "densityMaxBytes": "4194304"}}}),
        ),
        (
            admin("UpdateNamespace"),
            json!({"namespace": {"name": "fuzzed", "acceptLimit": "60s", "eventBuckets": 3},
                "updateMask": "acceptLimit,eventBuckets"}),
        ),
        (admin("GetNamespace"), json!({"name": "any"})),
        (admin("ListNamespaces"), json!({"pageSize": 1, "pageToken": ""})),
        (admin("DeleteNamespace"), json!({"name": "gone"})),
        (
            admin("ListTimeSlices"),
            json!({"namespace": "any", "pageSize": 1, "pageToken": ""}),
        ),
        (
            admin("SealTimeSlices"),
            json!({"namespace": "fuzzed", "before": "2026-01-01T00:00:00Z"}),
        ),
        (
            admin("UnsealTimeSlices"),
            json!({"namespace": "fuzzed", "after": "2026-01-01T00:00:00Z"}),
        ),
        (
            admin("BlockTimeSeriesIds"),
            json!({"namespace": "fuzzed", "timeSeriesIds": ["x", "y"], "reason": "because"}),
        ),
        (
            admin("UnblockTimeSeriesIds"),
            json!({"namespace": "fuzzed", "timeSeriesIds": ["x"]}),
        ),
        (
            admin("ListBlockedTimeSeriesIds"),
            json!({"namespace": "any", "pageSize": 1}),
        ),
        (admin("GetServerStatus"), json!({})),
    ]
}

/// A value that has no business being where it is put.
fn strange(dice: &mut Dice) -> Value {
    match dice.below(26) {
        0 => Value::Null,
        1 => json!(""),
        2 => json!(-1),
        3 => json!(i64::MAX),
        4 => json!("9223372036854775808"),
        5 => json!(1e308),
        6 => json!("NaN"),
        7 => json!([]),
        8 => json!({}),
        9 => json!(true),
        10 => json!("x".repeat(usize::try_from(dice.below(40_000)).unwrap())),
        11 => json!("\u{0}\u{ffff}\u{202e}😀"),
        12 => json!("0000-00-00T00:00:00Z"),
        13 => json!("9999-12-31T23:59:59.999999999Z"),
        14 => json!("0001-01-01T00:00:00Z"),
        15 => json!("-315576000000s"),
        16 => json!("315576000000.999999999s"),
        17 => json!("//79/A=="),
        18 => json!("not base64 !"),
        19 => json!(999),
        20 => deep(usize::try_from(dice.below(120)).unwrap()),
        21 => json!([null, null]),
        22 => json!("../../etc/passwd"),
        23 => json!("2026-02-30T25:61:61Z"),
        24 => json!(-9_223_372_036_854_775_808_i64),
        _ => json!([[[{}]]]),
    }
}

/// Changes one place of a JSON value: a leaf, a field, an element.
fn mutate(value: &mut Value, dice: &mut Dice) {
    let children = match value {
        Value::Object(fields) => fields.len(),
        Value::Array(elements) => elements.len(),
        _ => 0,
    };
    if children == 0 || dice.below(6) == 0 {
        *value = strange(dice);
        return;
    }
    let at = usize::try_from(dice.below(children as u64)).unwrap();
    match value {
        Value::Object(fields) => {
            let key = fields.keys().nth(at).unwrap().clone();
            match dice.below(8) {
                0 => _ = fields.remove(&key),
                1 => {
                    let moved = fields.remove(&key).unwrap();
                    fields.insert(format!("{key}s"), moved);
                }
                2 => _ = fields.insert("searchQuery".to_owned(), strange(dice)),
                _ => mutate(fields.get_mut(&key).unwrap(), dice),
            }
        }
        Value::Array(elements) => match dice.below(8) {
            0 => _ = elements.remove(at),
            1 => {
                let copy = elements[at].clone();
                elements.push(copy);
            }
            _ => mutate(&mut elements[at], dice),
        },
        _ => {}
    }
}

/// No wrong request may ever be the server's fault.
fn blameless(code: Code, what: &str, said: &str) -> Option<String> {
    let wrong = matches!(
        code,
        Code::Internal | Code::Unknown | Code::DataLoss | Code::Unavailable
    );
    wrong.then(|| format!("{what}: {code:?} {said}"))
}

#[test]
fn wrong_input_is_never_the_servers_fault() {
    let tries = harness::number("ANABRANCH_FUZZ", 3_000);
    let seed = harness::number("ANABRANCH_SEED", 7);
    let catalogue = catalogue();
    let place = harness::folder("fuzz");
    let server = Server::start(&place.path().join("data"));
    let runtime = harness::runtime();
    let pool = raw::pool();
    let token = runtime.block_on(prepare(&server));
    let valid = valid(&token);
    for (method, request) in &valid {
        let answer = json::call(server.address, method, request);
        let expected = if method.ends_with("DeleteNamespace") {
            404
        } else {
            200
        };
        assert_eq!(answer.status, expected, "{method} {request}: {}", answer.text());
    }
    let mut dice = Dice::new(seed);
    let mut wrong = Vec::new();
    let mut codes: BTreeMap<String, u64> = BTreeMap::new();
    let channel = runtime.block_on(server.channel());
    for _ in 0..tries {
        let (method, request) = dice.pick(&valid).clone();
        if dice.below(3) > 0 {
            let mut request = request;
            for _ in 0..1 + dice.below(3) {
                mutate(&mut request, &mut dice);
            }
            let body = request.to_string();
            let answer = json::call_bytes(server.address, &method, body.as_bytes());
            if answer.status == 200 {
                *codes.entry("OK".into()).or_default() += 1;
                continue;
            }
            let what = format!("{method} {body:.300}");
            let reason = check_answer(&answer, &catalogue, &what);
            wrong.extend(blameless(catalogue[&reason].code, &what, &answer.text()));
            *codes.entry(reason).or_default() += 1;
            // The same as protobuf, where JSON can be read as one.
            let Ok(message) = raw::encode(&pool, &method, &request) else {
                continue;
            };
            if let Err(status) = runtime.block_on(raw::call(&channel, &method, message, &[])) {
                wrong.extend(blameless(status.code(), &what, status.message()));
                check_status(&status, &catalogue, &what);
            }
        } else {
            // Protobuf with some bytes changed, cut off, or made up.
            let mut message = raw::encode(&pool, &method, &request).unwrap().to_vec();
            match dice.below(3) {
                0 => {
                    let length = usize::try_from(1 + dice.below(60)).unwrap();
                    message = dice.bytes(length);
                }
                1 => message.truncate(usize::try_from(dice.below(message.len() as u64 + 1)).unwrap()),
                _ => {
                    for _ in 0..1 + dice.below(4) {
                        if !message.is_empty() {
                            let at = usize::try_from(dice.below(message.len() as u64)).unwrap();
                            message[at] = u8::try_from(dice.below(256)).unwrap();
                        }
                    }
                }
            }
            let what = format!("{method} {message:02x?}");
            match runtime.block_on(raw::call(&channel, &method, message.into(), &[])) {
                Ok(_) => *codes.entry("OK".into()).or_default() += 1,
                Err(status) => {
                    wrong.extend(blameless(status.code(), &what, status.message()));
                    *codes.entry(check_status(&status, &catalogue, &what)).or_default() += 1;
                }
            }
        }
    }
    // Every character of a page token, changed.
    let mut tokens = 0;
    for at in 0..token.len() {
        for other in ['A', 'z', '-', '=', '%'] {
            let mut changed: Vec<char> = token.chars().collect();
            if changed[at] == other {
                continue;
            }
            changed[at] = other;
            let changed: String = changed.into_iter().collect();
            let request =
                json!({"namespace": "any", "timeSeriesId": "a", "pageSize": 5, "pageToken": changed});
            let answer = json::call(server.address, &format!("{EVENTS}/ReadEventRecords"), &request);
            let reason = if answer.status == 200 {
                "OK".to_owned()
            } else {
                check_answer(&answer, &catalogue, "a changed token")
            };
            if reason != "PAGE_TOKEN_INVALID" {
                wrong.push(format!("token {changed} changed at {at}: {reason}"));
            }
            tokens += 1;
        }
    }
    // Bytes that are not even HTTP, a stream that says nothing, and a body that ends early.
    for garbage in [
        &b"\x00\x01\x02"[..],
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
    ] {
        use std::io::{Read, Write};
        let mut socket = std::net::TcpStream::connect(server.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        socket.write_all(garbage).unwrap();
        let _ = socket.read(&mut [0; 1_000]);
    }
    let alive = json::send(server.address, "GET", "/healthz", "", b"");
    assert_eq!(alive.status, 200, "{}", alive.text());
    server.assert_no_panic();
    println!("{tries} wrong requests from seed {seed}, {tokens} changed tokens: {codes:?}");
    assert!(
        wrong.is_empty(),
        "{} answers that blame the server:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(30)].join("\n")
    );
}
