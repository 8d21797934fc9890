//! How each kind of statement is sent: to how many replicas, how long it may take, when it is sent again.
//!
//! | purpose | consistency | sent again | to one more node after the delay |
//! |---|---|---|---|
//! | read of events | the request's (`levels`) | once, elsewhere | yes: reading twice is reading |
//! | write of events | the part's (`levels`) | once, elsewhere | yes: one key and one write time is one row (W2) |
//! | compare-and-set | of a ballot, then the store's | never here: `records` settles it | no: it would contend with itself |
//! | read of a record | serial | once, elsewhere | yes |
//! | lookup or list of records | the store's | once, elsewhere | yes |
//! | walk over partitions | the store's | once, elsewhere | no: it is long anyway |
//! | schema | one | never | no |
//!
//! - A node that hangs costs the delay, not the timeout, wherever a statement is safe to repeat; one that may not be
//!   repeated has half of the timeout, so that it can be settled on another node in the other half.
//! - The consistency of a statement is never lowered to have it done.

use std::sync::Arc;
use std::time::Duration;

use scylla::client::execution_profile::{ExecutionProfile, ExecutionProfileHandle};
use scylla::errors::{DbError, RequestAttemptError};
use scylla::policies::load_balancing::{DefaultPolicy, LoadBalancingPolicy};
use scylla::policies::retry::{RequestInfo, RetryDecision, RetryPolicy, RetrySession};
use scylla::policies::speculative_execution::SimpleSpeculativeExecutionPolicy;
use scylla::statement::{Consistency, SerialConsistency};

use super::settings::{CassandraSettings, StoreConsistency};

/// What a walk over a table's partitions may take, at least: it passes over all that lies between them.
const WALK_TIMEOUT: Duration = Duration::from_secs(15);
/// What a change of the schema may take: every node takes part.
const SCHEMA_TIMEOUT: Duration = Duration::from_secs(30);

/// What a statement is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    ReadEvents,
    WriteEvents,
    CompareAndSet,
    ReadRecord,
    LookUpRecord,
    ListRecords,
    Walk,
    Schema,
}

impl Purpose {
    /// True when sending it twice is the same as sending it once.
    pub(super) fn is_idempotent(self) -> bool {
        match self {
            Self::ReadEvents
            | Self::WriteEvents
            | Self::ReadRecord
            | Self::LookUpRecord
            | Self::ListRecords
            | Self::Walk => true,
            Self::CompareAndSet | Self::Schema => false,
        }
    }
}

impl Purpose {
    /// What was being done, for an error.
    pub(super) fn doing(self) -> &'static str {
        match self {
            Self::ReadEvents => "reading events",
            Self::WriteEvents => "writing events",
            Self::CompareAndSet => "changing a record",
            Self::ReadRecord => "reading a record",
            Self::LookUpRecord => "looking a record up",
            Self::ListRecords => "listing records",
            Self::Walk => "listing partitions",
            Self::Schema => "changing tables",
        }
    }

    /// As a label.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::ReadEvents => "read_events",
            Self::WriteEvents => "write_events",
            Self::CompareAndSet => "compare_and_set",
            Self::ReadRecord => "read_record",
            Self::LookUpRecord => "look_up_record",
            Self::ListRecords => "list_records",
            Self::Walk => "walk",
            Self::Schema => "schema",
        }
    }
}

/// A profile for each purpose.
#[derive(Clone, Debug)]
pub(super) struct Profiles {
    read: ExecutionProfileHandle,
    write: ExecutionProfileHandle,
    compare_and_set: ExecutionProfileHandle,
    read_record: ExecutionProfileHandle,
    walk: ExecutionProfileHandle,
    schema: ExecutionProfileHandle,
}

impl Profiles {
    /// The profiles of these settings, in a data centre.
    pub(super) fn new(settings: &CassandraSettings, datacenter: &str) -> Self {
        let (write, read, serial) = match settings.consistency {
            StoreConsistency::LocalQuorum => (
                Consistency::LocalQuorum,
                Consistency::LocalQuorum,
                SerialConsistency::LocalSerial,
            ),
            StoreConsistency::Quorum => (
                Consistency::Quorum,
                Consistency::Quorum,
                SerialConsistency::Serial,
            ),
            StoreConsistency::EachQuorum => (
                Consistency::EachQuorum,
                Consistency::LocalQuorum,
                SerialConsistency::Serial,
            ),
        };
        let serial_read = match serial {
            SerialConsistency::Serial => Consistency::Serial,
            SerialConsistency::LocalSerial => Consistency::LocalSerial,
        };
        let nodes: Arc<dyn LoadBalancingPolicy> = DefaultPolicy::builder()
            .prefer_datacenter(datacenter.to_owned())
            .token_aware(true)
            // Another data centre may not have what was acked here.
            .permit_dc_failover(false)
            .build();
        let once_more = Arc::new(SimpleSpeculativeExecutionPolicy {
            max_retry_count: 1,
            retry_interval: settings.speculative_delay,
        });
        let profile = |consistency, timeout, hedged: bool| {
            ExecutionProfile::builder()
                .consistency(consistency)
                .serial_consistency(Some(serial))
                .request_timeout(Some(timeout))
                .load_balancing_policy(nodes.clone())
                .retry_policy(Arc::new(OnceElsewhere))
                .speculative_execution_policy(hedged.then(|| once_more.clone() as _))
                .build()
                .into_handle()
        };
        let timeout = settings.request_timeout;
        Self {
            read: profile(read, timeout, true),
            write: profile(write, timeout, true),
            compare_and_set: profile(write, timeout / 2, false),
            read_record: profile(serial_read, timeout, true),
            walk: profile(read, timeout.max(WALK_TIMEOUT), false),
            schema: profile(Consistency::One, timeout.max(SCHEMA_TIMEOUT), false),
        }
    }

    /// The profile of a purpose.
    pub(super) fn of(&self, purpose: Purpose) -> ExecutionProfileHandle {
        match purpose {
            Purpose::ReadEvents | Purpose::LookUpRecord | Purpose::ListRecords => &self.read,
            Purpose::WriteEvents => &self.write,
            Purpose::CompareAndSet => &self.compare_and_set,
            Purpose::ReadRecord => &self.read_record,
            Purpose::Walk => &self.walk,
            Purpose::Schema => &self.schema,
        }
        .clone()
    }
}

/// One more attempt, on another node, where the error says that another may do better and the statement is safe to
/// repeat, or certainly was not done.
#[derive(Debug)]
struct OnceElsewhere;

impl RetryPolicy for OnceElsewhere {
    fn new_session(&self) -> Box<dyn RetrySession> {
        Box::new(Attempts { again: false })
    }
}

struct Attempts {
    again: bool,
}

impl RetrySession for Attempts {
    fn decide_should_retry(&mut self, failed: RequestInfo<'_>) -> RetryDecision {
        let worth = if failed.is_idempotent {
            may_pass_elsewhere(failed.error)
        } else {
            matches!(failed.error, RequestAttemptError::UnableToAllocStreamId)
        };
        if worth && !std::mem::replace(&mut self.again, true) {
            RetryDecision::RetryNextTarget(None)
        } else {
            RetryDecision::DontRetry
        }
    }

    fn reset(&mut self) {
        self.again = false;
    }
}

/// True when the error is one of the node that was asked, or of a moment.
fn may_pass_elsewhere(error: &RequestAttemptError) -> bool {
    match error {
        RequestAttemptError::UnableToAllocStreamId | RequestAttemptError::BrokenConnectionError(_) => true,
        RequestAttemptError::DbError(error, _) => matches!(
            error,
            DbError::Overloaded
                | DbError::ServerError
                | DbError::IsBootstrapping
                | DbError::Unavailable { .. }
                | DbError::ReadTimeout { .. }
                | DbError::WriteTimeout { .. }
                | DbError::ReadFailure { .. }
                | DbError::WriteFailure { .. }
        ),
        _ => false,
    }
}
