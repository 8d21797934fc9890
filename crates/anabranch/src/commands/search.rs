//! `search`: events by what is in them.

use anabranch_proto::timeseries::v1::{SearchEventRecordsRequest, SearchQuery};

use super::pages::{self, Page};
use super::read::direction;
use super::{Session, say};
use crate::cli::Search;
use crate::exit::Failure;
use crate::query;
use crate::units::proto_duration;

pub(super) async fn run(session: &Session, search: Search) -> Result<(), Failure> {
    let interval = session.interval(&search.interval)?;
    let search_query = parse_query(search.query.as_deref())?;
    if let Some(understood) = search_query
        .as_ref()
        .filter(|_| search.paging.explain)
        .and_then(query::print)
    {
        say(format!("explain: the query is {understood}"));
    }
    let client = session.client().await?;
    let request = SearchEventRecordsRequest {
        namespace: search.namespace,
        time_interval: interval,
        search_query,
        direction: direction(search.paging.ascending).into(),
        read_mask: None,
        latency_slo: search.paging.latency_slo.map(proto_duration),
        page_size: search.paging.page_size,
        page_token: String::new(),
        total_record_limit: search.paging.limit,
    };
    pages::print(session, &search.paging, interval.as_ref(), true, |page_token| {
        let mut events = client.events.clone();
        let request = SearchEventRecordsRequest {
            page_token,
            ..request.clone()
        };
        async move {
            let answer = events.search_event_records(request).await?.into_inner();
            Ok(Page {
                records: answer.records,
                next_page_token: answer.next_page_token,
                context: answer.response_context,
            })
        }
    })
    .await
}

/// The query of a command line; nothing finds every event.
pub(super) fn parse_query(text: Option<&str>) -> Result<Option<SearchQuery>, Failure> {
    text.map(query::parse)
        .transpose()
        .map_err(|error| Failure::usage(format_args!("--query: {error}")))
}
