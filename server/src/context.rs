//! What every answer says about how it came about.

use std::time::Duration;

use anabranch_model::{EventTime, NamespaceName};

use crate::split::FilterAnswer;

/// In which order the records of an answer come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecordOrder {
    /// Event order over everything that was asked for.
    #[default]
    Event,
    /// By slice, then by the store's own order of partitions, then event order.
    Partition,
}

/// Where events were read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServedFrom {
    /// Partitions as they were written.
    Original,
    /// The smaller partitions that wide ones were split into.
    Targets,
    /// Some of both.
    Mixed,
}

/// Why an answer stops before its page is full and before the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartialReason {
    /// The deadline came.
    Deadline,
    /// An aggregation held as many groups as it may.
    Groups,
}

/// What every answer says about how it came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseContext {
    /// The namespace that was asked.
    pub namespace: NamespaceName,
    /// From the request's arrival to the answer.
    pub time_taken: Duration,
    /// Partitions that were opened.
    pub partitions_read: u64,
    /// Bytes of rows that had to be read, before any filter.
    pub bytes_read: u64,
    /// Where events were read from; `None` when nothing was read.
    pub served_from: Option<ServedFrom>,
    /// What the filter of split partitions said, the most that it said of any; `None` when nothing was read.
    pub split_filter: Option<FilterAnswer>,
    /// The newest generation of a split that was read from; 0 when none was.
    pub split_generation: u32,
    /// The order of the records.
    pub order: RecordOrder,
    /// Set when the answer was cut.
    pub partial: Option<PartialReason>,
    /// How far the answer is complete, when it was cut: everything that the walk meets before this time
    /// has been answered. Only in event order.
    pub complete_until: Option<EventTime>,
    /// What the caller should know.
    pub warnings: Vec<String>,
}

impl ResponseContext {
    /// A context that has nothing to say yet.
    pub fn new(namespace: NamespaceName) -> Self {
        Self {
            namespace,
            time_taken: Duration::ZERO,
            partitions_read: 0,
            bytes_read: 0,
            served_from: None,
            split_filter: None,
            split_generation: 0,
            order: RecordOrder::Event,
            partial: None,
            complete_until: None,
            warnings: Vec::new(),
        }
    }
}
