//! What an aggregation holds while it goes over the events: one state a row.
//!
//! Memory is bounded: a row that would take it past the limits is refused, and the part ends before the
//! event that wanted it.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use anabranch_model::query::AggregationKind;
use anabranch_model::{Event, EventTime, FieldType};
use bytes::Bytes;

use super::check::{Computation, Groups};
use super::finished::Finished;
use super::rows::{RowKey, row_key, row_of};
use crate::read::cursor::{Cut, Position};
use crate::read::field::{self, FieldValue};
use crate::read::request::Group;

/// Memory that a row takes beside its key and value.
const ROW_BYTES: usize = 160;

/// The rows of a part, as far as it has come.
pub(super) struct Accumulator<'a> {
    computation: &'a Computation,
    rows: BTreeMap<RowKey, RowState>,
    rows_max: usize,
    bytes: usize,
    bytes_max: usize,
    /// Values that are none of their type.
    unreadable: u64,
}

/// One row, as far as it has come.
#[derive(Debug)]
pub(super) struct RowState {
    pub(super) group: Option<Group>,
    pub(super) count: u64,
    pub(super) value: State,
}

#[derive(Debug)]
pub(super) enum State {
    Count,
    /// The value that the row is of.
    Distinct(FieldValue),
    /// The smallest or largest so far.
    Extreme(Option<FieldValue>),
    /// Exact: 2^63 events of 2^63 do not reach the end of the number.
    IntegerSum(i128),
    DoubleSum(f64),
}

impl<'a> Accumulator<'a> {
    pub(super) fn new(computation: &'a Computation, rows_max: usize, bytes_max: usize) -> Self {
        let mut accumulator = Self {
            computation,
            rows: BTreeMap::new(),
            rows_max: rows_max.max(1),
            bytes: 0,
            bytes_max,
            unreadable: 0,
        };
        // Without groups there is one row, also when nothing matches.
        if matches!(computation.groups, Groups::One) && computation.kind != AggregationKind::Distinct {
            let state = accumulator.fresh(None, None);
            accumulator.rows.insert(row_key(None, None), state);
        }
        accumulator
    }

    /// Takes an event in; false when there is no room for its row.
    pub(super) fn add(&mut self, event: &Event) -> bool {
        let value = match &self.computation.item {
            None => None,
            Some(item) => {
                let Some(stored) = event.item(item.key.as_str()) else {
                    return true;
                };
                // A count is of events that have the item, whatever it says.
                if self.computation.kind == AggregationKind::Count {
                    None
                } else {
                    let Some(value) = field::parse(item.field_type, stored) else {
                        self.unreadable += 1;
                        return true;
                    };
                    Some(value)
                }
            }
        };
        let group = match &self.computation.groups {
            Groups::One => None,
            Groups::Time(width) => Some(Group::Time(span_start(event.key.time, *width))),
            Groups::Item(key) => match event.item(key.as_str()) {
                None => return true,
                Some(value) => Some(Group::Item(value.clone())),
            },
        };
        let distinct = match (self.computation.kind, &value) {
            (AggregationKind::Distinct, Some(value)) => Some(value),
            _ => None,
        };
        let key = row_key(group.as_ref(), distinct);
        if !self.rows.contains_key(&key) {
            let bytes = ROW_BYTES + 2 * key.len();
            let fits = self.rows.len() < self.rows_max && self.bytes + bytes <= self.bytes_max;
            if !fits && !self.rows.is_empty() {
                return false;
            }
            self.bytes += bytes;
            let state = self.fresh(group, distinct.cloned());
            self.rows.insert(key.clone(), state);
        }
        if let Some(row) = self.rows.get_mut(&key) {
            row.add(self.computation.kind, value);
        }
        true
    }

    pub(super) fn finish(self, end: Option<Position>, cut: Option<Cut>) -> Finished {
        let warnings = self.warnings();
        let kind = self.computation.kind;
        let rows = self
            .rows
            .into_iter()
            .map(|(key, state)| (key, row_of(kind, state)));
        Finished {
            rows: rows.collect(),
            end,
            cut,
            warnings,
        }
    }

    fn warnings(&self) -> Vec<String> {
        match &self.computation.item {
            Some(item) if self.unreadable > 0 => vec![format!(
                "{} values of `{}` are no {} and are left out",
                self.unreadable,
                item.key,
                field::name(item.field_type)
            )],
            _ => Vec::new(),
        }
    }

    fn fresh(&self, group: Option<Group>, distinct: Option<FieldValue>) -> RowState {
        let integers = self
            .computation
            .item
            .as_ref()
            .is_some_and(|item| item.field_type == FieldType::Integer);
        RowState {
            group: group.map(owned),
            count: 0,
            value: match (self.computation.kind, distinct) {
                (AggregationKind::Distinct, Some(value)) => State::Distinct(kept(value)),
                (AggregationKind::Min | AggregationKind::Max, _) => State::Extreme(None),
                (AggregationKind::Sum | AggregationKind::Avg, _) if integers => State::IntegerSum(0),
                (AggregationKind::Sum | AggregationKind::Avg, _) => State::DoubleSum(0.0),
                (AggregationKind::Count | AggregationKind::Distinct, _) => State::Count,
            },
        }
    }
}

impl RowState {
    fn add(&mut self, kind: AggregationKind, value: Option<FieldValue>) {
        self.count += 1;
        match (&mut self.value, value) {
            (State::IntegerSum(sum), Some(FieldValue::Integer(value))) => *sum += i128::from(value),
            (State::DoubleSum(sum), Some(FieldValue::Double(value))) => *sum += value,
            (State::Extreme(extreme), Some(value)) => {
                let wanted = match kind {
                    AggregationKind::Max => Ordering::Greater,
                    _ => Ordering::Less,
                };
                let better = extreme
                    .as_ref()
                    .is_none_or(|extreme| value.compare(extreme) == Some(wanted));
                if better {
                    *extreme = Some(kept(value));
                }
            }
            _ => {}
        }
    }
}

/// Start of the span of `width` microseconds, counted from the epoch, that holds a time.
fn span_start(time: EventTime, width: i64) -> EventTime {
    EventTime::from_micros(time.micros().div_euclid(width).saturating_mul(width))
}

/// A stored value may be a slice of a whole block; what is kept for long must not hold on to it.
fn kept(value: FieldValue) -> FieldValue {
    match value {
        FieldValue::Keyword(bytes) => FieldValue::Keyword(Bytes::copy_from_slice(&bytes)),
        other => other,
    }
}

fn owned(group: Group) -> Group {
    match group {
        Group::Item(bytes) => Group::Item(Bytes::copy_from_slice(&bytes)),
        time @ Group::Time(_) => time,
    }
}
