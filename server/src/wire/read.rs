//! Reads and searches, in and out.

use std::time::Duration;

use anabranch_model::Direction;
use anabranch_model::query::EventFilter;
use anabranch_proto::timeseries::v1 as pb;
use anabranch_runtime::Deadline;

use super::events::ReadMask;
use super::{context, fields, query};
use crate::errors::{Reason, ServiceError};
use crate::read::request::{EventPage, Latency, Paging, ReadRequest, SearchRequest};

/// Most filters in one request.
const FILTERS_MAX: usize = 100;

/// A read, and what of its events is returned.
///
/// # Errors
/// Those of its fields.
pub fn read(
    request: pb::ReadEventRecordsRequest,
    deadline: Option<Deadline>,
) -> Result<(ReadRequest, ReadMask), ServiceError> {
    let mask = ReadMask::of(request.read_mask.as_ref())?;
    let direction = direction(request.direction)?;
    let read = ReadRequest {
        namespace: fields::namespace("namespace", &request.namespace)?,
        time_series_id: fields::time_series_id("time_series_id", &request.time_series_id)?,
        interval: fields::interval("time_interval", request.time_interval.as_ref())?,
        filters: filters(request.event_filters)?,
        direction,
        paging: paging(request.page_size, request.page_token, request.total_record_limit)?,
        latency: latency(request.latency_slo.as_ref(), deadline)?,
    };
    Ok((read, mask))
}

/// A search, and what of its events is returned.
///
/// # Errors
/// Those of its fields.
pub fn search(
    request: pb::SearchEventRecordsRequest,
    deadline: Option<Deadline>,
) -> Result<(SearchRequest, ReadMask), ServiceError> {
    let mask = ReadMask::of(request.read_mask.as_ref())?;
    let search = SearchRequest {
        namespace: fields::namespace("namespace", &request.namespace)?,
        interval: fields::interval("time_interval", request.time_interval.as_ref())?,
        query: query::search(request.search_query)?,
        direction: direction(request.direction)?,
        paging: paging(request.page_size, request.page_token, request.total_record_limit)?,
        latency: latency(request.latency_slo.as_ref(), deadline)?,
    };
    Ok((search, mask))
}

/// The answer of a read.
pub fn read_page(page: EventPage, mask: ReadMask) -> pb::ReadEventRecordsResponse {
    pb::ReadEventRecordsResponse {
        records: page
            .records
            .into_iter()
            .map(|record| mask.apply(record))
            .collect(),
        next_page_token: page.next_page_token,
        response_context: vec![context::of_read(page.context)],
    }
}

/// The answer of a search.
pub fn search_page(page: EventPage, mask: ReadMask) -> pb::SearchEventRecordsResponse {
    let page = read_page(page, mask);
    pb::SearchEventRecordsResponse {
        records: page.records,
        next_page_token: page.next_page_token,
        response_context: page.response_context,
    }
}

fn filters(filters: Vec<pb::EventFilter>) -> Result<Vec<EventFilter>, ServiceError> {
    if filters.len() > FILTERS_MAX {
        let problem = format!("has {} filters, at most {FILTERS_MAX} are allowed", filters.len());
        return Err(ServiceError::of_field(
            Reason::InvalidEventFilter,
            "event_filters",
            problem,
        ));
    }
    filters
        .into_iter()
        .enumerate()
        .map(|(index, filter)| {
            let path = format!("event_filters[{index}].match_event_item_key");
            Ok(EventFilter {
                item_key: fields::item_key(Reason::InvalidEventFilter, &path, &filter.match_event_item_key)?,
                item_value: filter.match_event_item_value,
            })
        })
        .collect()
}

fn direction(direction: i32) -> Result<Direction, ServiceError> {
    match pb::Direction::try_from(direction) {
        Ok(pb::Direction::Unspecified | pb::Direction::Descending) => Ok(Direction::Descending),
        Ok(pb::Direction::Ascending) => Ok(Direction::Ascending),
        Err(_) => {
            let problem = format!("{direction} is no direction; use DESCENDING or ASCENDING");
            Err(ServiceError::of_field(
                Reason::InvalidDirection,
                "direction",
                problem,
            ))
        }
    }
}

pub(crate) fn paging(
    page_size: i32,
    page_token: String,
    total_record_limit: i64,
) -> Result<Paging, ServiceError> {
    let negative = |field: &str, value: i64, zero: &str| {
        let problem = format!("is {value}; use 0 for {zero} or a positive number");
        ServiceError::of_field(Reason::InvalidPageSize, field, problem)
    };
    let limit = u64::try_from(total_record_limit)
        .map_err(|_| negative("total_record_limit", total_record_limit, "no limit"))?;
    Ok(Paging {
        page_size: usize::try_from(page_size)
            .map_err(|_| negative("page_size", page_size.into(), "the default"))?,
        page_token,
        total_record_limit: (limit > 0).then_some(limit),
    })
}

pub(super) fn latency(
    slo: Option<&prost_types::Duration>,
    deadline: Option<Deadline>,
) -> Result<Latency, ServiceError> {
    let slo = slo
        .map(|slo| fields::duration(Reason::InvalidLatencySlo, "latency_slo", slo))
        .transpose()?;
    if slo == Some(Duration::ZERO) {
        let problem = "is 0s; use a duration above 0, or leave it out";
        return Err(ServiceError::of_field(
            Reason::InvalidLatencySlo,
            "latency_slo",
            problem,
        ));
    }
    Ok(Latency { slo, deadline })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_model::TimeInterval;

    fn request() -> pb::ReadEventRecordsRequest {
        pb::ReadEventRecordsRequest {
            namespace: "demo".into(),
            time_series_id: "a".into(),
            ..Default::default()
        }
    }

    fn refused(change: impl FnOnce(&mut pb::ReadEventRecordsRequest)) -> (Reason, String) {
        let mut wrong = request();
        change(&mut wrong);
        let error = read(wrong, None).unwrap_err();
        (error.reason, error.fields[0].0.clone())
    }

    #[test]
    fn what_a_read_leaves_out_has_a_default() {
        let (read, mask) = read(request(), None).unwrap();
        assert_eq!(read.interval, TimeInterval::ALL);
        assert_eq!(read.direction, Direction::Descending);
        assert_eq!(read.paging, Paging::default());
        assert_eq!(read.latency, Latency::default());
        assert_eq!(mask, ReadMask::ALL);
    }

    #[test]
    fn every_field_of_a_read_is_kept() {
        let mut full = request();
        full.direction = pb::Direction::Ascending.into();
        full.page_size = 7;
        full.page_token = "t".into();
        full.total_record_limit = 9;
        full.latency_slo = Some(prost_types::Duration { seconds: 1, nanos: 0 });
        full.event_filters = vec![pb::EventFilter {
            match_event_item_key: "k".into(),
            match_event_item_value: Some("v".into()),
        }];
        let (read, _) = read(full, None).unwrap();
        assert_eq!(read.direction, Direction::Ascending);
        assert_eq!(
            (
                read.paging.page_size,
                read.paging.page_token.as_str(),
                read.paging.total_record_limit
            ),
            (7, "t", Some(9))
        );
        assert_eq!(read.latency.slo, Some(Duration::from_secs(1)));
        assert_eq!(read.filters[0].item_key.as_str(), "k");
        assert_eq!(read.filters[0].item_value.as_deref(), Some(&b"v"[..]));
    }

    #[test]
    fn every_field_that_can_be_wrong_is_named() {
        let zero = Some(prost_types::Duration::default());
        let cases = [
            (
                refused(|r| r.namespace.clear()),
                Reason::InvalidNamespaceName,
                "namespace",
            ),
            (
                refused(|r| r.time_series_id.clear()),
                Reason::InvalidTimeSeriesId,
                "time_series_id",
            ),
            (
                refused(|r| r.page_size = -1),
                Reason::InvalidPageSize,
                "page_size",
            ),
            (
                refused(|r| r.total_record_limit = -1),
                Reason::InvalidPageSize,
                "total_record_limit",
            ),
            (
                refused(|r| r.latency_slo = zero),
                Reason::InvalidLatencySlo,
                "latency_slo",
            ),
            (
                refused(|r| r.direction = 9),
                Reason::InvalidDirection,
                "direction",
            ),
            (
                refused(|r| r.event_filters = vec![pb::EventFilter::default()]),
                Reason::InvalidEventFilter,
                "event_filters[0].match_event_item_key",
            ),
            (
                refused(|r| r.event_filters = vec![pb::EventFilter::default(); FILTERS_MAX + 1]),
                Reason::InvalidEventFilter,
                "event_filters",
            ),
        ];
        for (found, reason, field) in cases {
            assert_eq!(found, (reason, field.to_owned()));
        }
    }
}
