//! A page of events: where it ends, and what it hands on to the next.
//!
//! - R1: pages neither skip nor repeat. An event that does not fit any more is left for the next page;
//!   an event that was looked at and not kept is behind the cursor.
//! - A page is never silently short: it ends full, or says `partial`, or is the last.
//! - Every request gets on: the deadline cuts only a walk that has moved.

use std::sync::Arc;

use anabranch_model::{EventRecord, TimeInterval};
use anabranch_runtime::{Clock, Deadline};
use anabranch_storage::StoreError;

use super::cursor::Cursor;
use super::matches::Matcher;
use super::request::PAGE_BYTES;
use super::walk::{Demand, Step, Walk};

/// Events between two looks at the clock. What the store has given is looked at whole, if it is not more:
/// giving it up would make the next page read it again.
const EVENTS_UNTIMED: usize = 4_096;
/// Steps that a full page goes on to see whether it is the last.
const LOOK_AHEAD_STEPS: usize = 4;
/// Fewest events that a filter is fed with at once.
const FILTERED_EVENTS_MIN: usize = 256;
const FILTERED_EVENTS_MAX: usize = 8_192;

/// What a page may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageLimits {
    pub(super) rows: usize,
    /// Records left of the whole walk.
    pub(super) records_left: Option<u64>,
    pub(super) deadline: Deadline,
}

impl PageLimits {
    fn rows_max(&self) -> usize {
        let left = self
            .records_left
            .map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        self.rows.min(left)
    }
}

/// Why a page ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageEnd {
    Full,
    Deadline,
    /// Of the walk, or of the record limit.
    End,
}

/// Fills a page from a walk.
pub(super) struct PageFill<'a> {
    pub(super) walk: &'a mut Walk,
    pub(super) matcher: &'a Matcher,
    pub(super) limits: PageLimits,
    pub(super) clock: &'a Arc<dyn Clock>,
    records: Vec<EventRecord>,
    bytes: usize,
    examined: usize,
}

impl<'a> PageFill<'a> {
    pub(super) fn new(
        walk: &'a mut Walk,
        matcher: &'a Matcher,
        limits: PageLimits,
        clock: &'a Arc<dyn Clock>,
    ) -> Self {
        Self {
            walk,
            matcher,
            limits,
            clock,
            records: Vec::new(),
            bytes: 0,
            examined: 0,
        }
    }

    pub(super) async fn fill(mut self) -> Result<(Vec<EventRecord>, PageEnd), StoreError> {
        let mut look_ahead = LOOK_AHEAD_STEPS;
        let end = loop {
            if let Some(end) = self.take_what_is_here() {
                break end;
            }
            if self.rows_left() == 0 {
                if self.limit_reached() {
                    break PageEnd::End;
                }
                // Looking whether this was the last is worth a step into the next partition, not a read in
                // one that has more.
                if look_ahead == 0 || self.walk.stands_inside() {
                    break PageEnd::Full;
                }
                look_ahead -= 1;
            }
            match self.step().await? {
                Some(Step::Ready | Step::Moved) => {}
                Some(Step::Ended) => break PageEnd::End,
                None if self.rows_left() == 0 => break PageEnd::Full,
                None => break PageEnd::Deadline,
            }
        };
        Ok((self.records, end))
    }

    fn take_what_is_here(&mut self) -> Option<PageEnd> {
        while let Some((id, event)) = self.walk.peek() {
            let keeps = self.matcher.keeps(id, event);
            if keeps {
                if self.limit_reached() {
                    return Some(PageEnd::End);
                }
                let bytes = self.bytes + event.content_bytes();
                let fits = self.records.is_empty() || bytes <= PAGE_BYTES;
                if self.rows_left() == 0 || !fits {
                    return Some(PageEnd::Full);
                }
                self.bytes = bytes;
            }
            let (time_series_id, event) = self.walk.take()?;
            self.examined += 1;
            if keeps {
                self.records.push(EventRecord {
                    time_series_id,
                    event,
                });
            }
            if self.examined.is_multiple_of(EVENTS_UNTIMED) && self.limits.deadline.passed(&**self.clock) {
                return Some(if self.limit_reached() {
                    PageEnd::End
                } else if self.rows_left() == 0 {
                    PageEnd::Full
                } else {
                    PageEnd::Deadline
                });
            }
        }
        self.walk.settle();
        None
    }

    /// One step of the walk; `None` when the deadline came first.
    async fn step(&mut self) -> Result<Option<Step>, StoreError> {
        let demand = self.demand();
        if !self.walk.progressed() {
            return self.walk.step(demand).await.map(Some);
        }
        if self.limits.deadline.passed(&**self.clock) {
            return Ok(None);
        }
        let step = self.walk.step(demand);
        self.limits.deadline.bound(&**self.clock, step).await.transpose()
    }

    fn demand(&self) -> Demand {
        // One more than fits tells whether there is more.
        let events = self.rows_left().saturating_add(1);
        let bytes = PAGE_BYTES.saturating_sub(self.bytes);
        if self.matcher.keeps_all() {
            return Demand { events, bytes };
        }
        let kept = self.records.len() + 1;
        let events = events.saturating_mul(self.examined + kept) / kept;
        Demand {
            events: events.clamp(FILTERED_EVENTS_MIN, FILTERED_EVENTS_MAX),
            bytes: 2 * PAGE_BYTES,
        }
    }

    fn rows_left(&self) -> usize {
        self.limits.rows_max().saturating_sub(self.records.len())
    }

    fn limit_reached(&self) -> bool {
        self.limits
            .records_left
            .is_some_and(|left| self.records.len() as u64 >= left)
    }
}

/// The cursor that goes on where a page ended.
pub(super) fn next_cursor(
    fingerprint: u128,
    interval: TimeInterval,
    walk: &Walk,
    records_left: Option<u64>,
) -> Cursor {
    Cursor {
        fingerprint,
        interval,
        position: walk.position().clone(),
        records_left,
        partition_bytes: walk.partition_bytes(),
        rows: None,
    }
}
