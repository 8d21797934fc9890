//! `read`: the events of one time series, page by page.

use anabranch_proto::timeseries::v1::{Direction, EventFilter, ReadEventRecordsRequest};

use super::Session;
use super::pages::{self, Page};
use crate::cli::Read;
use crate::exit::Failure;
use crate::units::proto_duration;

pub(super) async fn run(session: &Session, read: Read) -> Result<(), Failure> {
    let interval = session.interval(&read.interval)?;
    let client = session.client().await?;
    let request = ReadEventRecordsRequest {
        namespace: read.namespace,
        time_series_id: read.id,
        time_interval: interval,
        event_filters: read.filter.iter().map(|text| filter(text)).collect(),
        direction: direction(read.paging.ascending).into(),
        read_mask: None,
        latency_slo: read.paging.latency_slo.map(proto_duration),
        page_size: read.paging.page_size,
        page_token: String::new(),
        total_record_limit: read.paging.limit,
    };
    pages::print(session, &read.paging, interval.as_ref(), false, |page_token| {
        let mut events = client.events.clone();
        let request = ReadEventRecordsRequest {
            page_token,
            ..request.clone()
        };
        async move {
            let answer = events.read_event_records(request).await?.into_inner();
            Ok(Page {
                records: answer.records,
                next_page_token: answer.next_page_token,
                context: answer.response_context,
            })
        }
    })
    .await
}

/// Newest first, or oldest first.
pub(super) fn direction(ascending: bool) -> Direction {
    if ascending {
        Direction::Ascending
    } else {
        Direction::Descending
    }
}

/// `KEY`, or `KEY=VALUE`.
fn filter(text: &str) -> EventFilter {
    match text.split_once('=') {
        Some((key, value)) => EventFilter {
            match_event_item_key: key.to_owned(),
            match_event_item_value: Some(value.as_bytes().to_vec().into()),
        },
        None => EventFilter {
            match_event_item_key: text.to_owned(),
            match_event_item_value: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_asks_for_a_key_or_for_its_value() {
        assert_eq!(filter("kind").match_event_item_value, None);
        let value = filter("kind=a=b");
        assert_eq!(value.match_event_item_key, "kind");
        assert_eq!(value.match_event_item_value.unwrap(), "a=b");
    }
}
