//! Aggregates, in and out.

use anabranch_model::query::{AggregationKind, AggregationQuery, GroupBy};
use anabranch_proto::timeseries::v1 as pb;
use anabranch_runtime::Deadline;
use bytes::Bytes;
use pb::aggregate_group::Group as WireGroup;
use pb::aggregate_row::Value;
use pb::aggregation_query::Aggregation;

use super::{context, fields, query, read};
use crate::errors::{Reason, ServiceError};
use crate::read::request::{AggregatePage, AggregateRequest, AggregatedValue, AggregationRow, Group};

/// An aggregate.
///
/// # Errors
/// Those of its fields.
pub fn request(
    request: pb::AggregateEventRecordsRequest,
    deadline: Option<Deadline>,
) -> Result<AggregateRequest, ServiceError> {
    let aggregation = request
        .aggregation_query
        .ok_or_else(|| wrong("aggregation_query", KINDS))?;
    Ok(AggregateRequest {
        namespace: fields::namespace("namespace", &request.namespace)?,
        interval: fields::interval("time_interval", request.time_interval.as_ref())?,
        query: query::search(request.search_query)?,
        aggregation: self::aggregation(aggregation)?,
        paging: read::paging(request.page_size, request.page_token, 0)?,
        latency: read::latency(request.latency_slo.as_ref(), deadline)?,
    })
}

/// The answer of an aggregate of this kind.
pub fn page(page: AggregatePage, kind: AggregationKind) -> pb::AggregateEventRecordsResponse {
    pb::AggregateEventRecordsResponse {
        rows: page.rows.into_iter().map(|found| row(found, kind)).collect(),
        next_page_token: page.next_page_token,
        partial: page.context.partial.is_some(),
        response_context: vec![context::of_read(page.context)],
    }
}

const KINDS: &str = "set one of count, distinct, min, max, sum, avg";

fn wrong(path: &str, problem: impl Into<String>) -> ServiceError {
    ServiceError::of_field(Reason::InvalidAggregation, path, problem)
}

fn aggregation(query: pb::AggregationQuery) -> Result<AggregationQuery, ServiceError> {
    let (kind, name, key) = match query
        .aggregation
        .ok_or_else(|| wrong("aggregation_query", KINDS))?
    {
        Aggregation::Count(count) => (AggregationKind::Count, "count", count.event_item_key),
        Aggregation::Distinct(distinct) => (AggregationKind::Distinct, "distinct", distinct.event_item_key),
        Aggregation::Min(min) => (AggregationKind::Min, "min", min.event_item_key),
        Aggregation::Max(max) => (AggregationKind::Max, "max", max.event_item_key),
        Aggregation::Sum(sum) => (AggregationKind::Sum, "sum", sum.event_item_key),
        Aggregation::Avg(avg) => (AggregationKind::Avg, "avg", avg.event_item_key),
    };
    let key_of = |path: &str, key: &str| fields::item_key(Reason::InvalidAggregation, path, key);
    let item_key = if key.is_empty() && kind == AggregationKind::Count {
        None
    } else {
        let path = format!("aggregation_query.{name}.event_item_key");
        Some(key_of(&path, &key)?)
    };
    let group_by = match query.group_by {
        None => None,
        Some(group_by) => Some(match group_by.group_by {
            None => {
                let problem = "set one of time_width, event_item_key";
                return Err(wrong("aggregation_query.group_by", problem));
            }
            Some(pb::group_by::GroupBy::EventItemKey(key)) => {
                GroupBy::Item(key_of("aggregation_query.group_by.event_item_key", &key)?)
            }
            Some(pb::group_by::GroupBy::TimeWidth(width)) => {
                let path = "aggregation_query.group_by.time_width";
                let width = fields::duration(Reason::InvalidDuration, path, &width)?;
                if width.as_micros() == 0 {
                    return Err(wrong(path, "use at least 1 microsecond"));
                }
                GroupBy::TimeWidth(width)
            }
        }),
    };
    Ok(AggregationQuery {
        kind,
        item_key,
        group_by,
    })
}

fn row(found: AggregationRow, kind: AggregationKind) -> pb::AggregateRow {
    let group = found.group.map(|group| pb::AggregateGroup {
        group: match group {
            // The first span may begin before the first time that can be said.
            Group::Time(time) => {
                fields::timestamp(time.max(anabranch_model::EventTime::MIN)).map(WireGroup::Time)
            }
            Group::Item(value) => Some(WireGroup::EventItemValue(value)),
        },
    });
    let event_item_value = match (kind, &found.value) {
        (AggregationKind::Distinct | AggregationKind::Min | AggregationKind::Max, Some(value)) => text(value),
        _ => Bytes::new(),
    };
    pb::AggregateRow {
        group,
        event_item_value,
        count: fields::wire_i64(found.count),
        sum: found.sum.unwrap_or(0.0),
        value: found.value.and_then(|value| {
            Some(match value {
                AggregatedValue::Integer(value) => Value::IntegerValue(value),
                AggregatedValue::Double(value) => Value::DoubleValue(value),
                AggregatedValue::Keyword(value) => Value::KeywordValue(value),
                AggregatedValue::Timestamp(time) => Value::TimestampValue(fields::timestamp(time)?),
                AggregatedValue::Boolean(value) => Value::BooleanValue(value),
            })
        }),
    }
}

/// A value as an item would hold it.
fn text(value: &AggregatedValue) -> Bytes {
    match value {
        AggregatedValue::Integer(value) => value.to_string().into(),
        AggregatedValue::Double(value) => value.to_string().into(),
        AggregatedValue::Keyword(value) => value.clone(),
        AggregatedValue::Timestamp(time) => time.to_string().into(),
        AggregatedValue::Boolean(value) => value.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_model::EventTime;
    use std::time::Duration;

    fn of(aggregation: Aggregation, group_by: Option<pb::group_by::GroupBy>) -> pb::AggregationQuery {
        pb::AggregationQuery {
            aggregation: Some(aggregation),
            group_by: group_by.map(|group_by| pb::GroupBy {
                group_by: Some(group_by),
            }),
        }
    }

    fn sum(key: &str) -> Aggregation {
        Aggregation::Sum(pb::SumAggregation {
            event_item_key: key.into(),
        })
    }

    #[test]
    fn every_kind_needs_a_key_but_count() {
        let count = aggregation(of(Aggregation::Count(pb::CountAggregation::default()), None)).unwrap();
        assert_eq!((count.kind, count.item_key), (AggregationKind::Count, None));
        let error = aggregation(of(sum(""), None)).unwrap_err();
        assert_eq!(error.reason, Reason::InvalidAggregation);
        assert_eq!(error.fields[0].0, "aggregation_query.sum.event_item_key");
        assert!(aggregation(pb::AggregationQuery::default()).is_err());
        assert!(request(pb::AggregateEventRecordsRequest::default(), None).is_err());
    }

    #[test]
    fn groups_are_widths_above_zero_or_keys() {
        let width = |seconds| pb::group_by::GroupBy::TimeWidth(prost_types::Duration { seconds, nanos: 0 });
        let reason = |width| aggregation(of(sum("k"), Some(width))).unwrap_err().reason;
        assert_eq!(reason(width(0)), Reason::InvalidAggregation);
        assert_eq!(reason(width(-1)), Reason::InvalidDuration);
        assert_eq!(
            reason(pb::group_by::GroupBy::EventItemKey(String::new())),
            Reason::InvalidAggregation
        );
        let hour = aggregation(of(sum("k"), Some(width(3_600)))).unwrap();
        assert_eq!(
            hour.group_by,
            Some(GroupBy::TimeWidth(Duration::from_secs(3_600)))
        );
        let empty = pb::AggregationQuery {
            group_by: Some(pb::GroupBy::default()),
            ..of(sum("k"), None)
        };
        assert!(aggregation(empty).is_err());
    }

    #[test]
    fn rows_carry_what_merging_needs() {
        let found = AggregationRow {
            group: Some(Group::Time(EventTime::from_micros(0))),
            count: 2,
            sum: Some(7.0),
            value: Some(AggregatedValue::Double(3.5)),
        };
        let wire = row(found, AggregationKind::Avg);
        assert_eq!((wire.count, wire.sum), (2, 7.0));
        assert_eq!(wire.value, Some(Value::DoubleValue(3.5)));
        assert!(wire.event_item_value.is_empty());
        let distinct = AggregationRow {
            group: None,
            count: 1,
            sum: None,
            value: Some(AggregatedValue::Integer(-17)),
        };
        let wire = row(distinct, AggregationKind::Distinct);
        assert_eq!(wire.event_item_value.as_ref(), b"-17");
        assert_eq!(wire.group, None);
    }
}
