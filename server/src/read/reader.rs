//! The read path's front: requests in, pages out.
//!
//! ```text
//! request ─▶ fingerprint ─▶ cursor ─▶ route ─▶ walk ─▶ match ─▶ page ─▶ token
//! ```
//!
//! - R2, R3: a page for which targets were trouble is read again from its cursor, from originals.
//! - R1: pages neither skip nor repeat (`walk`, `page`, `cursor`).

use std::sync::Arc;
use std::time::Duration;

use anabranch_model::namespace::Rollout;
use anabranch_model::{Direction, EventRecord, TimeInterval};
use anabranch_runtime::telemetry::Metrics;
use anabranch_runtime::{Clock, Deadline, Foreground, Tasks};
use anabranch_storage::{EventStore, StoreError};
use serde::Serialize;
use tokio::sync::Semaphore;
use xxhash_rust::xxh3::xxh3_128;

use super::aggregate::FinishedParts;
use super::ahead::ReadAhead;
use super::cursor::{Cursor, Position};
use super::diversion::Diversion;
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
use super::shadow::Shadow;
use super::token::PageTokens;
use super::walk::Walk;
use crate::context::{PartialReason, ResponseContext};
use crate::detect::Detector;
use crate::errors::{Reason, ServiceError};
use crate::namespaces::ReadView;
use crate::split::{Splits, Way};

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
    pub(super) healing: Option<Healing>,
    ahead: Option<Arc<ReadAhead>>,
}

/// What reads of wide partitions go through.
#[derive(Clone, Debug)]
pub struct Healing {
    /// Told of partitions that are wide.
    pub detector: Detector,
    /// Asked where to read.
    pub splits: Splits,
    /// Told how long reads take, for work that gives way to them.
    pub foreground: Arc<Foreground>,
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
            healing: None,
            ahead: None,
        }
    }

    /// The same, which notices wide partitions and reads split ones from their targets.
    #[must_use]
    pub fn healing(mut self, healing: Healing) -> Self {
        self.healing = Some(healing);
        self
    }

    /// The same, which reads ahead of walks as far as its limits say, by tasks of this owner.
    #[must_use]
    pub fn reading_ahead(mut self, tasks: &Tasks) -> Self {
        let (events, server, clock) = (self.events.clone(), self.server.clone(), self.clock.clone());
        let metrics = self.metrics.clone();
        let ahead = |limits| {
            Arc::new(ReadAhead::new(
                events,
                server,
                clock,
                tasks.clone(),
                limits,
                metrics,
            ))
        };
        self.ahead = self.limits.ahead.map(ahead);
        self
    }

    /// A page of the events of one id.
    ///
    /// # Errors
    /// When the id is blocked, the token is not of this walk, or the store fails.
    pub async fn read(&self, view: &ReadView, request: ReadRequest) -> Result<EventPage, ServiceError> {
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
        view: &ReadView,
        request: &ReadRequest,
    ) -> Result<u128, ServiceError> {
        fingerprint(&(
            Kind::Read,
            &view.name,
            view.incarnation,
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
    pub async fn search(&self, view: &ReadView, request: SearchRequest) -> Result<EventPage, ServiceError> {
        let matcher = match &request.query {
            Some(query) => Matcher::of_query(query, &view.settings)?,
            None => Matcher::All,
        };
        let scope = Scope::of_query(request.query.as_ref(), view)?;
        let fingerprint = fingerprint(&(
            Kind::Search,
            &view.name,
            view.incarnation,
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

    async fn page(&self, view: &ReadView, asked: Asked) -> Result<EventPage, ServiceError> {
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
        let goes_on = !asked.paging.page_token.is_empty();
        let mut fetch = self.fetch(view, |ahead| match hinted_id(&route.scope) {
            id if id.is_empty() => 0,
            id => ahead.note(&view.name, &id, goes_on),
        });
        let began = self.clock.elapsed();
        let mut filled = Box::pin(self.fill(&route, &asked.matcher, &cursor, limits, &fetch)).await;
        // Of partitions ahead, too, which the page did not come to.
        fetch.diversion().report().await;
        if filled.is_err() && fetch.diversion().troubled() {
            // R3: nothing has left the server yet. The deadline stays what it was.
            fetch = Arc::new(fetch.again());
            filled = Box::pin(self.fill(&route, &asked.matcher, &cursor, limits, &fetch)).await;
        }
        let filled = filled?;
        let took = self.clock.elapsed().saturating_sub(began);
        self.metrics.rows.inc_by(filled.records.len() as u64);

        let mut context = ResponseContext::new(view.name.clone());
        context.order = order;
        if filled.end == PageEnd::Deadline {
            self.metrics.partial(PartialReason::Deadline);
            context.partial = Some(PartialReason::Deadline);
            context.complete_until = filled.next.position.time();
        }
        let next_page_token = if filled.end == PageEnd::End {
            String::new()
        } else {
            self.tokens.encode(&filled.next)?
        };
        self.finish(&mut context, &fetch, arrived);
        self.compare(view, &fetch, || Compare {
            route,
            matcher: asked.matcher,
            start: cursor.position,
            end: filled.next.position,
            records: filled.records.clone(),
            took,
        });
        Ok(EventPage {
            records: filled.records,
            next_page_token,
            context,
        })
    }

    /// Fills a page from where a cursor stands.
    async fn fill(
        &self,
        route: &Route,
        matcher: &Matcher,
        cursor: &Cursor,
        limits: PageLimits,
        fetch: &Arc<Fetch>,
    ) -> Result<Filled, StoreError> {
        let view = fetch.diversion().view();
        let hinted = hinted_id(&route.scope);
        let mut walk = Walk::new(
            view,
            route.clone(),
            cursor.position.clone(),
            cursor.partition_bytes.clone(),
            self.fan_out(view, &hinted),
            fetch.clone(),
        );
        let (records, end) = PageFill::new(&mut walk, matcher, limits, &self.clock)
            .fill()
            .await?;
        let learnt = walk.learnt(limits.rows);
        self.hints.keep(&view.name, &hinted, learnt);
        self.metrics
            .fan_out
            .observe(f64::from(u32::try_from(learnt.widest()).unwrap_or(u32::MAX)));
        let left = cursor.records_left.map(|left| left - records.len() as u64);
        // The walk's reads are counted when it is let go, at the end of this.
        Ok(Filled {
            next: next_cursor(cursor.fingerprint, cursor.interval, &walk, left),
            records,
            end,
        })
    }

    /// Reads a share of the pages once more, through targets, when the rollout says so.
    fn compare(&self, view: &ReadView, fetch: &Fetch, page: impl FnOnce() -> Compare) {
        let wide = &view.settings.wide_partition;
        let Some(Healing { splits, .. }) = &self.healing else {
            return;
        };
        let sampled = wide.rollout == Rollout::Compare
            && fetch.diversion().could_divert()
            && splits.comparisons().sampled(wide.compare_ratio);
        if !sampled {
            return;
        }
        let page = page();
        if page.end == page.start {
            return;
        }
        let shadow = Shadow {
            fan_out: self.fan_out(view, &hinted_id(&page.route.scope)),
            route: page.route,
            matcher: page.matcher,
            start: page.start,
            end: page.end,
            records: page.records,
            original_took: page.took,
            fetch: self.shadow_fetch(view),
            clock: self.clock.clone(),
            events_max: splits.comparisons().settings().events_max,
        };
        splits.comparisons().start(shadow.compare());
    }

    fn fan_out(&self, view: &ReadView, hinted: &str) -> FanOut {
        FanOut::new(
            self.hints.start(&view.name, hinted),
            self.limits.request_partitions_max,
        )
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

    /// One request's way to the store, with as many targets read ahead as `ahead` says.
    pub(super) fn fetch(&self, view: &ReadView, ahead: impl FnOnce(&ReadAhead) -> usize) -> Arc<Fetch> {
        let way = self
            .healing
            .as_ref()
            .map_or(Way::Rollout, |healing| healing.splits.way());
        let detector = self.healing.as_ref().map(|healing| healing.detector.clone());
        let fetch = self.fetch_of(view, way, detector);
        Arc::new(match &self.ahead {
            None => fetch,
            Some(of_server) => fetch.reading_ahead(of_server.clone(), ahead(of_server)),
        })
    }

    /// The second read of a comparison tells nobody what it read: the first has told.
    fn shadow_fetch(&self, view: &ReadView) -> Arc<Fetch> {
        Arc::new(self.fetch_of(view, Way::Targets, None))
    }

    fn fetch_of(&self, view: &ReadView, way: Way, detector: Option<Detector>) -> Fetch {
        let splits = self.healing.as_ref().map(|healing| healing.splits.clone());
        Fetch::new(
            self.events.clone(),
            self.server.clone(),
            self.limits.request_partitions_max,
            self.metrics.clone(),
            Diversion::new(view.clone(), splits, way),
            detector,
        )
    }

    pub(super) fn finish(&self, context: &mut ResponseContext, fetch: &Fetch, arrived: Duration) {
        context.partitions_read = fetch.partitions_read();
        context.bytes_read = fetch.bytes_read();
        fetch.diversion().describe(context);
        if !fetch.diversion().view().was_fresh_at(arrived) {
            let warning = "settings are old and could not be read again: events of time slices that were made since \
                           may be missing";
            context.warnings.push(warning.to_owned());
        }
        context.warnings.extend(fetch.take_warnings());
        context.time_taken = self.clock.elapsed().saturating_sub(arrived);
        if let Some(healing) = &self.healing {
            healing.foreground.observe(context.time_taken);
        }
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

/// A page as it came out of the walk.
struct Filled {
    records: Vec<EventRecord>,
    end: PageEnd,
    /// Where the next page goes on.
    next: Cursor,
}

/// A page that may be read once more.
struct Compare {
    route: Route,
    matcher: Matcher,
    start: Position,
    end: Position,
    records: Vec<EventRecord>,
    took: Duration,
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
