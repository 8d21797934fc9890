//! What a read is asked and what it answers, in the model's terms.

use std::time::Duration;

use anabranch_model::query::{AggregationQuery, EventFilter, SearchQuery};
use anabranch_model::{Direction, EventRecord, EventTime, NamespaceName, TimeInterval, TimeSeriesId};
use anabranch_runtime::Deadline;
use bytes::Bytes;

use crate::context::ResponseContext;

/// Rows in a page when the request does not say.
pub const PAGE_SIZE_DEFAULT: usize = 1_000;
/// Most rows in a page; more is silently capped.
pub const PAGE_SIZE_MAX: usize = 10_000;
/// A page ends before the record that would take it past this many bytes of content; one that alone is
/// larger comes alone.
pub const PAGE_BYTES: usize = 2 << 20;
/// Most ids that one query may name.
pub const QUERY_IDS_MAX: usize = 1_000;

/// Where a walk stands and how long its pages are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paging {
    /// Rows in a page: 0 is the default, more than the maximum is capped.
    pub page_size: usize,
    /// Where the last page ended; empty for the first.
    pub page_token: String,
    /// Most records over all pages of the walk; no limit when `None`.
    pub total_record_limit: Option<u64>,
}

/// By when an answer is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// The request's own `latency_slo`; the namespace's `slos.read.max` when `None`.
    pub slo: Option<Duration>,
    /// The client's deadline (`grpc-timeout`). The answer leaves before it.
    pub deadline: Option<Deadline>,
}

/// `ReadEventRecords`: the events of one id.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadRequest {
    /// The namespace.
    pub namespace: NamespaceName,
    /// The id.
    pub time_series_id: TimeSeriesId,
    /// Which times.
    pub interval: TimeInterval,
    /// Events that pass every filter.
    pub filters: Vec<EventFilter>,
    /// In which order.
    pub direction: Direction,
    /// Which page.
    pub paging: Paging,
    /// By when.
    pub latency: Latency,
}

/// `SearchEventRecords`: the events that match a query.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchRequest {
    /// The namespace.
    pub namespace: NamespaceName,
    /// Which times.
    pub interval: TimeInterval,
    /// What matches; everything when `None`.
    pub query: Option<SearchQuery>,
    /// In which order.
    pub direction: Direction,
    /// Which page.
    pub paging: Paging,
    /// By when.
    pub latency: Latency,
}

/// `AggregateEventRecords`: a computation over the events that match.
#[derive(Clone, Debug, PartialEq)]
pub struct AggregateRequest {
    /// The namespace.
    pub namespace: NamespaceName,
    /// Which times.
    pub interval: TimeInterval,
    /// What matches; everything when `None`.
    pub query: Option<SearchQuery>,
    /// What is computed.
    pub aggregation: AggregationQuery,
    /// Which page of rows (`total_record_limit` has no meaning here).
    pub paging: Paging,
    /// By when.
    pub latency: Latency,
}

/// A page of records.
#[derive(Clone, Debug, PartialEq)]
pub struct EventPage {
    /// The records.
    pub records: Vec<EventRecord>,
    /// Where to go on; empty at the end, and only there.
    pub next_page_token: String,
    /// How it came about.
    pub context: ResponseContext,
}

/// What a row of an aggregation stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// The span of event time that starts here.
    Time(EventTime),
    /// The events whose item has this value.
    Item(Bytes),
}

/// What an aggregation computed for a row.
#[derive(Clone, Debug, PartialEq)]
pub enum AggregatedValue {
    /// A count, or a result over an INTEGER key.
    Integer(i64),
    /// A result over a DOUBLE key, a mean, or a sum past the range of an integer.
    Double(f64),
    /// A value of a KEYWORD key.
    Keyword(Bytes),
    /// A value of a TIMESTAMP key.
    Timestamp(EventTime),
    /// A value of a BOOLEAN key.
    Boolean(bool),
}

/// A row of an aggregation.
#[derive(Clone, Debug, PartialEq)]
pub struct AggregationRow {
    /// What it stands for; `None` when the query does not group.
    pub group: Option<Group>,
    /// Events that went into it.
    pub count: u64,
    /// Their sum, for `sum` and `avg`, so that rows of different parts can be merged.
    pub sum: Option<f64>,
    /// The result; `None` for min, max and avg of nothing.
    pub value: Option<AggregatedValue>,
}

/// A page of an aggregation's rows.
#[derive(Clone, Debug, PartialEq)]
pub struct AggregatePage {
    /// The rows, in group order (then value order, for `distinct`).
    pub rows: Vec<AggregationRow>,
    /// Where to go on; empty at the end, and only there.
    pub next_page_token: String,
    /// How it came about; `partial` when the rows cover only a part of the scan.
    pub context: ResponseContext,
}
