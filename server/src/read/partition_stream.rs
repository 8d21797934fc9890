//! The events of one partition in order, a store page at a time.

use std::cmp::Ordering;

use anabranch_model::{Direction, Event, EventKey, TimeSeriesId};
use anabranch_storage::{ScanEnd, ScanRequest, StoreError};

use super::fetch::Fetch;

/// How much the next store page should hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) events_max: usize,
    pub(super) bytes_max: usize,
}

#[derive(Debug)]
pub(super) struct PartitionStream {
    scan: ScanRequest,
    head: Option<Event>,
    rest: std::vec::IntoIter<Event>,
    exhausted: bool,
    opened: bool,
    bytes_read: u64,
}

impl PartitionStream {
    /// A stream over what the bounds of `scan` hold; its limits are set by each fetch.
    pub(super) fn new(scan: ScanRequest) -> Self {
        Self {
            scan,
            head: None,
            rest: Vec::new().into_iter(),
            exhausted: false,
            opened: false,
            bytes_read: 0,
        }
    }

    /// The next event, if it is here already.
    pub(super) fn head(&self) -> Option<&Event> {
        self.head.as_ref()
    }

    /// True when only a fetch can tell what comes next.
    pub(super) fn waits(&self) -> bool {
        self.head.is_none() && !self.exhausted
    }

    pub(super) fn take(&mut self) -> Option<Event> {
        std::mem::replace(&mut self.head, self.rest.next())
    }

    pub(super) fn time_series_id(&self) -> &TimeSeriesId {
        &self.scan.partition.time_series_id
    }

    pub(super) fn scan(&self) -> &ScanRequest {
        &self.scan
    }

    /// Bytes that the store had to read for this stream so far.
    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Fetches until an event is here or the partition ends. An empty page that is not the end is legal.
    pub(super) async fn fetch(&mut self, fetch: &Fetch, ask: Ask) -> Result<(), StoreError> {
        while self.waits() {
            if !self.opened {
                self.opened = true;
                fetch.partition_opened();
            }
            self.scan.events_max = ask.events_max.max(1);
            self.scan.bytes_max = ask.bytes_max.max(1);
            let page = fetch.scan(&self.scan).await?;
            debug_assert!(
                in_order(&page.events, self.scan.direction),
                "R1: a scan yields event order"
            );
            self.bytes_read += page.bytes_read;
            match page.end {
                ScanEnd::Exhausted => self.exhausted = true,
                ScanEnd::More { after } => self.resume_after(after),
            }
            self.rest = page.events.into_iter();
            self.head = self.rest.next();
        }
        Ok(())
    }

    fn resume_after(&mut self, key: EventKey) {
        let direction = self.scan.direction;
        match direction {
            Direction::Ascending => self.scan.bounds.lower = std::ops::Bound::Excluded(key),
            Direction::Descending => self.scan.bounds.upper = std::ops::Bound::Excluded(key),
        }
    }
}

fn in_order(events: &[Event], direction: Direction) -> bool {
    events
        .windows(2)
        .all(|pair| matches!(pair, [a, b] if direction.compare(&a.key, &b.key) == Ordering::Less))
}
