//! A [`ServiceError`] as it goes over the wire, and back.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, PreconditionViolation, QuotaViolation, StatusExt};

use super::{DOMAIN, Detail, Reason, ServiceError};

/// Most violations in one error. Details travel in a header, and clients bound those (8 KiB is common).
const VIOLATIONS_MAX: usize = 8;
/// Most bytes of one text in the details, for the same reason.
const TEXT_BYTES_MAX: usize = 240;
/// Most bytes of the message.
const MESSAGE_BYTES_MAX: usize = 600;

impl From<ServiceError> for Status {
    fn from(error: ServiceError) -> Self {
        error.to_status()
    }
}

impl ServiceError {
    /// The status: exactly one `ErrorInfo`, the detail that fits the reason, and a `RetryInfo` where
    /// sending the request again can help.
    pub fn to_status(&self) -> Status {
        let entry = self.reason.entry();
        let mut details = ErrorDetails::new();

        let mut metadata: HashMap<String, String> = self
            .metadata
            .iter()
            .map(|(key, value)| (key.clone(), shorten(value, TEXT_BYTES_MAX)))
            .collect();
        metadata.insert("fix".to_owned(), entry.fix.to_owned());
        details.set_error_info(entry.reason, DOMAIN, metadata);

        let text = shorten(&self.message, TEXT_BYTES_MAX);
        let violations: Vec<(String, String)> = self
            .fields
            .iter()
            .take(VIOLATIONS_MAX)
            .map(|(path, problem)| (shorten(path, TEXT_BYTES_MAX), shorten(problem, TEXT_BYTES_MAX)))
            .collect();
        match entry.detail {
            Detail::BadRequest => {
                for (field, description) in violations {
                    details.add_bad_request_violation(field, description);
                }
            }
            Detail::PreconditionFailure => {
                let violation =
                    |(subject, description)| PreconditionViolation::new(entry.reason, subject, description);
                let mut all: Vec<_> = violations.into_iter().map(violation).collect();
                if all.is_empty() {
                    all.push(violation((self.subject(), text)));
                }
                details.set_precondition_failure(all);
            }
            Detail::QuotaFailure => {
                details.set_quota_failure(vec![QuotaViolation::new(self.subject(), text)]);
            }
            Detail::ResourceInfo => {
                let (kind, name) = self.resource();
                details.set_resource_info(kind, name, "", text);
            }
            Detail::None => {}
        }
        if let Some(delay) = self
            .retry_after
            .or(entry.retry_after_ms.map(Duration::from_millis))
        {
            details.set_retry_info(Some(delay));
        }
        Status::with_error_details(entry.code, shorten(&self.message, MESSAGE_BYTES_MAX), details)
    }

    /// What the error is about, by the most telling fact there is.
    fn resource(&self) -> (&'static str, String) {
        [
            ("partition", "partition"),
            ("time_series_id", "timeSeriesId"),
            ("time_slice", "timeSlice"),
            ("method", "method"),
            ("namespace", "namespace"),
        ]
        .into_iter()
        .find_map(|(kind, key)| Some((kind, shorten(self.metadata.get(key)?, TEXT_BYTES_MAX))))
        .unwrap_or(("server", String::new()))
    }

    fn subject(&self) -> String {
        match self.resource() {
            (kind, name) if name.is_empty() => kind.to_owned(),
            (kind, name) => format!("{kind}:{name}"),
        }
    }
}

/// The reason that a status carries, if it is one of ours.
pub fn reason_of(status: &Status) -> Option<Reason> {
    let info = status.get_details_error_info()?;
    if info.domain == DOMAIN {
        Reason::named(&info.reason)
    } else {
        None
    }
}

/// Gives a status of the transport (a message that does not decode or is too large, a method that is
/// not there) a reason of ours. One that has details is left as it is.
pub fn dress(status: Status, path: &str) -> Status {
    if !status.details().is_empty() {
        return status;
    }
    let message = status.message();
    let method = path.trim_start_matches('/');
    let error = match status.code() {
        Code::OutOfRange | Code::ResourceExhausted if message.contains("too large") => {
            ServiceError::new(Reason::MessageTooLarge, message).with("problem", message)
        }
        Code::Unimplemented if message.is_empty() => {
            ServiceError::new(Reason::MethodNotFound, format!("no method `{method}`")).with("method", method)
        }
        Code::NotFound => ServiceError::new(Reason::ServiceNotFound, message).with("problem", message),
        Code::Cancelled | Code::DeadlineExceeded => ServiceError::new(Reason::DeadlineExceeded, message),
        Code::Unimplemented | Code::InvalidArgument | Code::OutOfRange => invalid_message(message),
        Code::Internal if message.contains("decode") || message.contains("message") => {
            invalid_message(message)
        }
        _ => ServiceError::internal(message),
    };
    error.to_status()
}

fn invalid_message(problem: &str) -> ServiceError {
    let message = format!("request can not be decoded: {problem}");
    ServiceError::new(Reason::InvalidMessage, message).with("problem", problem)
}

fn shorten(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let mut end = bytes_max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}
