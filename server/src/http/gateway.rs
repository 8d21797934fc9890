//! JSON over plain HTTP: `POST /api/<package.Service>/<Method>` with the method's message as proto3 JSON.
//!
//! ```text
//! body ─▶ DynamicMessage ─▶ gRPC frame ─▶ the same services, inside the process ─▶ DynamicMessage ─▶ body
//! ```
//!
//! - Any unary method of any service, without code of its own: descriptors are the only source.
//! - Every call passes the same guard as one over gRPC. The time it has is `connect-timeout-ms`.
//! - An answer has every field, those with default values too, so that scripts find what they look for.
//! - An error is a `google.rpc.Status` with its details, under the HTTP status of its reason.
//! - A web page of another origin can not call it: what a browser sends must be `application/json`, which it
//!   only sends across origins after asking. Other clients may leave the type out, as `curl -d` does.

mod answer;
mod request;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::{HeaderMap, Method as HttpMethod, header};
use http_body_util::{BodyExt, Limited};
use tonic::{Code, Status};
use tower::ServiceExt;

use super::admission::{Admission, Hold};
use super::deadline::GRPC_TIMEOUT;
use super::methods::{Method, Methods};
use crate::errors::{self, Reason, ServiceError};

/// What `curl -d` says when it is told nothing.
const CURLS_OWN_TYPE: &str = "application/x-www-form-urlencoded";

/// What the gateway works with.
#[derive(Clone, Debug)]
pub(super) struct Gateway {
    /// Every method there is.
    pub methods: std::sync::Arc<Methods>,
    /// The services behind their guard.
    pub services: axum::Router,
    /// Counts the bytes of JSON bodies.
    pub admission: Admission,
    /// Most bytes of a message. JSON may have half as much again: base64 takes a third more.
    pub message_bytes_max: usize,
}

/// Answers `/api/{service}/{method}`.
pub(super) async fn call(
    State(gateway): State<Gateway>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    match gateway.serve(&name, request).await {
        Ok(body) => answer::ok(body),
        Err(status) => answer::error(&gateway.methods, &status),
    }
}

impl Gateway {
    async fn serve(&self, name: &str, request: Request) -> Result<Vec<u8>, Status> {
        let method = self.method(name)?;
        check_http(&request)?;
        let mut frame_request = http::Request::post(format!("/{}", method.name))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers");
        if let Some(timeout) = timeout(request.headers())? {
            frame_request = frame_request.header(GRPC_TIMEOUT, timeout);
        }
        let (body, _hold) = self.read(request).await?;
        let message = request::message(&method.descriptor.input(), &body)?;
        let frame = request::frame(&message);
        let frame_request = frame_request
            .body(Body::from(frame))
            .map_err(|error| ServiceError::internal(error.to_string()))?;

        let response = match self.services.clone().oneshot(frame_request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let (parts, body) = response.into_parts();
        if let Some(status) = Status::from_header_map(&parts.headers)
            && status.code() != Code::Ok
        {
            return Err(status);
        }
        let collected = body
            .collect()
            .await
            .map_err(|error| ServiceError::internal(error.to_string()))?;
        if let Some(status) = collected.trailers().and_then(Status::from_header_map)
            && status.code() != Code::Ok
        {
            return Err(status);
        }
        answer::json(&method.descriptor.output(), collected.to_bytes())
    }

    fn method(&self, name: &str) -> Result<&Method, ServiceError> {
        match self.methods.find(name) {
            Some(method) if !method.streams => Ok(method),
            Some(method) => {
                let hint = "; it is a stream, which only gRPC and gRPC-Web can carry";
                Err(not_found(method.name, hint))
            }
            None => Err(not_found(name, &errors::did_you_mean(name, self.methods.names()))),
        }
    }

    async fn read(&self, request: Request) -> Result<(Bytes, Hold), Status> {
        let limit = self.message_bytes_max + self.message_bytes_max / 2;
        let (body, hold) = self.admission.count(request.into_body());
        match Limited::new(body, limit).collect().await {
            Ok(body) => Ok((body.to_bytes(), hold)),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                let problem = format!("body has more than {limit} bytes");
                Err(ServiceError::new(Reason::MessageTooLarge, problem)
                    .with("limitBytes", limit)
                    .into())
            }
            Err(error) => Err(Status::from_error(error)),
        }
    }
}

fn not_found(name: &str, hint: &str) -> ServiceError {
    ServiceError::new(Reason::MethodNotFound, format!("no method `{name}`{hint}"))
        .with("method", name)
        .with("hint", hint)
}

fn check_http(request: &Request) -> Result<(), ServiceError> {
    if request.method() != HttpMethod::POST {
        let http_method = request.method();
        let problem = format!(
            "{http_method} is not allowed here: send POST with a JSON body, {{}} if there is nothing to say"
        );
        return Err(ServiceError::new(Reason::HttpMethodNotAllowed, problem).with("httpMethod", http_method));
    }
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let content_type = content_type.map_or("", |value| value.to_str().unwrap_or("?"));
    let kind = content_type.split(';').next().unwrap_or("").trim();
    let by_browser = ["origin", "sec-fetch-site"]
        .iter()
        .any(|name| request.headers().contains_key(*name));
    let left_out = kind.is_empty() || kind.eq_ignore_ascii_case(CURLS_OWN_TYPE);
    if kind.eq_ignore_ascii_case("application/json") || (left_out && !by_browser) {
        return Ok(());
    }
    let problem = format!("content type `{content_type}` is not supported here: send application/json");
    Err(ServiceError::new(Reason::UnsupportedContentType, problem).with("contentType", content_type))
}

/// The `grpc-timeout` of a JSON call: its own, or that of Connect in milliseconds.
fn timeout(headers: &HeaderMap) -> Result<Option<String>, ServiceError> {
    let text = |name: &str| {
        headers
            .get(name)
            .map(|value| value.to_str().unwrap_or("?").to_owned())
    };
    if let Some(millis) = text("connect-timeout-ms") {
        return match millis.parse::<u64>() {
            Ok(millis) if millis <= 99_999_999 => Ok(Some(format!("{millis}m"))),
            _ => {
                let problem = format!("connect-timeout-ms `{millis}` can not be read: use 1 to 8 digits");
                Err(ServiceError::new(Reason::InvalidDeadline, problem).with("timeout", millis))
            }
        };
    }
    Ok(text(GRPC_TIMEOUT))
}

/// Answers every other path.
pub(super) fn nothing_here(methods: &Methods, method: &HttpMethod, uri: &http::Uri) -> Response {
    let problem = format!(
        "nothing is at {method} {}: methods are at POST /api/SERVICE/METHOD, metrics at /metrics, health at /healthz",
        uri.path()
    );
    let error = ServiceError::new(Reason::MethodNotFound, problem).with("method", uri.path());
    answer::error(methods, &error.to_status())
}
