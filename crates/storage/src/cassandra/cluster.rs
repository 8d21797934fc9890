//! The session, and every way in which statements are sent through it: prepared, timed, counted, bounded.
//!
//! - A statement is prepared once for a table and a session, and by one caller at a time.
//! - Statements under way are bounded before the driver: it closes a connection on which too many were abandoned.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anabranch_runtime::{Clock, Deadline};
use scylla::client::session::Session;
use scylla::errors::{ExecutionError, RequestAttemptError};
use scylla::response::query_result::{QueryResult, QueryRowsResult};
use scylla::response::{PagingState, PagingStateResponse};
use scylla::serialize::batch::BatchValues;
use scylla::serialize::row::SerializeRow;
use scylla::statement::Consistency;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::unprepared::Statement;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use super::errors::{self, Attempted};
use super::metrics::{Outcome, StoreMetrics};
use super::policy::{Profiles, Purpose};
use crate::error::StoreError;

/// Statements under way at once. A node takes some thousands on a connection.
const IN_FLIGHT_MAX: usize = 1_024;

/// A statement that is prepared when it is first needed.
pub(super) type Prepared = OnceCell<PreparedStatement>;

/// Why a statement failed, and whether it certainly did nothing.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: ExecutionError,
    pub(super) nothing: bool,
}

/// One page of an answer.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) rows: QueryRowsResult,
    /// Where the next page starts, if there may be one.
    pub(super) next: Option<PagingState>,
}

/// An open session.
#[derive(Debug)]
pub(super) struct Cluster {
    session: Session,
    profiles: Profiles,
    clock: Arc<dyn Clock>,
    metrics: StoreMetrics,
    request_timeout: Duration,
    in_flight: Semaphore,
    last_write_time: AtomicI64,
}

impl Cluster {
    pub(super) fn new(
        session: Session,
        profiles: Profiles,
        clock: Arc<dyn Clock>,
        metrics: StoreMetrics,
        request_timeout: Duration,
    ) -> Self {
        Self {
            session,
            profiles,
            clock,
            metrics,
            request_timeout,
            in_flight: Semaphore::new(IN_FLIGHT_MAX),
            last_write_time: AtomicI64::new(i64::MIN),
        }
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// A write time, later than every one before it: of two writes of this process to one row the later one stays,
    /// whatever its clock does, and an attempt that lands late changes nothing that came after it.
    pub(super) fn write_time(&self) -> i64 {
        let now = self.clock.unix_micros();
        let after = |last: i64| now.max(last.saturating_add(1));
        let before = self
            .last_write_time
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |last| Some(after(last)));
        after(before.unwrap_or(now))
    }

    /// Prepares a statement, unless it is.
    pub(super) async fn prepared<'a>(
        &self,
        cell: &'a Prepared,
        purpose: Purpose,
        text: impl FnOnce() -> String,
    ) -> Result<&'a PreparedStatement, ExecutionError> {
        cell.get_or_try_init(async || {
            // The driver waits for every node that it holds for alive.
            let deadline = Deadline::after(&*self.clock, self.request_timeout);
            let prepared = deadline.bound(&*self.clock, self.session.prepare(text())).await;
            let mut prepared = prepared.ok_or(ExecutionError::RequestTimeout(self.request_timeout))??;
            prepared.set_is_idempotent(purpose.is_idempotent());
            prepared.set_execution_profile_handle(Some(self.profiles.of(purpose)));
            Ok(prepared)
        })
        .await
    }

    /// A prepared statement, to be sent as those of a purpose are.
    pub(super) fn sent_as(&self, statement: &PreparedStatement, purpose: Purpose) -> PreparedStatement {
        let mut statement = statement.clone();
        statement.set_execution_profile_handle(Some(self.profiles.of(purpose)));
        statement
    }

    /// Reads one page of an answer, of so many rows at most.
    pub(super) async fn page(
        &self,
        purpose: Purpose,
        statement: &PreparedStatement,
        values: impl SerializeRow + Send,
        rows_max: i32,
        from: PagingState,
    ) -> Result<Rows, ExecutionError> {
        let mut statement = statement.clone();
        statement.set_page_size(rows_max.max(1));
        let page = self.session.execute_single_page(&statement, values, from);
        let (result, next) = self.timed(purpose, page).await?;
        let rows = result.into_rows_result().map_err(|_| unexpected())?;
        self.metrics.rows_read(rows.rows_num(), rows.rows_bytes_size());
        let next = match next {
            PagingStateResponse::HasMorePages { state } => Some(state),
            PagingStateResponse::NoMorePages => None,
        };
        Ok(Rows { rows, next })
    }

    /// Runs a statement whose answer is a few rows, or none.
    pub(super) async fn run(
        &self,
        purpose: Purpose,
        statement: &PreparedStatement,
        values: impl SerializeRow + Send,
    ) -> Result<QueryResult, ExecutionError> {
        self.timed(purpose, self.session.execute_unpaged(statement, values))
            .await
    }

    /// Writes with a statement, at a time.
    pub(super) async fn write(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow + Send,
        at: i64,
    ) -> Result<(), Failed> {
        let attempted = Arc::new(Attempted::default());
        let mut statement = statement.clone();
        statement.set_timestamp(Some(at));
        statement.set_history_listener(attempted.clone());
        let sent = self.session.execute_unpaged(&statement, values);
        self.written(sent, &attempted).await
    }

    /// Writes rows of one partition as one mutation, at a time: all of them are there at once, or none.
    pub(super) async fn write_batch(
        &self,
        statement: &PreparedStatement,
        consistency: Consistency,
        rows: usize,
        values: impl BatchValues + Send,
        at: i64,
    ) -> Result<(), Failed> {
        let attempted = Arc::new(Attempted::default());
        let statements = vec![statement.clone().into(); rows];
        let mut batch = Batch::new_with_statements(BatchType::Unlogged, statements);
        batch.set_consistency(consistency);
        batch.set_timestamp(Some(at));
        batch.set_is_idempotent(Purpose::WriteEvents.is_idempotent());
        batch.set_execution_profile_handle(Some(self.profiles.of(Purpose::WriteEvents)));
        batch.set_history_listener(attempted.clone());
        self.written(self.session.batch(&batch, values), &attempted).await
    }

    async fn written(
        &self,
        sent: impl Future<Output = Result<QueryResult, ExecutionError>>,
        attempted: &Attempted,
    ) -> Result<(), Failed> {
        let written = self.timed(Purpose::WriteEvents, sent).await;
        written.map(drop).map_err(|error| Failed {
            error,
            nothing: attempted.nothing(),
        })
    }

    /// What [`Cluster::write_batch`] may take at most.
    pub(super) fn batch_max(&self) -> Duration {
        self.request_timeout * 2
    }

    /// Changes the schema, and waits until the nodes that answer agree on it.
    pub(super) async fn change_schema(&self, text: String) -> Result<(), ExecutionError> {
        let mut statement = Statement::new(text);
        statement.set_is_idempotent(Purpose::Schema.is_idempotent());
        statement.set_execution_profile_handle(Some(self.profiles.of(Purpose::Schema)));
        self.timed(Purpose::Schema, self.session.query_unpaged(statement, ()))
            .await
            .map(drop)
    }

    async fn timed<T>(
        &self,
        purpose: Purpose,
        call: impl Future<Output = Result<T, ExecutionError>>,
    ) -> Result<T, ExecutionError> {
        let _permit = self.permit().await?;
        let since = self.clock.elapsed();
        let result = call.await;
        let outcome = match &result {
            Ok(_) => Outcome::Ok,
            Err(ExecutionError::RequestTimeout(_)) => Outcome::TimedOut,
            Err(_) => Outcome::Failed,
        };
        let took = self.clock.elapsed().saturating_sub(since);
        self.metrics.ran(purpose, outcome, took);
        result
    }

    async fn permit(&self) -> Result<Option<SemaphorePermit<'_>>, ExecutionError> {
        if let Ok(permit) = self.in_flight.try_acquire() {
            return Ok(Some(permit));
        }
        let deadline = Deadline::after(&*self.clock, self.request_timeout);
        match deadline.bound(&*self.clock, self.in_flight.acquire()).await {
            // It is never closed.
            Some(permit) => Ok(permit.ok()),
            // What the driver says when it has too many under way itself: certainly not sent.
            None => Err(RequestAttemptError::UnableToAllocStreamId.into()),
        }
    }
}

/// An answer that is none of rows.
pub(super) fn unexpected() -> ExecutionError {
    RequestAttemptError::UnexpectedResponse(scylla::errors::CqlResponseKind::Result).into()
}

/// An answer whose columns are not what was asked for.
pub(super) fn misread(what: &str, error: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt {
        what: what.to_owned(),
        reason: error.to_string(),
    }
}

impl Failed {
    /// What our caller is told.
    pub(super) fn into_error(self, purpose: Purpose) -> StoreError {
        errors::of_write(purpose.doing(), self.error, self.nothing)
    }
}
