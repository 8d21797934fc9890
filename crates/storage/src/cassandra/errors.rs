//! The driver's errors as facts for our callers.
//!
//! What may have happened is `Unknown`. A write certainly did not happen only when every attempt at it was turned
//! away by who would have passed it on; [`Attempted`] listens to all of them, because the driver tells of the last
//! one only.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use scylla::errors::{DbError, ExecutionError, PrepareError, RequestAttemptError, RequestError};
use scylla::observability::history::{AttemptId, HistoryListener, RequestId, SpeculativeId};
use scylla::policies::retry::RetryDecision;

use crate::error::{StoreError, as_text};

/// True when a table or keyspace is missing, or the node that was asked does not know it yet.
pub(super) fn is_missing(error: &ExecutionError) -> bool {
    matches!(db_error(error), Some((DbError::Invalid, _)))
}

/// True when the role may not do it.
pub(super) fn is_unauthorized(error: &ExecutionError) -> bool {
    matches!(db_error(error), Some((DbError::Unauthorized, _)))
}

/// What a node answered, if it was a node.
fn db_error(error: &ExecutionError) -> Option<(&DbError, &str)> {
    match error {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, reason))
        | ExecutionError::PrepareError(PrepareError::AllAttemptsFailed {
            first_attempt: RequestAttemptError::DbError(error, reason),
        }) => Some((error, reason)),
        _ => None,
    }
}

/// An error of a statement that changes nothing.
pub(super) fn of_read(doing: &'static str, error: ExecutionError) -> StoreError {
    match refused(doing, &error) {
        Some(refused) => refused,
        None if is_overloaded(&error) => StoreError::Overloaded,
        None => StoreError::Unavailable {
            doing,
            source: as_text(&error),
        },
    }
}

/// An error of a write; `certain` when it certainly did not happen.
pub(super) fn of_write(doing: &'static str, error: ExecutionError, certain: bool) -> StoreError {
    if certain {
        of_read(doing, error)
    } else {
        StoreError::Unknown {
            doing,
            source: as_text(&error),
        }
    }
}

/// What sending it again can not help.
fn refused(doing: &'static str, error: &ExecutionError) -> Option<StoreError> {
    let reason = match (db_error(error), error) {
        (
            Some((
                DbError::SyntaxError
                | DbError::Invalid
                | DbError::Unauthorized
                | DbError::ConfigError
                | DbError::AuthenticationError
                | DbError::AlreadyExists { .. },
                reason,
            )),
            _,
        ) => reason.to_owned(),
        (_, ExecutionError::BadQuery(error)) => error.to_string(),
        _ => return None,
    };
    Some(StoreError::Refused { doing, reason })
}

fn is_overloaded(error: &ExecutionError) -> bool {
    matches!(
        error,
        ExecutionError::LastAttemptError(
            RequestAttemptError::UnableToAllocStreamId
                | RequestAttemptError::DbError(DbError::Overloaded | DbError::RateLimitReached { .. }, _)
        )
    )
}

/// Counts the attempts at one write, and those of them that certainly did nothing.
#[derive(Debug, Default)]
pub(super) struct Attempted {
    sent: AtomicUsize,
    refused: AtomicUsize,
}

impl Attempted {
    /// True when nothing was done: no attempt was sent, or every one was turned away.
    pub(super) fn nothing(&self) -> bool {
        self.sent.load(Ordering::Acquire) == self.refused.load(Ordering::Acquire)
    }
}

/// What a coordinator says before it passes a write on. It finds too few replicas alive (`Unavailable`), or the
/// statement wrong, before anything is sent; it may find itself overloaded in the middle.
fn did_nothing(error: &RequestAttemptError) -> bool {
    match error {
        RequestAttemptError::UnableToAllocStreamId
        | RequestAttemptError::SerializationError(_)
        | RequestAttemptError::CqlRequestSerialization(_) => true,
        RequestAttemptError::DbError(error, _) => matches!(
            error,
            DbError::Unavailable { .. }
                | DbError::IsBootstrapping
                | DbError::Invalid
                | DbError::SyntaxError
                | DbError::Unauthorized
                | DbError::ConfigError
                | DbError::AuthenticationError
                | DbError::ProtocolError
                | DbError::Unprepared { .. }
                | DbError::RateLimitReached {
                    rejected_by_coordinator: true,
                    ..
                }
        ),
        _ => false,
    }
}

impl HistoryListener for Attempted {
    fn log_request_start(&self) -> RequestId {
        RequestId(0)
    }

    fn log_request_success(&self, _: RequestId) {}

    fn log_request_error(&self, _: RequestId, _: &RequestError) {}

    fn log_new_speculative_fiber(&self, _: RequestId) -> SpeculativeId {
        SpeculativeId(0)
    }

    fn log_attempt_start(&self, _: RequestId, _: Option<SpeculativeId>, _: SocketAddr) -> AttemptId {
        AttemptId(self.sent.fetch_add(1, Ordering::AcqRel))
    }

    fn log_attempt_success(&self, _: AttemptId) {}

    fn log_attempt_error(&self, _: AttemptId, error: &RequestAttemptError, _: &RetryDecision) {
        if did_nothing(error) {
            self.refused.fetch_add(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use scylla::errors::WriteType;
    use scylla::statement::Consistency;

    use super::*;
    use crate::error::ErrorKind;

    fn answered(error: DbError) -> RequestAttemptError {
        RequestAttemptError::DbError(error, "why".to_owned())
    }

    fn unavailable() -> DbError {
        DbError::Unavailable {
            consistency: Consistency::LocalQuorum,
            required: 2,
            alive: 1,
        }
    }

    fn timed_out() -> DbError {
        DbError::WriteTimeout {
            consistency: Consistency::LocalQuorum,
            received: 1,
            required: 2,
            write_type: WriteType::UnloggedBatch,
        }
    }

    fn kind_after(errors: &[DbError]) -> ErrorKind {
        let attempted = Attempted::default();
        for error in errors {
            let id = attempted.log_attempt_start(RequestId(0), None, ([127, 0, 0, 1], 9042).into());
            attempted.log_attempt_error(id, &answered(error.clone()), &RetryDecision::DontRetry);
        }
        let last = errors.last().cloned().unwrap();
        of_write("writing", answered(last).into(), attempted.nothing()).kind()
    }

    #[test]
    fn a_write_is_unknown_as_soon_as_one_attempt_may_have_been_done() {
        assert_eq!(kind_after(&[unavailable()]), ErrorKind::Unavailable);
        assert_eq!(
            kind_after(&[unavailable(), unavailable()]),
            ErrorKind::Unavailable
        );
        assert_eq!(kind_after(&[timed_out()]), ErrorKind::Unknown);
        assert_eq!(kind_after(&[timed_out(), unavailable()]), ErrorKind::Unknown);
        assert_eq!(kind_after(&[DbError::Overloaded]), ErrorKind::Unknown);
        assert_eq!(kind_after(&[DbError::Unauthorized]), ErrorKind::Invalid);
    }

    #[test]
    fn an_attempt_without_an_answer_may_have_been_done() {
        let attempted = Attempted::default();
        assert!(attempted.nothing());
        attempted.log_attempt_start(RequestId(0), None, ([127, 0, 0, 1], 9042).into());
        assert!(!attempted.nothing());
    }

    #[test]
    fn reads_are_never_unknown() {
        let kind = |error| of_read("reading", answered(error).into()).kind();
        assert_eq!(kind(timed_out()), ErrorKind::Unavailable);
        assert_eq!(kind(DbError::Overloaded), ErrorKind::Overloaded);
        assert_eq!(kind(DbError::SyntaxError), ErrorKind::Invalid);
    }
}
