//! What a read asks for: filters, search queries, aggregations. Values only; matching is
//! the server's.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::names::{ItemKey, TimeSeriesId};

/// Keeps the events that have an item of this key (and, if given, exactly this value).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EventFilter {
    /// Key of the item.
    pub item_key: ItemKey,
    /// Value of the item; any when `None`.
    pub item_value: Option<Bytes>,
}

/// How the queries under a boolean query combine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BooleanOperator {
    /// Every one matches.
    And,
    /// At least one matches.
    Or,
    /// None matches.
    Not,
}

/// One end of a range query.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ValueBound {
    /// The value at the end, compared by the key's field type.
    pub value: Bytes,
    /// Whether the value itself is inside.
    pub inclusive: bool,
}

/// A boolean query over the items of an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SearchQuery {
    /// Queries joined by an operator; at least one.
    Boolean {
        /// How they combine.
        operator: BooleanOperator,
        /// What combines.
        queries: Vec<SearchQuery>,
    },
    /// The item's value equals, by its field type.
    Equals {
        /// Key of the item.
        item_key: ItemKey,
        /// The value.
        value: Bytes,
    },
    /// The item's value lies between, by its field type.
    Range {
        /// Key of the item.
        item_key: ItemKey,
        /// From; open when `None`.
        lower: Option<ValueBound>,
        /// To; open when `None`.
        upper: Option<ValueBound>,
    },
    /// The item's value starts with these bytes, whatever its field type.
    Prefix {
        /// Key of the item.
        item_key: ItemKey,
        /// The first bytes.
        value: Bytes,
    },
    /// The event has an item of this key.
    Exists {
        /// Key of the item.
        item_key: ItemKey,
    },
    /// The event belongs to one of these ids.
    TimeSeriesIds(Vec<TimeSeriesId>),
}

/// What is computed over the events that match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AggregationKind {
    /// How many events have the item (every event when no item key is given).
    Count,
    /// Each different value of the item, and how many events have it.
    Distinct,
    /// Smallest value, by the key's field type.
    Min,
    /// Largest value, by the key's field type.
    Max,
    /// Sum; INTEGER or DOUBLE keys only.
    Sum,
    /// Mean; INTEGER or DOUBLE keys only.
    Avg,
}

/// What the rows of an aggregation are split by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum GroupBy {
    /// Spans of event time of this width, starting at multiples of it since the epoch.
    TimeWidth(Duration),
    /// The value of an item; events without it are in no group.
    Item(ItemKey),
}

/// An aggregation, whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AggregationQuery {
    /// What is computed.
    pub kind: AggregationKind,
    /// Over which item; `None` only for `Count`.
    pub item_key: Option<ItemKey>,
    /// Split by what.
    pub group_by: Option<GroupBy>,
}
