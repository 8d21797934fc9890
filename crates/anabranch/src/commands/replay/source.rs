//! Pages of the events to be replayed, asked for again while the server does not answer.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anabranch_proto::timeseries::v1::boolean_query::Operator;
use anabranch_proto::timeseries::v1::response_context::Order;
use anabranch_proto::timeseries::v1::search_query::Query;
use anabranch_proto::timeseries::v1::time_series_service_client::TimeSeriesServiceClient;
use anabranch_proto::timeseries::v1::{
    BooleanQuery, Direction, EventRecord, SearchEventRecordsRequest, SearchEventRecordsResponse, SearchQuery,
    TimeInterval, TimeSeriesIdsQuery,
};
use anabranch_runtime::{Clock, Deadline, SystemClock};
use futures::{StreamExt, TryStreamExt};
use prost_types::FieldMask;
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::exit::Failure;
use crate::problem;

/// First wait before a request is sent again; doubled by each further one.
const BACK_OFF: Duration = Duration::from_millis(200);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);
/// Ids whose newest event is asked for at once.
const ASKED_AT_ONCE: usize = 8;

/// Where the events come from.
pub(super) struct Source {
    pub(super) clock: Arc<SystemClock>,
    pub(super) events: TimeSeriesServiceClient<Channel>,
    pub(super) namespace: String,
    pub(super) query: Option<SearchQuery>,
    pub(super) interval: TimeInterval,
    /// How long to try again without an answer.
    pub(super) retry_for: Duration,
}

/// A page of a scan: of whom the events are.
pub(super) struct Ids {
    pub(super) ids: Vec<String>,
    pub(super) next_page_token: String,
}

impl Source {
    /// Whether the query names its ids, so that the server answers in event order.
    pub(super) async fn names_ids(&self) -> Result<bool, Failure> {
        let request = SearchEventRecordsRequest {
            page_size: 1,
            ..self.only_ids(String::new())
        };
        let answer = self.ask(request).await?;
        let orders = answer.response_context.iter().map(|context| context.order());
        Ok(answer.response_context.len() == 1 && orders.eq([Order::Event]))
    }

    /// A page of the ids of all events.
    pub(super) async fn ids(&self, token: String) -> Result<Ids, Failure> {
        let answer = self.ask(self.only_ids(token)).await?;
        Ok(Ids {
            ids: answer
                .records
                .into_iter()
                .map(|record| record.time_series_id)
                .collect(),
            next_page_token: answer.next_page_token,
        })
    }

    /// A page of events in event order, oldest first: of some ids, or of those that the query names.
    pub(super) async fn page(
        &self,
        ids: Option<&[String]>,
        token: String,
    ) -> Result<SearchEventRecordsResponse, Failure> {
        self.ask(SearchEventRecordsRequest {
            search_query: self.query_of(ids),
            direction: Direction::Ascending.into(),
            ..self.request(token)
        })
        .await
    }

    /// The newest event of each of some ids.
    pub(super) async fn newest(&self, ids: &[String]) -> Result<Vec<EventRecord>, Failure> {
        futures::stream::iter(ids)
            .map(|id| self.newest_of(id))
            .buffered(ASKED_AT_ONCE)
            .try_filter_map(|found| async move { Ok(found) })
            .try_collect()
            .await
    }

    async fn newest_of(&self, id: &String) -> Result<Option<EventRecord>, Failure> {
        let mut token = String::new();
        // A page may be empty and not the last.
        loop {
            let answer = self
                .ask(SearchEventRecordsRequest {
                    search_query: self.query_of(Some(std::slice::from_ref(id))),
                    page_size: 1,
                    ..self.request(token)
                })
                .await?;
            let newest = answer.records.into_iter().next();
            if newest.is_some() || answer.next_page_token.is_empty() {
                return Ok(newest);
            }
            token = answer.next_page_token;
        }
    }

    fn request(&self, page_token: String) -> SearchEventRecordsRequest {
        SearchEventRecordsRequest {
            namespace: self.namespace.clone(),
            time_interval: Some(self.interval),
            search_query: self.query.clone(),
            page_token,
            ..SearchEventRecordsRequest::default()
        }
    }

    fn only_ids(&self, token: String) -> SearchEventRecordsRequest {
        SearchEventRecordsRequest {
            read_mask: Some(FieldMask {
                paths: vec!["time_series_id".to_owned()],
            }),
            ..self.request(token)
        }
    }

    /// The query, but only of some ids.
    fn query_of(&self, ids: Option<&[String]>) -> Option<SearchQuery> {
        let Some(ids) = ids else {
            return self.query.clone();
        };
        let ids = SearchQuery {
            query: Some(Query::TimeSeriesIds(TimeSeriesIdsQuery { ids: ids.to_vec() })),
        };
        let all = match &self.query {
            None => return Some(ids),
            // Not one level deeper than it has to be: depth is bounded.
            Some(SearchQuery {
                query: Some(Query::BooleanQuery(boolean)),
            }) if boolean.operator() == Operator::And => [vec![ids], boolean.search_query.clone()].concat(),
            Some(query) => vec![ids, query.clone()],
        };
        Some(SearchQuery {
            query: Some(Query::BooleanQuery(BooleanQuery {
                operator: Operator::And.into(),
                search_query: all,
            })),
        })
    }

    async fn ask(&self, request: SearchEventRecordsRequest) -> Result<SearchEventRecordsResponse, Failure> {
        let ask = || {
            let (mut events, request) = (self.events.clone(), request.clone());
            async move { events.search_event_records(request).await }
        };
        self.until_answered(ask).await
    }

    async fn until_answered<T, F: Future<Output = Result<Response<T>, Status>>>(
        &self,
        ask: impl Fn() -> F,
    ) -> Result<T, Failure> {
        let deadline = Deadline::after(&*self.clock, self.retry_for);
        let mut back_off = BACK_OFF;
        loop {
            match ask().await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => match problem::retry(&status) {
                    Some(delay) if !deadline.passed(&*self.clock) => {
                        self.clock.sleep(delay.unwrap_or(back_off)).await;
                        back_off = (back_off * 2).min(BACK_OFF_MAX);
                    }
                    _ => return Err(status.into()),
                },
            }
        }
    }
}
