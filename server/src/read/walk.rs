//! A walk over everything that lies on a route, in order, with its position always known.
//!
//! ```text
//! plan ─▶ open, several cells in flight, in order ─▶ the current cell's merge ─▶ events
//! ```
//!
//! - R1: the position is that of the last event taken, or the end of the last cell that is through, so a
//!   walk that is cut anywhere goes on there without a gap or a repeat.
//!
//! What is ahead of the current cell is opened only while the walk has to wait for it: a store that
//! answers at once is never asked for more than the walk needs.

use std::sync::Arc;

use anabranch_model::{Direction, Event, EventTime, PartitionKey, TimeSeriesId};
use anabranch_split::planted::{Bug, planted};
use anabranch_storage::{ScanRequest, StoreError};
use futures::future::{self, BoxFuture, FutureExt};
use futures::stream::{self, BoxStream, FuturesOrdered, StreamExt};

use super::cursor::{PartitionBytes, Position, Reach};
use super::fan_out::FanOut;
use super::fetch::Fetch;
use super::merge::Merge;
use super::partition_stream::{Ask, PartitionStream};
use super::plan::{Cell, Planned, Route, plan};
use super::search::Scope;
use crate::namespaces::NamespaceView;

/// Most events in one store page.
const ASK_EVENTS_MAX: usize = 10_001;
/// Partitions whose bytes a cursor carries.
const CARRIED_MAX: usize = 64;

/// What the reader still wants of the walk. It sizes the store's pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Demand {
    pub(super) events: usize,
    pub(super) bytes: usize,
}

impl Demand {
    /// What one of several partitions is asked for: its share, with some to spare.
    fn share(self, partitions: usize) -> Ask {
        let partitions = partitions.max(1);
        if partitions == 1 {
            return Ask {
                events_max: self.events.clamp(1, ASK_EVENTS_MAX),
                // Stored rows repeat ids and keys around the content.
                bytes_max: self.bytes + self.bytes / 4 + (64 << 10),
            };
        }
        Ask {
            events_max: (self.events / partitions + self.events / partitions / 4 + 4).min(ASK_EVENTS_MAX),
            bytes_max: self.bytes / partitions + self.bytes / partitions / 4 + (1 << 10),
        }
    }

    /// What is asked of a cell that the walk may never come to.
    fn ahead(self) -> Self {
        Self {
            events: (self.events / 4).max(32),
            bytes: (self.bytes / 4).max(32 << 10),
        }
    }
}

/// What a step of a walk came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There is an event to take.
    Ready,
    /// The position moved, and there is no event yet.
    Moved,
    /// Nothing is left.
    Ended,
}

pub(super) struct Walk {
    fetch: Arc<Fetch>,
    route: Route,
    plan: BoxStream<'static, Result<Planned, StoreError>>,
    planned_all: bool,
    opening: FuturesOrdered<BoxFuture<'static, Result<Opened, StoreError>>>,
    /// Partitions in `opening`.
    in_flight: usize,
    current: Option<OpenCell>,
    start: Position,
    position: Position,
    fan_out: FanOut,
    /// Events that the last step was asked for.
    wanted: usize,
    carried: Arc<[PartitionBytes]>,
}

enum Opened {
    Cell(OpenCell),
    Passed(Position),
}

struct OpenCell {
    merge: Merge,
    partitions: usize,
    bucket_start: EventTime,
    slice_start: EventTime,
    end: Position,
    taken: usize,
    carried: Arc<[PartitionBytes]>,
    fetch: Arc<Fetch>,
}

/// At the end of a page, or when the walk has left its partitions.
impl Drop for OpenCell {
    fn drop(&mut self) {
        for stream in self.merge.streams() {
            let (original, targets) = stream.bytes_read();
            let partition = stream.partition();
            let carried = if original > 0 { self.carried(partition) } else { 0 };
            self.fetch.partition_left(partition, original, carried, targets);
        }
    }
}

impl Walk {
    /// A walk of what a route holds after a position. `carried` are the bytes that earlier pages read of
    /// the partitions that the position lies in.
    pub(super) fn new(
        view: &NamespaceView,
        route: Route,
        after: Position,
        carried: Vec<PartitionBytes>,
        fan_out: FanOut,
        fetch: Arc<Fetch>,
    ) -> Self {
        Self {
            plan: plan(view, &route, &after, fetch.clone()),
            planned_all: false,
            opening: FuturesOrdered::new(),
            in_flight: 0,
            current: None,
            start: after.clone(),
            position: after,
            fan_out,
            wanted: 0,
            carried: carried.into(),
            fetch,
            route,
        }
    }

    /// Everything up to here has been taken, or is known to be nothing.
    pub(super) fn position(&self) -> &Position {
        &self.position
    }

    /// True when the walk has come further than where it started.
    pub(super) fn progressed(&self) -> bool {
        self.position != self.start
    }

    /// The next event, if it is here already.
    pub(super) fn peek(&self) -> Option<(&TimeSeriesId, &Event)> {
        self.current.as_ref()?.merge.peek()
    }

    /// Takes the next event, if it is here already.
    pub(super) fn take(&mut self) -> Option<(TimeSeriesId, Event)> {
        let cell = self.current.as_mut()?;
        let (time_series_id, event) = cell.merge.pop()?;
        cell.taken += 1;
        self.position = match &self.route.scope {
            Scope::Ids(_) => Position::Event {
                key: event.key.clone(),
                time_series_id: time_series_id.clone(),
            },
            Scope::Everything => cell.inside(&event)?,
        };
        Some((time_series_id, event))
    }

    /// How far the walk has come to a position at which it is to stop.
    pub(super) fn reach(&self, end: &Position) -> Reach {
        self.position.reach(end, self.route.direction)
    }

    /// True when the next event is here and lies after a position at which the walk is to stop.
    pub(super) fn next_is_after(&self, end: &Position) -> bool {
        let (Some(cell), Some((id, event))) = (&self.current, self.peek()) else {
            return false;
        };
        let direction = self.route.direction;
        match end {
            Position::Start => true,
            Position::Time(time) => match direction {
                Direction::Ascending => event.key.time >= *time,
                Direction::Descending => event.key.time < *time,
            },
            Position::Event { key, time_series_id } => direction
                .compare(&(&event.key, id), &(key, time_series_id))
                .is_gt(),
            // Taking it would come past the end, in the end's own partition.
            Position::Partition {
                event: Some(end_event),
                ..
            } => cell.inside(event).is_some_and(|next| {
                next.reach(end, direction) == Reach::At && direction.compare(&event.key, end_event).is_gt()
            }),
            Position::Partition { .. } => false,
            Position::Slice { slice_start } => direction.compare(&cell.slice_start, slice_start).is_gt(),
        }
    }

    /// Leaves a cell that is known to hold no more, so that the position is its end.
    pub(super) fn settle(&mut self) {
        if let Some(cell) = &self.current
            && cell.merge.ready()
            && cell.merge.peek().is_none()
        {
            self.fan_out.learn(cell.taken, self.wanted);
            self.position = cell.end.clone();
            self.current = None;
        }
    }

    /// True when the next event can only be known by reading on in a partition that is open.
    pub(super) fn stands_inside(&self) -> bool {
        self.current.as_ref().is_some_and(|cell| !cell.merge.ready())
    }

    /// Fan-out for the next walk of the same kind, after one that was asked for `wanted` events.
    pub(super) fn learnt(&self, wanted: usize) -> FanOut {
        let mut fan_out = self.fan_out;
        if let Some(cell) = &self.current {
            fan_out.learn(cell.taken, wanted);
        }
        fan_out
    }

    /// Moves on until an event can be taken, the position has moved, or the end is known.
    pub(super) async fn step(&mut self, demand: Demand) -> Result<Step, StoreError> {
        self.wanted = demand.events;
        self.fetch.give_way().await;
        loop {
            if let Some(cell) = &mut self.current {
                if !cell.merge.ready() {
                    let ask = demand.share(cell.partitions);
                    cell.merge.refill(&self.fetch, ask, self.fan_out.max()).await?;
                }
                if cell.merge.peek().is_some() {
                    return Ok(Step::Ready);
                }
                self.settle();
                return Ok(Step::Moved);
            }
            match self.next_opened(demand).await? {
                Some(Opened::Cell(cell)) => {
                    self.in_flight = self.in_flight.saturating_sub(cell.partitions);
                    self.current = Some(cell);
                }
                Some(Opened::Passed(position)) => {
                    self.position = position;
                    return Ok(Step::Moved);
                }
                None => return Ok(Step::Ended),
            }
        }
    }

    async fn next_opened(&mut self, demand: Demand) -> Result<Option<Opened>, StoreError> {
        loop {
            let wants_more =
                !self.planned_all && (self.opening.is_empty() || self.in_flight < self.fan_out.now());
            tokio::select! {
                // What is next comes first: only while it is not here, what follows it is looked for.
                biased;
                Some(opened) = self.opening.next(), if !self.opening.is_empty() => {
                    return opened.map(Some);
                }
                planned = self.plan.next(), if wants_more => match planned {
                    Some(planned) => self.open(planned, demand),
                    None => self.planned_all = true,
                },
                else => return Ok(None),
            }
        }
    }

    fn open(&mut self, planned: Result<Planned, StoreError>, demand: Demand) {
        let opening = match planned {
            Ok(Planned::Cell(cell)) => {
                let demand = if self.opening.is_empty() {
                    demand
                } else {
                    demand.ahead()
                };
                self.in_flight += cell.scans.len();
                open_cell(
                    cell,
                    demand,
                    &self.route,
                    self.fan_out.max(),
                    self.carried.clone(),
                    self.fetch.clone(),
                )
                .map(|opened| opened.map(Opened::Cell))
                .boxed()
            }
            Ok(Planned::Passed(position)) => future::ready(Ok(Opened::Passed(position))).boxed(),
            // A failure further on must not spoil what comes before it.
            Err(error) => {
                self.planned_all = true;
                future::ready(Err(error)).boxed()
            }
        };
        self.opening.push_back(opening);
    }

    /// Bytes read of the partitions that the walk stands in, over all its pages.
    pub(super) fn partition_bytes(&self) -> Vec<PartitionBytes> {
        let Some(cell) = &self.current else {
            return Vec::new();
        };
        let streams = cell.merge.streams().iter();
        let mut bytes: Vec<PartitionBytes> = streams
            .map(|stream| {
                let partition = stream.partition();
                PartitionBytes {
                    time_series_id: partition.time_series_id.clone(),
                    bucket_start: cell.bucket_start,
                    event_bucket: partition.event_bucket,
                    // What is read from targets does not make the original wide.
                    bytes: stream.bytes_read().0 + cell.carried(partition),
                }
            })
            .filter(|partition| partition.bytes > 0)
            .collect();
        // The widest are those that matter; a token stays small.
        bytes.sort_by_key(|partition| std::cmp::Reverse(partition.bytes));
        bytes.truncate(CARRIED_MAX);
        bytes
    }
}

impl OpenCell {
    /// Bytes that earlier pages read of a partition.
    fn carried(&self, partition: &PartitionKey) -> u64 {
        let same = |carried: &&PartitionBytes| {
            carried.bucket_start == self.bucket_start
                && carried.event_bucket == partition.event_bucket
                && carried.time_series_id == partition.time_series_id
        };
        let found = self.carried.iter().find(same);
        found
            .filter(|_| !planted(Bug::DetectionBytesForgotten))
            .map_or(0, |carried| carried.bytes)
    }

    /// The position of an event of a cell that is one partition.
    fn inside(&self, event: &Event) -> Option<Position> {
        let partition = self.merge.streams().first()?.partition();
        Some(Position::Partition {
            slice_start: self.slice_start,
            time_series_id: partition.time_series_id.clone(),
            time_bucket: partition.time_bucket,
            event_bucket: partition.event_bucket,
            event: Some(event.key.clone()),
        })
    }
}

fn open_cell(
    cell: Cell,
    demand: Demand,
    route: &Route,
    parallel: usize,
    carried: Arc<[PartitionBytes]>,
    fetch: Arc<Fetch>,
) -> impl Future<Output = Result<OpenCell, StoreError>> + Send + use<> {
    let direction = route.direction;
    async move {
        let partitions = cell.scans.len();
        // Built in a loop and not by a closure: the compiler does not see that one is general enough.
        let mut diverting = Vec::with_capacity(partitions);
        for scan in cell.scans {
            diverting.push(divert(scan, &fetch));
        }
        let streams = stream::iter(diverting).buffered(parallel.max(1)).collect().await;
        let mut open = OpenCell {
            merge: Merge::new(streams, direction),
            partitions,
            bucket_start: cell.bucket_start,
            slice_start: cell.slice_start,
            end: cell.end,
            taken: 0,
            carried,
            fetch: fetch.clone(),
        };
        let ask = demand.share(partitions);
        open.merge.refill(&fetch, ask, parallel).await?;
        Ok(open)
    }
}

async fn divert(scan: ScanRequest, fetch: &Fetch) -> PartitionStream {
    match fetch.diversion().serving(&scan.partition).await {
        Some(serving) => PartitionStream::diverted(&scan, &serving),
        None => PartitionStream::new(scan),
    }
}
