//! What a server's error means to the person at the shell: the reason, the fields at fault, the fix, and
//! where to read more.

use std::fmt::Write as _;
use std::time::Duration;

use anabranch_server::errors::{Entry, Reason};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::exit::{Exit, Failure};

/// What the catalogue of this build says of a reason.
pub(crate) fn entry(reason: &str) -> Option<&'static Entry> {
    Reason::named(reason).map(Reason::entry)
}

/// The reason of a server's error, when it has one.
pub(crate) fn reason(details: &ErrorDetails) -> Option<&str> {
    details.error_info().map(|info| info.reason.as_str())
}

/// The exit code that a status ends a command with.
pub(crate) fn exit_of(status: &Status) -> Exit {
    match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Aborted
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unimplemented => Exit::Refused,
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Cancelled => {
            Exit::Unavailable
        }
        // A connection that breaks shows up as an unknown error without details.
        Code::Unknown if is_transport(status) => Exit::Unavailable,
        _ => Exit::Internal,
    }
}

/// Whether sending the same request again can help, and after how long if the server says.
pub(crate) fn retry(status: &Status) -> Option<Option<Duration>> {
    let delay = status
        .get_error_details()
        .retry_info()
        .and_then(|info| info.retry_delay);
    let transient = matches!(
        status.code(),
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Cancelled
    ) || (status.code() == Code::Unknown && is_transport(status));
    (transient || delay.is_some()).then_some(delay)
}

fn is_transport(status: &Status) -> bool {
    status.details().is_empty() && std::error::Error::source(status).is_some()
}

/// Every field, event or precondition at fault with what is wrong, as the server names them.
pub(crate) fn violations(details: &ErrorDetails) -> Vec<(String, String)> {
    let fields = details.bad_request().into_iter().flat_map(|bad| {
        bad.field_violations
            .iter()
            .map(|violation| (violation.field.clone(), violation.description.clone()))
    });
    let preconditions = details.precondition_failure().into_iter().flat_map(|failed| {
        failed
            .violations
            .iter()
            .map(|violation| (violation.subject.clone(), violation.description.clone()))
    });
    let quotas = details.quota_failure().into_iter().flat_map(|failed| {
        failed
            .violations
            .iter()
            .map(|violation| (violation.subject.clone(), violation.description.clone()))
    });
    fields.chain(preconditions).chain(quotas).collect()
}

/// A server's error as a person reads it.
pub(crate) fn text(status: &Status) -> String {
    let details = status.get_error_details();
    let Some(reason) = reason(&details) else {
        return format!("error {}: {}", code_name(status.code()), status.message());
    };
    let mut text = format!("error {reason}: {}", status.message());
    for (subject, problem) in violations(&details) {
        // The first one is usually the message already.
        if !status.message().contains(&problem) {
            let _ = write!(text, "\n  {subject}: {problem}");
        }
    }
    if let Some(delay) = details.retry_info().and_then(|info| info.retry_delay) {
        let _ = write!(text, "\n  again: after {}", crate::units::format_elapsed(delay));
    }
    if let Some(entry) = entry(reason) {
        let _ = write!(text, "\n  fix:   {}", entry.fix);
    }
    let _ = write!(text, "\n  more:  anabranch errors {reason}");
    text
}

fn code_name(code: Code) -> String {
    // `InvalidArgument` as gRPC writes it: INVALID_ARGUMENT.
    let mut name = String::new();
    for c in format!("{code:?}").chars() {
        if c.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(c.to_uppercase());
    }
    name
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self {
            exit: exit_of(&status),
            text: text(&status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn status(code: Code, reason: &str) -> Status {
        let mut details = ErrorDetails::with_error_info(
            reason,
            "anabranch.dev",
            HashMap::from([("field".to_owned(), "page_size".to_owned())]),
        );
        details.add_bad_request_violation("page_size", "is -1");
        details.add_bad_request_violation("page_token", "is damaged");
        Status::with_error_details(code, "page_size: is -1 (and 1 more)", details)
    }

    #[test]
    fn an_error_names_reason_fields_fix_and_where_to_read_more() {
        let text = text(&status(Code::InvalidArgument, "INVALID_PAGE_SIZE"));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "error INVALID_PAGE_SIZE: page_size: is -1 (and 1 more)");
        assert_eq!(lines[1], "  page_token: is damaged");
        assert!(lines[2].starts_with("  fix:   "));
        assert_eq!(lines[3], "  more:  anabranch errors INVALID_PAGE_SIZE");
    }

    #[test]
    fn an_error_of_something_else_still_says_what_it_was() {
        let plain = Status::new(Code::ResourceExhausted, "out of it");
        assert_eq!(text(&plain), "error RESOURCE_EXHAUSTED: out of it");
        assert_eq!(exit_of(&plain), Exit::Unavailable);
    }

    #[test]
    fn only_what_can_help_is_sent_again() {
        assert_eq!(retry(&status(Code::InvalidArgument, "X")), None);
        assert_eq!(retry(&Status::unavailable("x")), Some(None));
        let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(30)));
        let full = Status::with_error_details(Code::ResourceExhausted, "full", details);
        assert_eq!(retry(&full), Some(Some(Duration::from_millis(30))));
    }

    #[test]
    fn every_reason_of_the_catalogue_is_found() {
        for reason in Reason::ALL {
            assert!(entry(reason.entry().reason).is_some());
        }
        assert!(entry("NOTHING_LIKE_IT").is_none());
    }
}
