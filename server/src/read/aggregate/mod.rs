//! Aggregations: one pass over a walk, then its rows in pages.
//!
//! ```text
//! walk ─▶ match ─▶ accumulate ─▶ rows, in group order ─▶ page of rows ─▶ token
//!   └─ cut by the deadline or by too many groups: the rows are of a *part*; the token goes on with
//!      the next part, with fresh accumulators
//! ```
//!
//! A part is everything between two positions of the walk. A finished part is kept for a while, so that
//! its later pages cost nothing; a server that does not have it computes it again between the same two
//! positions and goes on after the last row that was answered.
//!
//! - R1: every event goes into exactly one part, whatever server computes it.

mod accumulate;
mod check;
mod finished;
mod rows;

use std::sync::Arc;

use anabranch_model::Direction;
use anabranch_runtime::Deadline;

use self::accumulate::Accumulator;
use self::check::Computation;
pub(super) use self::finished::FinishedParts;
use self::finished::{Finished, PartKey};
use super::ahead::ReadAhead;
use super::cursor::{Cursor, Cut, PartPage, Position, Reach, RowsCursor};
use super::fan_out::FanOut;
use super::fetch::Fetch;
use super::matches::Matcher;
use super::plan::Route;
use super::reader::{Kind, Reader, fingerprint, page_rows};
use super::request::{AggregatePage, AggregateRequest};
use super::search::Scope;
use super::walk::{Demand, Step, Walk};
use crate::context::{PartialReason, ResponseContext};
use crate::errors::{Reason, ServiceError};
use crate::namespaces::ReadView;

/// An aggregation reads everything, so its store pages are large.
const DEMAND: Demand = Demand {
    events: 8_192,
    bytes: 4 << 20,
};
/// Events between two looks at the clock.
const EVENTS_UNTIMED: usize = 4_096;

/// One aggregation under way.
struct Run<'a> {
    view: &'a ReadView,
    route: Route,
    matcher: Matcher,
    computation: Computation,
    deadline: Deadline,
    fetch: Arc<Fetch>,
}

impl Reader {
    /// A page of an aggregation's rows.
    ///
    /// # Errors
    /// When the aggregation or its query breaks a rule, the query names a blocked id, the token is not of
    /// this walk, or the store fails.
    pub async fn aggregate(
        &self,
        view: &ReadView,
        request: AggregateRequest,
    ) -> Result<AggregatePage, ServiceError> {
        let arrived = self.clock.elapsed();
        let computation = Computation::of(&request.aggregation, &view.settings)?;
        let matcher = match &request.query {
            Some(query) => Matcher::of_query(query, &view.settings)?,
            None => Matcher::All,
        };
        let fingerprint = fingerprint(&(
            Kind::Aggregate,
            &view.name,
            view.incarnation,
            &request.query,
            request.interval,
            &request.aggregation,
        ))?;
        let first = Cursor {
            fingerprint,
            interval: request.interval,
            position: Position::Start,
            records_left: None,
            partition_bytes: Vec::new(),
            rows: None,
        };
        let cursor = self.cursor(&request.paging, first)?;
        let mut run = Run {
            view,
            route: Route {
                interval: cursor.interval,
                direction: Direction::Ascending,
                scope: Scope::of_query(request.query.as_ref(), view)?,
            },
            matcher,
            computation,
            deadline: self.deadline(&request.latency, self.limits.aggregate_slo),
            // All of it is read, by this one call.
            fetch: self.fetch(view, ReadAhead::targets_max),
        };

        let rows_cursor = cursor.rows.clone().unwrap_or_default();
        let key = PartKey::of(&cursor)?;
        let kept = match &rows_cursor.page {
            Some(_) => self.finished.get(&key).await,
            None => None,
        };
        let part = match kept {
            Some(part) => part,
            None => Arc::new(
                self.compute_part(&mut run, &cursor.position, rows_cursor.page.as_ref())
                    .await?,
            ),
        };

        let cut = part.cut.or(rows_cursor.cut);
        let after = rows_cursor.page.as_ref().map(|page| &page.after);
        let page = part.page(after, page_rows(&request.paging));
        let next = match page.more_after {
            Some(after) => {
                let rows = RowsCursor {
                    cut,
                    page: Some(PartPage {
                        part_end: part.end.clone(),
                        after,
                    }),
                };
                let next = Cursor {
                    rows: Some(rows),
                    ..cursor
                };
                self.finished.keep(&PartKey::of(&next)?, &part).await;
                Some(next)
            }
            None => part.end.clone().map(|end| Cursor {
                position: end,
                rows: Some(RowsCursor { cut, page: None }),
                ..cursor
            }),
        };
        let next_page_token = match next {
            Some(next) => self.tokens.encode(&next)?,
            None => String::new(),
        };

        let mut context = ResponseContext::new(view.name.clone());
        context.order = run.route.scope.order();
        context.partial = cut.map(PartialReason::from);
        context.complete_until = part.end.as_ref().and_then(Position::time);
        context.warnings.clone_from(&part.warnings);
        self.finish(&mut context, &run.fetch, arrived);
        if let Some(reason) = context.partial {
            self.metrics.partial(reason);
        }
        Ok(AggregatePage {
            rows: page.rows,
            next_page_token,
            context,
        })
    }

    /// A part; from originals when targets were trouble.
    async fn compute_part(
        &self,
        run: &mut Run<'_>,
        start: &Position,
        page: Option<&PartPage>,
    ) -> Result<Finished, ServiceError> {
        let part = Box::pin(self.compute_once(run, start, page)).await;
        run.fetch.diversion().report().await;
        if part.is_ok() || !run.fetch.diversion().troubled() {
            return part;
        }
        // R3: no row has left the server yet. The deadline stays what it was.
        run.fetch = Arc::new(run.fetch.again());
        Box::pin(self.compute_once(run, start, page)).await
    }

    async fn compute_once(
        &self,
        run: &Run<'_>,
        start: &Position,
        page: Option<&PartPage>,
    ) -> Result<Finished, ServiceError> {
        match page {
            Some(page) => self.compute_again(run, start, page).await,
            None => self.compute(run, start, None).await,
        }
    }

    /// A part whose first rows were answered before, from the same start to the same end.
    async fn compute_again(
        &self,
        run: &Run<'_>,
        start: &Position,
        page: &PartPage,
    ) -> Result<Finished, ServiceError> {
        let part = self.compute(run, start, page.part_end.as_ref()).await?;
        // Rows of a shorter part would not add up with those that were answered already.
        if part.end != page.part_end {
            let message = "the aggregation could not be computed again for its next rows: give it more time, or \
                           start again without page_token";
            return Err(ServiceError::new(Reason::DeadlineExceeded, message));
        }
        Ok(part)
    }

    /// Computes the part that starts at a position: to `end` if there is one, else as far as it gets.
    async fn compute(
        &self,
        run: &Run<'_>,
        start: &Position,
        end: Option<&Position>,
    ) -> Result<Finished, ServiceError> {
        let fan_out = FanOut::new(self.limits.fan_out_start, self.limits.request_partitions_max);
        let route = run.route.clone();
        let mut walk = Walk::new(
            run.view,
            route,
            start.clone(),
            Vec::new(),
            fan_out,
            run.fetch.clone(),
        );
        // A part that is computed again may have got more groups by events that came since.
        let slack = if end.is_some() { 2 } else { 1 };
        let mut groups = Accumulator::new(
            &run.computation,
            self.limits.groups_max * slack,
            self.limits.group_bytes_max * slack,
        );
        let mut taken = 0;
        let cut = loop {
            if let Some(stop) = self.take_what_is_here(run, &mut walk, &mut groups, end, &mut taken) {
                break stop;
            }
            match end.map(|end| walk.reach(end)) {
                Some(Reach::At) => break Stop::AtEnd,
                Some(Reach::Missed) => break Stop::Ended,
                Some(Reach::Before) | None => {}
            }
            let step = if walk.progressed() {
                if run.deadline.passed(&*self.clock) {
                    break Stop::Cut(Cut::Deadline);
                }
                run.deadline.bound(&*self.clock, walk.step(DEMAND)).await
            } else {
                Some(walk.step(DEMAND).await)
            };
            match step.transpose()? {
                Some(Step::Ready | Step::Moved) => {}
                Some(Step::Ended) => break Stop::Ended,
                None => break Stop::Cut(Cut::Deadline),
            }
        };
        let end = match cut {
            Stop::Ended => None,
            Stop::AtEnd => end.cloned(),
            Stop::Cut(_) => Some(walk.position().clone()),
        };
        let cut = match cut {
            Stop::Cut(cut) => Some(cut),
            Stop::AtEnd | Stop::Ended => None,
        };
        self.metrics.fan_out.observe(f64::from(
            u32::try_from(walk.learnt(DEMAND.events).widest()).unwrap_or(u32::MAX),
        ));
        Ok(groups.finish(end, cut))
    }

    fn take_what_is_here(
        &self,
        run: &Run<'_>,
        walk: &mut Walk,
        groups: &mut Accumulator<'_>,
        end: Option<&Position>,
        taken: &mut usize,
    ) -> Option<Stop> {
        while let Some((id, event)) = walk.peek() {
            if end.is_some_and(|end| walk.next_is_after(end)) {
                return Some(Stop::AtEnd);
            }
            if run.matcher.keeps(id, event) && !groups.add(event) {
                return Some(Stop::Cut(Cut::Groups));
            }
            walk.take()?;
            *taken += 1;
            if taken.is_multiple_of(EVENTS_UNTIMED) && run.deadline.passed(&*self.clock) {
                return Some(Stop::Cut(Cut::Deadline));
            }
        }
        walk.settle();
        None
    }
}

/// Why a part ended.
enum Stop {
    /// The walk has nothing more.
    Ended,
    /// It came to the end that it was given.
    AtEnd,
    Cut(Cut),
}

impl From<Cut> for PartialReason {
    fn from(cut: Cut) -> Self {
        match cut {
            Cut::Deadline => Self::Deadline,
            Cut::Groups => Self::Groups,
        }
    }
}
