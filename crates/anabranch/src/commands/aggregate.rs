//! `aggregate`: rows computed over events. Parts of a scan that took longer than one answer may are put
//! together here.

mod merge;

use anabranch_proto::timeseries::v1::aggregate_group::Group;
use anabranch_proto::timeseries::v1::aggregate_row::Value;
use anabranch_proto::timeseries::v1::aggregation_query::Aggregation;
use anabranch_proto::timeseries::v1::{
    AggregateEventRecordsRequest, AggregateRow, AggregationQuery, AvgAggregation, CountAggregation,
    DistinctAggregation, GroupBy, MaxAggregation, MinAggregation, SumAggregation, group_by,
};

use super::search::parse_query;
use super::{Session, explain, print_sheet, say};
use crate::cli::{Aggregate, What};
use crate::exit::{Exit, Failure};
use crate::messages;
use crate::output::Sheet;
use crate::output::records::{shown, text_or_base64};
use crate::units::{format_time, proto_duration};

pub(super) async fn run(session: &Session, aggregate: Aggregate) -> Result<(), Failure> {
    let aggregation = aggregation(aggregate.what)?;
    let group_by = match (aggregate.by_time, aggregate.by_item) {
        (Some(width), _) => Some(group_by::GroupBy::TimeWidth(proto_duration(width))),
        (_, Some(key)) => Some(group_by::GroupBy::EventItemKey(key)),
        _ => None,
    };
    let grouped = group_by.is_some();
    let mut request = AggregateEventRecordsRequest {
        namespace: aggregate.namespace,
        time_interval: session.interval(&aggregate.interval)?,
        search_query: parse_query(aggregate.query.as_deref())?,
        aggregation_query: Some(AggregationQuery {
            aggregation: Some(aggregation.clone()),
            group_by: group_by.map(|group_by| GroupBy {
                group_by: Some(group_by),
            }),
        }),
        latency_slo: aggregate.latency_slo.map(proto_duration),
        page_size: 10_000,
        page_token: String::new(),
    };
    let mut client = session.client().await?;
    let mut rows = merge::Rows::new(&aggregation);
    let mut cut = false;
    loop {
        let answer = client
            .events
            .aggregate_event_records(request.clone())
            .await?
            .into_inner();
        explain::context(&answer.response_context, aggregate.explain);
        answer.rows.into_iter().for_each(|row| rows.add(row));
        if answer.next_page_token.is_empty() {
            break;
        }
        if answer.partial && aggregate.one_part {
            cut = true;
            break;
        }
        request.page_token = answer.next_page_token;
    }
    print(session, &aggregation, grouped, rows.finish())?;
    if cut {
        say("the rows cover only the first part of the scan; leave --one-part out to scan all of it");
        return Err(Failure::said(Exit::Partial));
    }
    Ok(())
}

fn aggregation(what: What) -> Result<Aggregation, Failure> {
    let of = [
        what.count
            .map(|event_item_key| Aggregation::Count(CountAggregation { event_item_key })),
        what.distinct
            .map(|event_item_key| Aggregation::Distinct(DistinctAggregation { event_item_key })),
        what.min
            .map(|event_item_key| Aggregation::Min(MinAggregation { event_item_key })),
        what.max
            .map(|event_item_key| Aggregation::Max(MaxAggregation { event_item_key })),
        what.sum
            .map(|event_item_key| Aggregation::Sum(SumAggregation { event_item_key })),
        what.avg
            .map(|event_item_key| Aggregation::Avg(AvgAggregation { event_item_key })),
    ];
    of.into_iter().flatten().next().ok_or_else(|| {
        Failure::usage("say what to compute: --count, --distinct, --min, --max, --sum or --avg")
    })
}

fn name(aggregation: &Aggregation) -> &'static str {
    match aggregation {
        Aggregation::Count(_) => "count",
        Aggregation::Distinct(_) => "distinct",
        Aggregation::Min(_) => "min",
        Aggregation::Max(_) => "max",
        Aggregation::Sum(_) => "sum",
        Aggregation::Avg(_) => "avg",
    }
}

fn print(
    session: &Session,
    aggregation: &Aggregation,
    grouped: bool,
    rows: Vec<AggregateRow>,
) -> Result<(), Failure> {
    let value_name = name(aggregation);
    let counts = value_name == "count";
    let mut columns = Vec::new();
    if grouped {
        columns.push("group");
    }
    columns.push(value_name);
    if !counts {
        columns.push("events");
    }
    let mut sheet = Sheet::new(&columns);
    for row in &rows {
        let mut cells = Vec::new();
        if grouped {
            cells.push(match row.group.as_ref().and_then(|group| group.group.as_ref()) {
                Some(Group::Time(time)) => format_time(time),
                Some(Group::EventItemValue(value)) => shown(value),
                None => String::new(),
            });
        }
        if counts {
            cells.push(row.count.to_string());
        } else {
            cells.push(value(row));
            cells.push(row.count.to_string());
        }
        let json = messages::to_json("anabranch.timeseries.v1.AggregateRow", row, false);
        sheet.row(cells, json);
    }
    print_sheet(session, &sheet)
}

fn value(row: &AggregateRow) -> String {
    match &row.value {
        Some(Value::IntegerValue(value)) => value.to_string(),
        Some(Value::DoubleValue(value)) => value.to_string(),
        Some(Value::KeywordValue(value)) => text_or_base64(value),
        Some(Value::TimestampValue(value)) => format_time(value),
        Some(Value::BooleanValue(value)) => value.to_string(),
        None if row.event_item_value.is_empty() => "-".to_owned(),
        None => text_or_base64(&row.event_item_value),
    }
}
