//! Several partitions as one stream in event order.
//!
//! - R1: nothing is yielded until every open stream has shown its next key. Ties between ids break by
//!   the bytes of the id, in the direction of the walk.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use anabranch_model::{Direction, Event, EventKey, TimeSeriesId};
use anabranch_storage::StoreError;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::fetch::Fetch;
use super::partition_stream::{Ask, PartitionStream};

#[derive(Debug)]
pub(super) struct Merge {
    streams: Vec<PartitionStream>,
    /// Streams that have shown their next key.
    heads: BinaryHeap<Head>,
    /// Streams that have not, by index.
    waiting: Vec<usize>,
    direction: Direction,
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    key: EventKey,
    time_series_id: TimeSeriesId,
    stream: usize,
    direction: Direction,
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        let mine = (&self.key, &self.time_series_id, self.stream);
        let theirs = (&other.key, &other.time_series_id, other.stream);
        // The heap's top is its greatest; the walk's next must be there.
        self.direction.compare(&theirs, &mine)
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Merge {
    pub(super) fn new(streams: Vec<PartitionStream>, direction: Direction) -> Self {
        let waiting = (0..streams.len()).collect();
        Self {
            streams,
            heads: BinaryHeap::new(),
            waiting,
            direction,
        }
    }

    pub(super) fn streams(&self) -> &[PartitionStream] {
        &self.streams
    }

    /// True when the next event, or the end, is known without a fetch.
    pub(super) fn ready(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The next event and the id that it belongs to; `None` when a fetch is needed first, or at the end.
    pub(super) fn peek(&self) -> Option<(&TimeSeriesId, &Event)> {
        if !self.ready() {
            return None;
        }
        // One stream needs no heap: its order is the order.
        let stream = match self.streams.as_slice() {
            [only] => only,
            several => several.get(self.heads.peek()?.stream)?,
        };
        Some((stream.time_series_id(), stream.head()?))
    }

    pub(super) fn pop(&mut self) -> Option<(TimeSeriesId, Event)> {
        if !self.ready() {
            return None;
        }
        if let [only] = self.streams.as_mut_slice() {
            let event = only.take()?;
            if only.waits() {
                self.waiting.push(0);
            }
            return Some((only.time_series_id().clone(), event));
        }
        let head = self.heads.pop()?;
        let stream = self.streams.get_mut(head.stream)?;
        let event = stream.take()?;
        self.note(head.stream);
        Some((head.time_series_id, event))
    }

    /// Fetches for every stream that has not shown its next key, `parallel` at a time.
    pub(super) async fn refill(
        &mut self,
        fetch: &Fetch,
        ask: Ask,
        parallel: usize,
    ) -> Result<(), StoreError> {
        if let [only] = self.streams.as_mut_slice() {
            only.fetch(fetch, ask, parallel).await?;
        } else {
            // Built in a loop and not by a closure: the compiler does not see that one is general enough.
            let mut fetches = Vec::with_capacity(self.waiting.len());
            for stream in self.streams.iter_mut().filter(|stream| stream.waits()) {
                fetches.push(stream.fetch(fetch, ask, 1));
            }
            stream::iter(fetches)
                .buffer_unordered(parallel.max(1))
                .try_collect::<()>()
                .await?;
        }
        for index in std::mem::take(&mut self.waiting) {
            self.note(index);
        }
        Ok(())
    }

    fn note(&mut self, index: usize) {
        let Some(stream) = self.streams.get(index) else {
            return;
        };
        if let Some(event) = stream.head() {
            if self.streams.len() > 1 {
                self.heads.push(Head {
                    key: event.key.clone(),
                    time_series_id: stream.time_series_id().clone(),
                    stream: index,
                    direction: self.direction,
                });
            }
        } else if stream.waits() {
            self.waiting.push(index);
        }
    }
}

#[cfg(test)]
mod tests;
