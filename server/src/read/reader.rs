//! The read path's front: requests in, pages out.
//!
//! ```text
//! request ─▶ fingerprint ─▶ cursor ─▶ route ─▶ walk ─▶ match ─▶ page ─▶ token
//! ```
//!
//! - R1: pages neither skip nor repeat (`walk`, `page`, `cursor`).

use std::sync::Arc;
use std::time::Duration;

use anabranch_model::{Direction, TimeInterval};
use anabranch_runtime::telemetry::Metrics;
use anabranch_runtime::{Clock, Deadline};
use anabranch_storage::EventStore;
use serde::Serialize;
use tokio::sync::Semaphore;
use xxhash_rust::xxh3::xxh3_128;

use super::aggregate::FinishedParts;
use super::cursor::{Cursor, Position};
use super::fan_out::{FanOut, Hints};
use super::fetch::Fetch;
use super::limits::ReadLimits;
use super::matches::Matcher;
use super::metrics::ReadMetrics;
use super::page::{PageEnd, PageFill, PageLimits, next_cursor};
use super::plan::Route;
use super::request::{
    EventPage, Latency, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, Paging, ReadRequest, SearchRequest,
};
use super::search::{Scope, refuse_blocked};
use super::token::PageTokens;
use super::walk::Walk;
use crate::context::{PartialReason, ResponseContext};
use crate::errors::{Reason, ServiceError};
use crate::namespaces::NamespaceView;

/// Answers reads, searches and aggregations over a store.
#[derive(Debug)]
pub struct Reader {
    pub(super) events: Arc<dyn EventStore>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) tokens: PageTokens,
    pub(super) metrics: Arc<ReadMetrics>,
    pub(super) limits: ReadLimits,
    pub(super) server: Arc<Semaphore>,
    pub(super) hints: Hints,
    pub(super) finished: FinishedParts,
}

impl Reader {
    /// A reader over a store. One a server: its limits are the server's.
    pub fn new(
        events: Arc<dyn EventStore>,
        clock: Arc<dyn Clock>,
        tokens: PageTokens,
        metrics: &Metrics,
        limits: ReadLimits,
    ) -> Self {
        Self {
            events,
            clock,
            tokens,
            metrics: Arc::new(ReadMetrics::register(metrics)),
            server: Arc::new(Semaphore::new(limits.server_partitions_max.max(1))),
            hints: Hints::new(limits.fan_out_start),
            finished: FinishedParts::new(&limits),
            limits,
        }
    }

    /// A page of the events of one id.
    ///
    /// # Errors
    /// When the id is blocked, the token is not of this walk, or the store fails.
    pub async fn read(&self, view: &NamespaceView, request: ReadRequest) -> Result<EventPage, ServiceError> {
        refuse_blocked(&request.time_series_id, view)?;
        let fingerprint = self.read_fingerprint(view, &request)?;
        let asked = Asked {
            fingerprint,
            interval: request.interval,
            direction: request.direction,
            scope: Scope::Ids([request.time_series_id].into()),
            matcher: Matcher::of_filters(request.filters),
            paging: request.paging,
            latency: request.latency,
        };
        self.page(view, asked).await
    }

    pub(super) fn read_fingerprint(
        &self,
        view: &NamespaceView,
        request: &ReadRequest,
    ) -> Result<u128, ServiceError> {
        fingerprint(&(
            Kind::Read,
            &view.name,
            &request.time_series_id,
            request.interval,
            &request.filters,
            request.direction,
        ))
    }

    /// A page of the events that match a query: in event order when the query says which ids it is
    /// about, in partition order otherwise.
    ///
    /// # Errors
    /// When the query breaks a rule or names a blocked id, the token is not of this walk, or the store
    /// fails.
    pub async fn search(
        &self,
        view: &NamespaceView,
        request: SearchRequest,
    ) -> Result<EventPage, ServiceError> {
        let matcher = match &request.query {
            Some(query) => Matcher::of_query(query, &view.settings)?,
            None => Matcher::All,
        };
        let scope = Scope::of_query(request.query.as_ref(), view)?;
        let fingerprint = fingerprint(&(
            Kind::Search,
            &view.name,
            &request.query,
            request.interval,
            request.direction,
        ))?;
        let asked = Asked {
            fingerprint,
            interval: request.interval,
            direction: request.direction,
            scope,
            matcher,
            paging: request.paging,
            latency: request.latency,
        };
        self.page(view, asked).await
    }

    async fn page(&self, view: &NamespaceView, asked: Asked) -> Result<EventPage, ServiceError> {
        let arrived = self.clock.elapsed();
        let deadline = self.deadline(&asked.latency, view.settings.read_slo.max);
        let first = Cursor {
            fingerprint: asked.fingerprint,
            interval: asked.interval,
            position: Position::Start,
            records_left: asked.paging.total_record_limit,
            partition_bytes: Vec::new(),
            rows: None,
        };
        let cursor = self.cursor(&asked.paging, first)?;
        let limits = PageLimits {
            rows: page_rows(&asked.paging),
            records_left: cursor.records_left,
            deadline,
        };
        let route = Route {
            interval: cursor.interval,
            direction: asked.direction,
            scope: asked.scope,
        };
        let order = route.scope.order();
        let hinted = hinted_id(&route.scope);
        let fan_out = FanOut::new(
            self.hints.start(&view.name, &hinted),
            self.limits.request_partitions_max,
        );
        let fetch = self.fetch();
        let carried = cursor.partition_bytes;
        let mut walk = Walk::new(view, route, cursor.position, carried, fan_out, fetch.clone());

        let filled = PageFill::new(&mut walk, &asked.matcher, limits, &self.clock)
            .fill()
            .await;
        let (records, end) = filled?;

        let learnt = walk.learnt(limits.rows);
        self.hints.keep(&view.name, &hinted, learnt);
        self.metrics
            .fan_out
            .observe(f64::from(u32::try_from(learnt.widest()).unwrap_or(u32::MAX)));
        self.metrics.rows.inc_by(records.len() as u64);

        let mut context = ResponseContext::new(view.name.clone());
        context.order = order;
        if end == PageEnd::Deadline {
            self.metrics.partial(PartialReason::Deadline);
            context.partial = Some(PartialReason::Deadline);
            context.complete_until = walk.position().time();
        }
        let next_page_token = if end == PageEnd::End {
            String::new()
        } else {
            let left = cursor.records_left.map(|left| left - records.len() as u64);
            self.tokens
                .encode(&next_cursor(asked.fingerprint, cursor.interval, &walk, left))?
        };
        // The walk's reads are counted when it is let go.
        drop(walk);
        self.finish(&mut context, &fetch, arrived);
        Ok(EventPage {
            records,
            next_page_token,
            context,
        })
    }

    /// The cursor of a request's token; `first` when it has none.
    pub(super) fn cursor(&self, paging: &Paging, first: Cursor) -> Result<Cursor, ServiceError> {
        if paging.page_token.is_empty() {
            return Ok(first);
        }
        self.tokens.decode(&paging.page_token, first.fingerprint)
    }

    /// By when a request is answered: its own wish, or the namespace's, and in time for the client.
    pub(super) fn deadline(&self, latency: &Latency, default_slo: Duration) -> Deadline {
        let slo = latency.slo.unwrap_or(default_slo);
        let budget = match latency.deadline {
            // The answer still has to be encoded and to travel.
            Some(deadline) => slo.min(deadline.left(&*self.clock).mul_f64(0.9)),
            None => slo,
        };
        Deadline::after(&*self.clock, budget)
    }

    pub(super) fn fetch(&self) -> Arc<Fetch> {
        Arc::new(Fetch::new(
            self.events.clone(),
            self.server.clone(),
            self.limits.request_partitions_max,
            self.metrics.clone(),
        ))
    }

    pub(super) fn finish(&self, context: &mut ResponseContext, fetch: &Fetch, arrived: Duration) {
        context.partitions_read = fetch.partitions_read();
        context.bytes_read = fetch.bytes_read();
        context.warnings.extend(fetch.take_warnings());
        context.time_taken = self.clock.elapsed().saturating_sub(arrived);
    }
}

/// What a page is asked for, whichever way it was asked.
struct Asked {
    fingerprint: u128,
    interval: TimeInterval,
    direction: Direction,
    scope: Scope,
    matcher: Matcher,
    paging: Paging,
    latency: Latency,
}

/// Keeps the fingerprints of different calls apart. The numbers are part of the token's format.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) enum Kind {
    Read,
    Search,
    Aggregate,
}

/// Of everything that makes a walk what it is. Page size, latency and mask may change between pages.
pub(super) fn fingerprint(arguments: &impl Serialize) -> Result<u128, ServiceError> {
    let bytes = postcard::to_stdvec(arguments)
        .map_err(|error| ServiceError::new(Reason::PageTokenInvalid, error.to_string()))?;
    Ok(xxh3_128(&bytes))
}

pub(super) fn page_rows(paging: &Paging) -> usize {
    match paging.page_size {
        0 => PAGE_SIZE_DEFAULT,
        rows => rows.min(PAGE_SIZE_MAX),
    }
}

/// What the fan-out hint of a route is kept under: no id is empty.
fn hinted_id(scope: &Scope) -> String {
    match scope {
        Scope::Ids(ids) => ids.first().map(ToString::to_string).unwrap_or_default(),
        Scope::Everything => String::new(),
    }
}
