use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::harness::Server;
use crate::serve::ServeSettings;

fn event(id: &str, second: u32, value: &str) -> serde_json::Value {
    json!({
        "timeSeriesId": id,
        "eventTime": format!("2026-03-28T00:00:{second:02}.123456Z"),
        "eventId": format!("e{second}"),
        "eventItems": [{"eventItemKey": "k", "eventItemValue": STANDARD.encode(value)}],
    })
}

#[tokio::test]
async fn events_are_written_and_read_page_by_page_over_json() {
    let server = Server::start().await;
    server.create("demo").await;
    let events: Vec<_> = (0..5).map(|second| event("a", second, "v")).collect();
    let write = json!({"namespace": "demo", "events": events});
    let written = server.call("WriteEventRecordsSync", write).await;
    assert_eq!(written.code, 200, "{}", written.text());
    assert_eq!(written.json()["written"], 5);
    assert_eq!(written.json()["responseContext"]["namespace"], "demo");

    let mut token = String::new();
    let mut found = Vec::new();
    loop {
        let read = json!({
            "namespace": "demo", "timeSeriesId": "a", "direction": "ASCENDING",
            "pageSize": 2, "pageToken": token,
        });
        let page = server.call("ReadEventRecords", read).await.json();
        let context = &page["responseContext"][0];
        assert_eq!(context["servedFrom"], "ORIGINAL");
        // Depends on whether the filter has been loaded by now.
        let filter = context["splitFilter"].as_str().unwrap();
        assert!(["OFF", "MISS"].contains(&filter), "{filter}");
        assert_eq!(
            (&context["splitGeneration"], &context["order"]),
            (&json!("0"), &json!("EVENT"))
        );
        assert!(context["timeTaken"].as_str().unwrap().ends_with('s'));
        found.extend(page["records"].as_array().unwrap().clone());
        token = page["nextPageToken"].as_str().unwrap().to_owned();
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(found, events);

    let search = json!({
        "namespace": "demo",
        "searchQuery": {"booleanQuery": {"operator": "AND", "searchQuery": [
            {"equals": {"eventItemKey": "k", "eventItemValue": STANDARD.encode("v")}},
            {"exists": {"eventItemKey": "k"}},
        ]}},
    });
    let page = server.call("SearchEventRecords", search).await.json();
    assert_eq!(page["records"].as_array().unwrap().len(), 5);
    assert_eq!(page["responseContext"][0]["order"], "PARTITION");
    let all = server
        .call("SearchEventRecords", json!({"namespace": "demo"}))
        .await
        .json();
    assert_eq!(all["records"].as_array().unwrap().len(), 5);

    let aggregate = json!({
        "namespace": "demo",
        "aggregationQuery": {"distinct": {"eventItemKey": "k"}, "groupBy": {"timeWidth": "3s"}},
    });
    let page = server.call("AggregateEventRecords", aggregate).await.json();
    assert_eq!(page["partial"], false);
    let rows = page["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{page}");
    assert_eq!(rows[1]["group"]["time"], "2026-03-28T00:00:03Z");
    assert_eq!(rows[0]["keywordValue"], STANDARD.encode("v"));
    server.stop().await;
}

#[tokio::test]
async fn namespaces_are_made_changed_listed_and_deleted_over_json() {
    let server = Server::start().await;
    let created = server
        .call(
            "CreateNamespace",
            json!({"namespace": {"name": "demo", "eventBuckets": 4}}),
        )
        .await
        .json();
    assert_eq!(
        (&created["name"], &created["eventBuckets"]),
        (&json!("demo"), &json!(4))
    );
    assert_eq!(
        (&created["acceptLimit"], &created["secondsPerTimeSlice"]),
        (&json!("600s"), &json!("604800"))
    );
    assert_eq!(created["widePartition"]["rollout"], "SERVE");
    assert_eq!(created["consistency"]["write"], "LOCAL_QUORUM");

    let update = json!({"namespace": {"name": "demo", "acceptLimit": "5s"}, "updateMask": "acceptLimit"});
    let updated = server.call("UpdateNamespace", update).await.json();
    assert_eq!(
        (&updated["acceptLimit"], &updated["eventBuckets"]),
        (&json!("5s"), &json!(4))
    );
    let found = server.call("GetNamespace", json!({"name": "demo"})).await.json();
    assert_eq!(found, updated);
    let listed = server.call("ListNamespaces", json!({})).await.json();
    assert_eq!(listed["namespaces"], json!([updated]));

    let slices = server
        .call("ListTimeSlices", json!({"namespace": "demo"}))
        .await
        .json();
    assert_eq!(slices["timeSlices"][0]["state"], "OPEN", "{slices}");
    let sealed = server.call("SealTimeSlices", json!({"namespace": "demo"})).await;
    assert_eq!(sealed.code, 200, "{}", sealed.text());
    let unsealed = server
        .call("UnsealTimeSlices", json!({"namespace": "demo"}))
        .await;
    assert_eq!(unsealed.code, 200, "{}", unsealed.text());

    let block = json!({"namespace": "demo", "timeSeriesIds": ["a"], "reason": "noisy"});
    let blocked = server.call("BlockTimeSeriesIds", block).await.json();
    assert_eq!(blocked["blockedTimeSeriesIds"][0]["reason"], "noisy");
    let refused = server
        .call(
            "ReadEventRecords",
            json!({"namespace": "demo", "timeSeriesId": "a"}),
        )
        .await;
    assert_eq!((refused.code, refused.reason().as_str()), (400, "ID_BLOCKED"));
    let lifted = server
        .call(
            "UnblockTimeSeriesIds",
            json!({"namespace": "demo", "timeSeriesIds": ["a", "b"]}),
        )
        .await;
    assert_eq!(lifted.json()["unblocked"], 1);
    let none = server
        .call("ListBlockedTimeSeriesIds", json!({"namespace": "demo"}))
        .await
        .json();
    assert_eq!(none["blockedTimeSeriesIds"], json!([]));

    let status = server.call("GetServerStatus", json!({})).await.json();
    assert_eq!(
        (&status["storeKind"], &status["ready"]),
        (&json!("memory"), &json!(true))
    );
    assert_eq!(
        server.call("DeleteNamespace", json!({"name": "demo"})).await.code,
        200
    );
    let gone = server.call("GetNamespace", json!({"name": "demo"})).await;
    assert_eq!((gone.code, gone.reason().as_str()), (404, "NAMESPACE_NOT_FOUND"));
    server.stop().await;
}

#[tokio::test]
async fn errors_name_the_field_the_reason_and_the_fix() {
    let server = Server::start().await;
    server.create("demo").await;
    let answer = server.call("GetNamespace", json!({"name": "dmeo"})).await;
    assert_eq!(answer.code, 404);
    let json = answer.json();
    assert_eq!(json["code"], 5);
    assert!(json["message"].as_str().unwrap().contains("demo"), "{json}");

    let wrong = json!({"namespace": "demo", "events": [event("a", 1, "v"), {"timeSeriesId": "b"}]});
    let answer = server.call("WriteEventRecordsSync", wrong).await;
    assert_eq!(
        (answer.code, answer.reason().as_str()),
        (400, "INVALID_TIMESTAMP")
    );
    assert!(
        answer.text().contains("events[1].event_time"),
        "{}",
        answer.text()
    );
    assert!(answer.text().contains("fieldViolations"), "{}", answer.text());

    let unknown = json!({"namespace": "demo", "events": [{"timeSeresId": "b"}]});
    let answer = server.call("WriteEventRecordsSync", unknown).await;
    assert_eq!((answer.code, answer.reason().as_str()), (400, "UNKNOWN_FIELD"));
    assert!(
        answer.text().contains("events[0].timeSeresId"),
        "{}",
        answer.text()
    );
    assert!(
        answer.text().contains("did you mean `timeSeriesId`?"),
        "{}",
        answer.text()
    );

    let answer = server.call_text("GetNamespace", "{\n  \"name\": \n").await;
    assert_eq!((answer.code, answer.reason().as_str()), (400, "INVALID_JSON"));
    assert!(answer.text().contains("line 3"), "{}", answer.text());
    let answer = server.call_text("GetNamespace", "{\"name\": {}}").await;
    assert_eq!(answer.reason(), "INVALID_JSON");
    assert_eq!(
        server.call_text("GetNamespace", "{} x").await.reason(),
        "INVALID_JSON"
    );
    server.stop().await;
}

#[tokio::test]
async fn only_post_of_json_to_a_unary_method_is_a_call() {
    let server = Server::start().await;
    let json = [("content-type", "application/json")];
    let path = "/api/anabranch.admin.v1.AdminService/ListNamespaces";
    let get = server.http("GET", path, &[], b"").await;
    assert_eq!(
        (get.code, get.reason().as_str()),
        (405, "HTTP_METHOD_NOT_ALLOWED")
    );
    assert!(get.head.contains("allow: post"), "{}", get.head);
    let form = ("content-type", "application/x-www-form-urlencoded");
    let curl = server.http("POST", path, &[form], b"{}").await;
    assert_eq!(curl.code, 200, "{}", curl.text());
    let another_page = server
        .http("POST", path, &[form, ("origin", "http://evil.example")], b"{}")
        .await;
    let xml = server
        .http("POST", path, &[("content-type", "text/xml")], b"{}")
        .await;
    for refused in [another_page, xml] {
        assert_eq!(
            (refused.code, refused.reason().as_str()),
            (415, "UNSUPPORTED_CONTENT_TYPE")
        );
    }

    let near = "/api/anabranch.admin.v1.AdminService/ListNamespace";
    let near = server.http("POST", near, &json, b"{}").await;
    assert_eq!((near.code, near.reason().as_str()), (404, "METHOD_NOT_FOUND"));
    assert!(
        near.text().contains("AdminService/ListNamespaces"),
        "{}",
        near.text()
    );
    let stream = "/api/anabranch.timeseries.v1.TimeSeriesService/IngestEventRecords";
    let stream = server.http("POST", stream, &json, b"{}").await;
    assert_eq!((stream.code, stream.reason().as_str()), (404, "METHOD_NOT_FOUND"));
    let nothing = server.http("GET", "/nothing", &[], b"").await;
    assert_eq!(
        (nothing.code, nothing.reason().as_str()),
        (404, "METHOD_NOT_FOUND")
    );

    assert_eq!(
        server.http("POST", path, &json, b"").await.code,
        200,
        "no body is an empty message"
    );
    let health = server
        .http("POST", "/api/grpc.health.v1.Health/Check", &json, b"{}")
        .await;
    assert_eq!(health.json()["status"], "SERVING");
    server.stop().await;
}

#[tokio::test]
async fn json_calls_have_the_limits_of_every_call() {
    let settings = ServeSettings {
        message_bytes_max: 1 << 10,
        ..ServeSettings::default()
    };
    let server = Server::with(settings).await;
    server.create("demo").await;
    let large = server
        .call("GetNamespace", json!({"name": "x".repeat(1_200)}))
        .await;
    assert_eq!(
        (large.code, large.reason().as_str()),
        (413, "MESSAGE_TOO_LARGE"),
        "{}",
        large.text()
    );
    let larger = server
        .call("GetNamespace", json!({"name": "x".repeat(4_000)}))
        .await;
    assert_eq!(
        (larger.code, larger.reason().as_str()),
        (413, "MESSAGE_TOO_LARGE")
    );

    let path = "/api/anabranch.admin.v1.AdminService/ListNamespaces";
    let late = [
        ("content-type", "application/json"),
        ("connect-timeout-ms", "soon"),
    ];
    assert_eq!(
        server.http("POST", path, &late, b"{}").await.reason(),
        "INVALID_DEADLINE"
    );

    let full = Server::with(ServeSettings {
        requests_in_flight_max: 0,
        ..ServeSettings::default()
    })
    .await;
    let shed = full.call("ListNamespaces", json!({})).await;
    assert_eq!((shed.code, shed.reason().as_str()), (429, "SERVER_OVERLOADED"));
    assert!(
        shed.head.contains("retry-after: 1") && shed.text().contains("retryDelay"),
        "{}",
        shed.text()
    );
    let no_bytes = ServeSettings {
        request_bytes_in_flight_max: 10,
        ..ServeSettings::default()
    };
    let full_of_bytes = Server::with(no_bytes).await;
    let shed = full_of_bytes.call("GetNamespace", json!({"name": "demo"})).await;
    assert_eq!(
        (shed.code, shed.reason().as_str()),
        (429, "SERVER_OVERLOADED"),
        "{}",
        shed.text()
    );
    for server in [server, full, full_of_bytes] {
        server.stop().await;
    }
}
