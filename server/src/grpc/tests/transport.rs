use std::time::Duration;

use anabranch_proto::admin::v1 as admin;
use anabranch_proto::timeseries::v1 as pb;
use futures::stream;
use prost::Message;
use tonic::codec::CompressionEncoding;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::{v1, v1alpha};

use super::harness::Server;
use crate::errors::reason_of;
use crate::serve::{ServeError, ServeSettings, bind};

#[tokio::test]
async fn errors_over_grpc_carry_their_reason() {
    let server = Server::start().await;
    let mut client = server.admin().await;
    let request = admin::GetNamespaceRequest { name: "none".into() };
    let status = client.get_namespace(request).await.unwrap_err();
    assert_eq!(
        (status.code(), reason_of(&status).unwrap().name()),
        (Code::NotFound, "NAMESPACE_NOT_FOUND")
    );

    let channel = server.channel().await;
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<admin::GetNamespaceRequest, admin::Namespace>::default();
    let path = http::uri::PathAndQuery::from_static("/anabranch.admin.v1.AdminService/GetNamespaces");
    let request = Request::new(admin::GetNamespaceRequest::default());
    let status = grpc.unary(request, path, codec).await.unwrap_err();
    assert_eq!(
        (status.code(), reason_of(&status).unwrap().name()),
        (Code::Unimplemented, "METHOD_NOT_FOUND")
    );
    assert!(
        status.message().contains("AdminService/GetNamespace`?"),
        "{}",
        status.message()
    );
    drop((client, grpc));
    server.stop().await;
}

#[tokio::test]
async fn messages_that_are_too_large_or_no_messages_have_a_reason() {
    let settings = ServeSettings {
        message_bytes_max: 100,
        ..ServeSettings::default()
    };
    let server = Server::with(settings).await;
    let mut client = server.admin().await;
    let request = admin::GetNamespaceRequest {
        name: "x".repeat(200),
    };
    let status = client.get_namespace(request).await.unwrap_err();
    assert_eq!(reason_of(&status).unwrap().name(), "MESSAGE_TOO_LARGE");
    assert_eq!(status.code(), Code::ResourceExhausted);

    let headers = [("content-type", "application/grpc-web+proto")];
    let path = "/anabranch.admin.v1.AdminService/GetNamespace";
    let answer = server
        .http("POST", path, &headers, &[0, 0, 0, 0, 4, 255, 255, 255, 255])
        .await;
    let said = format!("{}{}", answer.head, answer.text());
    assert!(
        said.contains("request can not be decoded") || said.contains("request%20can%20not"),
        "{said}"
    );
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn a_deadline_is_answered_as_one() {
    let path = "/anabranch.admin.v1.AdminService/GetNamespace";
    let never = axum::routing::post(std::future::pending::<()>);
    let services = tonic::service::Routes::from(axum::Router::new().route(path, never));
    let server = Server::of(ServeSettings::default(), Some(services)).await;
    let mut client = server.admin().await;
    let mut request = Request::new(admin::GetNamespaceRequest { name: "demo".into() });
    request
        .metadata_mut()
        .insert("grpc-timeout", "1S".parse().unwrap());
    let status = client.get_namespace(request).await.unwrap_err();
    assert_eq!(
        (status.code(), reason_of(&status).unwrap().name()),
        (Code::DeadlineExceeded, "DEADLINE_EXCEEDED")
    );

    let json = [("content-type", "application/json"), ("connect-timeout-ms", "50")];
    let answer = server.http("POST", &format!("/api{path}"), &json, b"{}").await;
    assert_eq!(
        (answer.code, answer.reason().as_str()),
        (504, "DEADLINE_EXCEEDED")
    );
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn grpc_web_works_over_http1() {
    let server = Server::start().await;
    server.create("demo").await;
    let message = admin::GetNamespaceRequest { name: "demo".into() }.encode_to_vec();
    let mut frame = vec![0, 0, 0, 0, u8::try_from(message.len()).unwrap()];
    frame.extend(message);
    let headers = [
        ("content-type", "application/grpc-web+proto"),
        ("x-grpc-web", "1"),
    ];
    let path = "/anabranch.admin.v1.AdminService/GetNamespace";
    let answer = server.http("POST", path, &headers, &frame).await;
    assert_eq!(answer.code, 200);
    let length = u32::from_be_bytes(answer.body[1..5].try_into().unwrap()) as usize;
    let namespace = admin::Namespace::decode(&answer.body[5..5 + length]).unwrap();
    assert_eq!(namespace.name, "demo");
    assert!(String::from_utf8_lossy(&answer.body[5 + length..]).contains("grpc-status:0"));
    server.stop().await;
}

#[tokio::test]
async fn compression_is_negotiated() {
    let server = Server::start().await;
    server.create("demo").await;
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let mut client = server
            .events()
            .await
            .send_compressed(encoding)
            .accept_compressed(encoding);
        let read = pb::ReadEventRecordsRequest {
            namespace: "demo".into(),
            time_series_id: "a".repeat(500),
            ..Default::default()
        };
        let page = client.read_event_records(read).await.unwrap().into_inner();
        assert_eq!(page.response_context[0].namespace, "demo");
    }
    server.stop().await;
}

#[tokio::test]
async fn reflection_of_both_versions_names_every_service() {
    let server = Server::start().await;
    let expected = [
        "anabranch.admin.v1.AdminService",
        "anabranch.timeseries.v1.TimeSeriesService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ];
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let ask = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    };
    let mut answers = client
        .server_reflection_info(stream::iter([ask]))
        .await
        .unwrap()
        .into_inner();
    let answer = answers
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    let v1::server_reflection_response::MessageResponse::ListServicesResponse(list) = answer else {
        panic!("not a list: {answer:?}");
    };
    let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    names.sort();
    assert_eq!(names, expected);

    let mut old = v1alpha::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    for symbol in expected {
        let ask = v1alpha::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(
                v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(symbol.to_owned()),
            ),
        };
        let mut answers = old
            .server_reflection_info(stream::iter([ask]))
            .await
            .unwrap()
            .into_inner();
        let answer = answers
            .message()
            .await
            .unwrap()
            .unwrap()
            .message_response
            .unwrap();
        let file = v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse;
        assert!(
            std::mem::discriminant(&answer) == std::mem::discriminant(&file(Default::default())),
            "{symbol}"
        );
    }
    drop((client, old, answers));
    server.stop().await;
}

#[tokio::test]
async fn health_says_not_serving_from_the_start_of_the_drain() {
    let server = Server::start().await;
    let mut client = HealthClient::new(server.channel().await);
    let ask = |service: &str| HealthCheckRequest {
        service: service.to_owned(),
    };
    for service in [
        "",
        "readiness",
        "liveness",
        "anabranch.timeseries.v1.TimeSeriesService",
    ] {
        let status = client.check(ask(service)).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service}");
    }
    let nobody = client.check(ask("x")).await.unwrap_err();
    assert_eq!(nobody.code(), tonic::Code::NotFound, "{nobody:?}");
    let mut watch = client.watch(ask("")).await.unwrap().into_inner();
    assert_eq!(
        watch.message().await.unwrap().unwrap().status(),
        ServingStatus::Serving
    );
    assert_eq!(server.http("GET", "/healthz", &[], b"").await.text(), "ok\n");
    server.draining.cancel();
    assert_eq!(
        watch.message().await.unwrap().unwrap().status(),
        ServingStatus::NotServing
    );
    drop((watch, client));
    server.stop().await;
}

#[tokio::test]
async fn a_connection_that_does_not_end_is_cut_after_the_grace() {
    let settings = ServeSettings {
        drain_grace: Duration::from_millis(50),
        ..ServeSettings::default()
    };
    let server = Server::with(settings).await;
    let mut client = HealthClient::new(server.channel().await);
    let ask = HealthCheckRequest {
        service: String::new(),
    };
    let mut watch = client.watch(ask).await.unwrap().into_inner();
    watch.message().await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn metrics_count_calls_by_method_and_code() {
    let server = Server::start().await;
    server.create("demo").await;
    let _ = server
        .http("POST", "/x.Y/Z", &[("content-type", "application/grpc")], b"")
        .await;
    let metrics = server.http("GET", "/metrics", &[], b"").await;
    assert!(
        metrics.head.contains("application/openmetrics-text"),
        "{}",
        metrics.head
    );
    let text = metrics.text();
    let line = "rpc_server_call_duration_seconds_count{rpc_method=\"anabranch.admin.v1.AdminService/CreateNamespace\",\
                rpc_response_status_code=\"OK\"} 1";
    assert!(text.contains(line), "{text}");
    assert!(text.contains("anabranch_"), "{text}");
    assert_eq!(text.matches("# EOF").count(), 1);
    assert!(text.ends_with("# EOF\n"));
    server.stop().await;
}

#[tokio::test]
async fn other_machines_are_let_in_only_when_asked_to() {
    let listen = |listen: &str, insecure| ServeSettings {
        listen: listen.to_owned(),
        insecure,
        ..ServeSettings::default()
    };
    let error = bind(&listen("0.0.0.0:0", false)).await.unwrap_err();
    assert!(matches!(error, ServeError::NotLoopback { .. }), "{error}");
    assert!(error.to_string().contains("--insecure"));
    assert!(bind(&listen("0.0.0.0:0", true)).await.is_ok());
    assert!(bind(&listen("127.0.0.1:0", false)).await.is_ok());
    assert!(matches!(
        bind(&listen("nowhere", false)).await,
        Err(ServeError::Address { .. })
    ));
}
