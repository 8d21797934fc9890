//! An answer or an error as JSON.

use axum::body::Body;
use axum::response::Response;
use bytes::{Buf, Bytes};
use http::{HeaderValue, StatusCode, header};
use prost_reflect::{DynamicMessage, MessageDescriptor, SerializeOptions};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::errors::{self, ServiceError};
use crate::http::methods::Methods;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The one message of a gRPC body, as JSON.
pub(super) fn json(descriptor: &MessageDescriptor, mut body: Bytes) -> Result<Vec<u8>, Status> {
    if body.len() < 5 || body.first() != Some(&0) {
        return Err(ServiceError::internal("answer is not one plain frame").into());
    }
    body.advance(5);
    let message = DynamicMessage::decode(descriptor.clone(), body)
        .map_err(|error| ServiceError::internal(error.to_string()))?;
    Ok(serialized(&message, false)?)
}

fn serialized(message: &DynamicMessage, skip_defaults: bool) -> Result<Vec<u8>, ServiceError> {
    let mut json = serde_json::Serializer::new(Vec::new());
    let options = SerializeOptions::new().skip_default_fields(skip_defaults);
    message
        .serialize_with_options(&mut json, &options)
        .map_err(|error| ServiceError::internal(error.to_string()))?;
    Ok(json.into_inner())
}

/// The answer of a call that succeeded.
pub(super) fn ok(body: Vec<u8>) -> Response {
    with_body(StatusCode::OK, body)
}

/// The answer of a call that failed.
pub(super) fn error(methods: &Methods, status: &Status) -> Response {
    let reason = errors::reason_of(status);
    let http = reason.map_or_else(
        || http_of(status.code()),
        |reason| StatusCode::from_u16(reason.entry().http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
    );
    let mut response = with_body(http, status_json(methods, status));
    let headers = response.headers_mut();
    if http == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
    }
    let delay = status
        .get_details_retry_info()
        .and_then(|retry| retry.retry_delay);
    if let Some(delay) = delay {
        let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn with_body(http: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = http;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

fn status_json(methods: &Methods, status: &Status) -> Vec<u8> {
    let descriptor = methods.pool().get_message_by_name("google.rpc.Status");
    let message = descriptor.and_then(|descriptor| DynamicMessage::decode(descriptor, status.details()).ok());
    let json = message.and_then(|message| serialized(&message, true).ok());
    // A status whose details we can not read still says what happened.
    match json {
        Some(json) if !status.details().is_empty() => json,
        _ => serde_json::json!({"code": i32::from(status.code()), "message": status.message()})
            .to_string()
            .into_bytes(),
    }
}

/// The usual HTTP status of a code, for errors without a reason of ours.
fn http_of(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::Cancelled | Code::Unknown | Code::Internal | Code::DataLoss => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}
