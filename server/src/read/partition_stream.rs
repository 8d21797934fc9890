//! The events of one partition in order, a store page at a time, wherever they are read from.

use std::cmp::Ordering;
use std::collections::VecDeque;

use anabranch_model::{Direction, Event, PartitionKey, TimeSeriesId};
use anabranch_split::Serving;
use anabranch_storage::{ScanRequest, StoreError};
use futures::stream::{self, StreamExt, TryStreamExt};

use super::fetch::Fetch;
use super::segments::{Segment, diverted};

/// How much the next store page should hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) events_max: usize,
    pub(super) bytes_max: usize,
}

impl Ask {
    /// What is left of it after so much; `None` when that may fill it.
    pub(super) fn less(self, events: usize, bytes: usize) -> Option<Self> {
        (events < self.events_max && bytes < self.bytes_max).then(|| Self {
            events_max: self.events_max - events,
            bytes_max: self.bytes_max - bytes,
        })
    }
}

#[derive(Debug)]
pub(super) struct PartitionStream {
    partition: PartitionKey,
    direction: Direction,
    head: Option<Event>,
    rest: std::vec::IntoIter<Event>,
    /// What is not through yet. The events of `head` and `rest` are of the first, or of one that is gone.
    segments: VecDeque<Segment>,
    opened: bool,
    /// Of segments that are through: originals, targets.
    bytes_read: (u64, u64),
}

impl PartitionStream {
    /// A stream over what the bounds of `scan` hold; its limits are set by each fetch.
    pub(super) fn new(scan: ScanRequest) -> Self {
        Self::of(&scan.clone(), [Segment::original(scan)].into())
    }

    /// The same, with what the targets hold read from there.
    pub(super) fn diverted(scan: &ScanRequest, serving: &Serving) -> Self {
        Self::of(scan, diverted(scan, serving))
    }

    fn of(scan: &ScanRequest, segments: VecDeque<Segment>) -> Self {
        Self {
            partition: scan.partition.clone(),
            direction: scan.direction,
            head: None,
            rest: Vec::new().into_iter(),
            segments,
            opened: false,
            bytes_read: (0, 0),
        }
    }

    /// The next event, if it is here already.
    pub(super) fn head(&self) -> Option<&Event> {
        self.head.as_ref()
    }

    /// True when only a fetch can tell what comes next.
    pub(super) fn waits(&self) -> bool {
        self.head.is_none() && !self.segments.is_empty()
    }

    pub(super) fn take(&mut self) -> Option<Event> {
        let taken = self.head.take();
        self.show_next();
        taken
    }

    pub(super) fn time_series_id(&self) -> &TimeSeriesId {
        &self.partition.time_series_id
    }

    /// The partition as it was written.
    pub(super) fn partition(&self) -> &PartitionKey {
        &self.partition
    }

    /// Bytes that the store had to read so far, of the original and of targets.
    pub(super) fn bytes_read(&self) -> (u64, u64) {
        let open = self.segments.iter();
        open.fold(self.bytes_read, add_bytes)
    }

    /// Fetches until an event is here or the partition ends. An empty page that is not the end is legal. Segments
    /// that are known to be needed are fetched at once, `parallel` at a time.
    pub(super) async fn fetch(&mut self, fetch: &Fetch, ask: Ask, parallel: usize) -> Result<(), StoreError> {
        loop {
            self.show_next();
            if !self.waits() {
                return Ok(());
            }
            if !self.opened {
                self.opened = true;
                fetch.partition_opened();
            }
            fetch.read_ahead(self.segments.iter().filter_map(Segment::to_read_ahead));
            // Built in a loop and not by a closure: the compiler does not see that one is general enough.
            let mut fetches = Vec::new();
            let mut left = Some(ask);
            for segment in &mut self.segments {
                let Some(ask) = left.filter(|_| fetches.len() < parallel.max(1)) else {
                    break;
                };
                left = segment.leaves(ask);
                if segment.waits() {
                    fetches.push(segment.fetch(fetch, ask));
                }
            }
            if fetches.len() == 1 {
                if let Some(only) = fetches.pop() {
                    only.await?;
                }
            } else {
                stream::iter(fetches)
                    .buffer_unordered(parallel.max(1))
                    .try_collect::<()>()
                    .await?;
            }
        }
    }

    /// Moves on to the next event as far as it is here.
    fn show_next(&mut self) {
        while self.head.is_none() {
            self.head = self.rest.next();
            if self.head.is_some() {
                return;
            }
            let Some(first) = self.segments.front_mut() else {
                return;
            };
            if let Some(events) = first.take_events() {
                debug_assert!(in_order(&events, self.direction), "R1: a scan yields event order");
                self.rest = events.into_iter();
            } else if first.is_exhausted() {
                self.bytes_read = add_bytes(self.bytes_read, first);
                self.segments.pop_front();
            } else {
                return;
            }
        }
    }
}

fn add_bytes((originals, targets): (u64, u64), segment: &Segment) -> (u64, u64) {
    if segment.is_original() {
        (originals + segment.bytes_read(), targets)
    } else {
        (originals, targets + segment.bytes_read())
    }
}

fn in_order(events: &[Event], direction: Direction) -> bool {
    events
        .windows(2)
        .all(|pair| matches!(pair, [a, b] if direction.compare(&a.key, &b.key) == Ordering::Less))
}
