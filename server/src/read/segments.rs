//! The runs of one partition's events that lie together: the original, or targets and what follows them.
//!
//! ```text
//! events of the bounds   ├──── before the boundary ────┤─ from the boundary on ─┤
//! ascending              target ─▶ target ─▶ target ──▶ original, its tail only
//! descending             the exact reverse
//! ```
//!
//! - R2: every event is in exactly one segment: targets hold all events before the boundary, the tail none of them.
//! - R3: a target that was read from end to end holds as many rows and bytes as were proved, one that was read to an end
//!   of its own ends with the event that it was proved to end with, and one that seems to hold nothing is looked at
//!   again: or the read is given up. What is missing in the middle of a target that is only read in parts is not seen
//!   here; `COMPARE` sees it.

use std::collections::VecDeque;
use std::ops::Bound;
use std::time::Duration;

use anabranch_model::{Consistency, Direction, Event, EventKey, EventTime, PartitionKey, TimeInterval};
use anabranch_split::planted::{Bug, planted};
use anabranch_split::{Serving, Target};
use anabranch_storage::{
    ErrorKind, EventBounds, ScanEnd, ScanPage, ScanRequest, StoreError, TableKind, TableName,
};

use super::fetch::Fetch;
use super::partition_stream::Ask;
use crate::split::OriginalReason;

/// What a target has to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    /// That is served: it may have kept targets of earlier ones.
    pub(super) generation: u32,
    /// Of the namespace that it was split in.
    incarnation: u64,
    rows: u64,
    bytes: u64,
    /// What the scan meets first and last, where it reaches these ends of the target.
    first: Option<EventKey>,
    last: Option<EventKey>,
}

#[derive(Debug)]
pub(super) struct Segment {
    scan: ScanRequest,
    /// The partition as it was written.
    original: PartitionKey,
    /// Of a target; nothing is known of an original.
    expected: Option<Expected>,
    /// Rows and bytes of rows that were seen.
    seen: (u64, u64),
    /// The last event that was seen.
    last_seen: Option<EventKey>,
    events: Vec<Event>,
    exhausted: bool,
    bytes_read: u64,
}

impl Segment {
    /// The original.
    pub(super) fn original(scan: ScanRequest) -> Self {
        Self {
            original: scan.partition.clone(),
            scan,
            expected: None,
            seen: (0, 0),
            last_seen: None,
            events: Vec::new(),
            exhausted: false,
            bytes_read: 0,
        }
    }

    fn target(scan: &ScanRequest, target: &Target, serving: &Serving) -> Self {
        let EventBounds {
            lower,
            upper,
            interval,
        } = &scan.bounds;
        let bounds = EventBounds {
            lower: match lower {
                Bound::Included(key) | Bound::Excluded(key) if *key >= target.oldest => lower.clone(),
                _ => Bound::Included(target.oldest.clone()),
            },
            upper: match upper {
                Bound::Included(key) | Bound::Excluded(key) if *key <= target.newest => upper.clone(),
                _ => Bound::Included(target.newest.clone()),
            },
            interval: *interval,
        };
        let reached = |key: &EventKey| scan.bounds.contains(key).then(|| key.clone());
        let (oldest, newest) = (reached(&target.oldest), reached(&target.newest));
        let (first, last) = match scan.direction {
            Direction::Ascending => (oldest, newest),
            Direction::Descending => (newest, oldest),
        };
        Self {
            original: scan.partition.clone(),
            expected: Some(Expected {
                generation: serving.generation,
                incarnation: serving.basis.incarnation,
                rows: target.checksum.rows,
                bytes: target.checksum.bytes,
                first,
                last,
            }),
            ..Self::original(ScanRequest {
                table: TableName {
                    kind: TableKind::Wide,
                    ..scan.table.clone()
                },
                partition: target.partition(&scan.partition),
                bounds,
                // What was proved at the store's consistency is read at it: a replica that is behind is not damage.
                consistency: Consistency::default(),
                ..scan.clone()
            })
        }
    }

    pub(super) fn is_original(&self) -> bool {
        self.expected.is_none()
    }

    /// What it takes to read it ahead, if it is a target: the incarnation of its namespace,
    /// the request, and the bytes that it holds.
    pub(super) fn to_read_ahead(&self) -> Option<(u64, &ScanRequest, u64)> {
        let expected = self.expected.as_ref()?;
        Some((expected.incarnation, &self.scan, expected.bytes))
    }

    /// Bytes that the store had to read for it so far.
    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    pub(super) fn is_exhausted(&self) -> bool {
        self.exhausted
    }

    /// Events that were fetched, if any were.
    pub(super) fn take_events(&mut self) -> Option<Vec<Event>> {
        (!self.events.is_empty()).then(|| std::mem::take(&mut self.events))
    }

    /// True when only a fetch can tell what comes next in it.
    pub(super) fn waits(&self) -> bool {
        self.events.is_empty() && !self.exhausted
    }

    /// What is left of an ask when this segment has given all that it can hold; `None` when it may fill it.
    pub(super) fn leaves(&self, ask: Ask) -> Option<Ask> {
        let fetched = self.events.len();
        if self.exhausted {
            return ask.less(fetched, 0);
        }
        let expected = self.expected.as_ref()?;
        let left = |of: u64, seen: u64| usize::try_from(of.saturating_sub(seen)).unwrap_or(usize::MAX);
        let (rows, bytes) = self.seen;
        // An event has at least one row.
        let events = left(expected.rows, rows).saturating_add(fetched);
        ask.less(events, left(expected.bytes, bytes))
    }

    /// Fetches one page. May be dropped while it waits.
    pub(super) async fn fetch(&mut self, fetch: &Fetch, ask: Ask) -> Result<(), StoreError> {
        self.scan.events_max = ask.events_max.max(1);
        self.scan.bytes_max = ask.bytes_max.max(1);
        let page = match &self.expected {
            None => {
                fetch.diversion().note_original();
                fetch.scan(&self.scan).await?
            }
            Some(expected) => {
                fetch.diversion().note_target(expected);
                self.scan_target(fetch, &self.scan).await?
            }
        };
        self.bytes_read += page.bytes_read;
        match page.end {
            ScanEnd::Exhausted => self.exhausted = true,
            ScanEnd::More { after } => self.resume_after(after),
        }
        self.events = page.events;
        match self.check(fetch).await {
            // Planted: what is there is taken for all that there was.
            Err(_) if planted(Bug::FallbackGoesOn) => Ok(()),
            checked => checked,
        }
    }

    /// A page of the target. A table that is gone, or bytes that can not be read, are what is stored; any other error is
    /// one of asking for it.
    async fn scan_target(&self, fetch: &Fetch, scan: &ScanRequest) -> Result<ScanPage, StoreError> {
        let incarnation = self.expected.as_ref().map_or(0, |expected| expected.incarnation);
        let scanned = fetch.scan_target(scan, incarnation).await;
        scanned.inspect_err(|error| {
            let proven = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt);
            let reason = OriginalReason::TargetError;
            fetch.diversion().trouble(&self.original, reason, proven);
        })
    }

    async fn check(&mut self, fetch: &Fetch) -> Result<(), StoreError> {
        self.check_page(fetch)?;
        if self.exhausted && self.last_seen.is_none() && self.expected.is_some() {
            self.check_that_it_holds_anything(fetch).await?;
        }
        Ok(())
    }

    /// The bounds may lie between two events of a target; but then it has others.
    async fn check_that_it_holds_anything(&self, fetch: &Fetch) -> Result<(), StoreError> {
        let any = ScanRequest {
            bounds: EventBounds::of_interval(TimeInterval::ALL),
            events_max: 1,
            bytes_max: 1,
            ..self.scan.clone()
        };
        let page = self.scan_target(fetch, &any).await?;
        if page.events.is_empty() && page.end == ScanEnd::Exhausted {
            return Err(self.short(fetch));
        }
        Ok(())
    }

    /// Whether what was seen of a target can be what was proved.
    fn check_page(&mut self, fetch: &Fetch) -> Result<(), StoreError> {
        let Some(expected) = &self.expected else {
            return Ok(());
        };
        let id = &self.original.time_series_id;
        let begins = self.last_seen.is_none();
        for event in &self.events {
            for item in &event.items {
                self.seen.0 += 1;
                self.seen.1 += anabranch_split::checksum::row_bytes(id, &event.key, item);
            }
        }
        if let Some(event) = self.events.last() {
            self.last_seen = Some(event.key.clone());
        }
        let is = |due: &Option<EventKey>, found: Option<&EventKey>| {
            due.as_ref().is_none_or(|due| found == Some(due))
        };
        let (rows, bytes) = self.seen;
        let more = rows > expected.rows || bytes > expected.bytes;
        let whole = expected.first.is_some() && expected.last.is_some();
        let fewer = whole && self.exhausted && (rows < expected.rows || bytes < expected.bytes);
        let first = self.events.first().map(|event| &event.key);
        let begins_late = begins && first.is_some() && !is(&expected.first, first);
        let ends_early = self.exhausted && !is(&expected.last, self.last_seen.as_ref());
        if more || fewer || begins_late || ends_early {
            return Err(self.short(fetch));
        }
        Ok(())
    }

    fn short(&self, fetch: &Fetch) -> StoreError {
        let reason = OriginalReason::TargetShort;
        fetch.diversion().trouble(&self.original, reason, true);
        let (rows, bytes) = self.seen;
        StoreError::Corrupt {
            what: format!("{} {}", self.scan.table, self.scan.partition),
            reason: format!(
                "a read of it saw {rows} rows of {bytes} bytes, which can not be what was proved"
            ),
        }
    }

    fn resume_after(&mut self, key: EventKey) {
        match self.scan.direction {
            Direction::Ascending => self.scan.bounds.lower = Bound::Excluded(key),
            Direction::Descending => self.scan.bounds.upper = Bound::Excluded(key),
        }
    }
}

/// The segments of a partition that is served from targets, in the order of the scan: those that its bounds touch.
pub(super) fn diverted(scan: &ScanRequest, serving: &Serving) -> VecDeque<Segment> {
    let touched = serving
        .targets
        .iter()
        .filter(|target| touches(&scan.bounds, target));
    let targets = touched.map(|target| Segment::target(scan, target, serving));
    let tail = tail(&scan.bounds, serving.boundary).map(|bounds| {
        Segment::original(ScanRequest {
            bounds,
            ..scan.clone()
        })
    });
    match scan.direction {
        Direction::Ascending if planted(Bug::DivertIgnoresDirection) => targets.rev().chain(tail).collect(),
        Direction::Ascending => targets.chain(tail).collect(),
        Direction::Descending => tail.into_iter().chain(targets.rev()).collect(),
    }
}

fn touches(bounds: &EventBounds, target: &Target) -> bool {
    let above = match &bounds.lower {
        Bound::Unbounded => true,
        Bound::Included(key) => *key <= target.newest,
        Bound::Excluded(key) if planted(Bug::DivertSkipsTarget) => *key < target.oldest,
        Bound::Excluded(key) => *key < target.newest,
    };
    let below = match &bounds.upper {
        Bound::Unbounded => true,
        Bound::Included(key) => *key >= target.oldest,
        Bound::Excluded(key) => *key > target.oldest,
    };
    let TimeInterval { start, end } = bounds.interval;
    above && below && start <= target.newest.time && target.oldest.time < end
}

/// What the bounds hold from the boundary on, if they reach there.
fn tail(bounds: &EventBounds, boundary: EventTime) -> Option<EventBounds> {
    let from = match planted(Bug::TailBoundaryExclusive) {
        true => boundary.saturating_add(Duration::from_micros(1)),
        false => boundary,
    };
    let interval = TimeInterval {
        start: bounds.interval.start.max(from),
        end: bounds.interval.end,
    };
    let reached = match &bounds.upper {
        Bound::Unbounded => true,
        Bound::Included(key) | Bound::Excluded(key) => key.time >= interval.start,
    };
    (reached && !interval.is_empty() && !planted(Bug::DivertDropsTail)).then(|| EventBounds {
        interval,
        ..bounds.clone()
    })
}
