//! Hands the parts of a request to the store, and says what became of them.
//!
//! Each part stands for itself in the store. What is not named as failed is durable and stays, which is
//! safe because the whole request may be repeated (W2). A part of unknown outcome may appear later.

use std::collections::BTreeMap;

use anabranch_model::{NamespaceName, PartitionKey};
use anabranch_storage::{ErrorKind, StoreError};

use super::refusal::NAMED_MAX;
use crate::errors::{Reason, ServiceError};

/// A part that failed.
#[derive(Debug)]
pub(super) struct FailedPart {
    pub partition: PartitionKey,
    pub indices: Vec<usize>,
    pub error: StoreError,
}

impl FailedPart {
    /// The kind, as a metric's label.
    pub(super) fn label(&self) -> &'static str {
        label(self.error.kind())
    }
}

fn label(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Invalid => "invalid",
        ErrorKind::NotFound => "no_table",
        ErrorKind::Overloaded => "overloaded",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Unknown => "unknown",
        ErrorKind::Corrupt => "corrupt",
    }
}

/// The error for a request of `parts` parts and `events` events, some of which failed.
pub(super) fn failure(
    namespace: &NamespaceName,
    parts: usize,
    events: usize,
    mut failed: Vec<FailedPart>,
) -> ServiceError {
    let kinds: BTreeMap<&str, usize> = failed.iter().fold(BTreeMap::new(), |mut kinds, part| {
        *kinds.entry(part.label()).or_default() += part.indices.len();
        kinds
    });
    // All of it and for one reason: then the reason says it best.
    if failed.len() == parts
        && kinds.len() == 1
        && let Some(part) = failed.pop()
    {
        return ServiceError::from(part.error)
            .with("namespace", namespace)
            .with("events", events);
    }
    let failed_events: usize = kinds.values().sum();
    let unknown = kinds.get(label(ErrorKind::Unknown)).copied().unwrap_or(0);
    let partitions: Vec<String> = failed
        .iter()
        .take(NAMED_MAX)
        .map(|part| part.partition.to_string())
        .collect();
    let problem = failed
        .first()
        .map(|part| part.error.to_string())
        .unwrap_or_default();
    let message = format!("{failed_events} of {events} events may not be durable: {problem}");
    let mut error = ServiceError::new(Reason::WritePartlyFailed, message)
        .with("namespace", namespace)
        .with("failed", failed_events)
        .with("unknown", unknown)
        .with("events", events)
        .with("failedPartitions", failed.len())
        .with("partitions", partitions.join(", "))
        .with("problem", problem)
        .retry_after(std::time::Duration::from_millis(200));
    let named = failed
        .iter()
        .flat_map(|part| part.indices.iter().map(move |index| (*index, part)));
    for (index, part) in named.take(NAMED_MAX) {
        let what = match part.error.kind() {
            ErrorKind::Unknown => "may or may not be durable",
            _ => "is not durable",
        };
        let why = format!("{what}: partition `{}`: {}", part.partition, part.error);
        error = error.field(format!("events[{index}]"), why);
    }
    error
}
