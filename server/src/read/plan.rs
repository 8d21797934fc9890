//! Which partitions a walk reads, in order, found as it goes.
//!
//! ```text
//! EVENT      slices ─▶ next bucket of any id ─▶ cell: every event bucket of every id that has it
//! PARTITION  slices ─▶ the store's partitions ─▶ cell: one partition
//! ```
//!
//! A *cell* is what is merged at once: in event order no event outside it can come between its events.
//! Buckets are asked for one at a time, so a slice without data for an id costs one call, and a long
//! interval of short buckets is never listed.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use anabranch_model::{
    Consistency, Direction, EventKey, EventTime, PartitionKey, TimeInterval, TimeSeriesId, TimeSlice,
};
use anabranch_storage::{EventBounds, ScanRequest, StoreError, TableKind, TableName};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use super::cursor::Position;
use super::fetch::Fetch;
use super::search::Scope;
use crate::namespaces::NamespaceView;

/// Partitions listed from the store at once.
const PARTITIONS_LISTED: usize = 256;
/// Ids whose next bucket is asked for at once.
const IDS_ASKED: usize = 16;

/// One step of a plan.
#[derive(Debug)]
pub(super) enum Planned {
    /// Partitions to merge.
    Cell(Cell),
    /// Nothing lies on the way up to here.
    Passed(Position),
}

#[derive(Debug)]
pub(super) struct Cell {
    /// One scan a partition; limits are set when it is made.
    pub(super) scans: Vec<ScanRequest>,
    /// Start of the time bucket.
    pub(super) bucket_start: EventTime,
    /// Where the walk stands when the cell is through.
    pub(super) end: Position,
    /// Start of the slice.
    pub(super) slice_start: EventTime,
}

/// What a walk goes over.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) interval: TimeInterval,
    pub(super) direction: Direction,
    pub(super) scope: Scope,
}

#[derive(Debug)]
struct Slice {
    slice: TimeSlice,
    table: TableName,
    consistency: Consistency,
}

/// Plans the part of a route that comes after a position.
pub(super) fn plan(
    view: &NamespaceView,
    route: &Route,
    after: &Position,
    fetch: Arc<Fetch>,
) -> BoxStream<'static, Result<Planned, StoreError>> {
    let direction = route.direction;
    let interval = after.rest_of(route.interval, direction);
    let slices: VecDeque<Arc<Slice>> = view
        .slices_of(&interval, direction)
        .into_iter()
        .filter(|slice| !passed(slice, after, direction))
        .map(|slice| {
            Arc::new(Slice {
                slice: slice.clone(),
                table: TableName {
                    namespace: view.name.clone(),
                    kind: TableKind::Data,
                    slice: slice.name.clone(),
                },
                consistency: view.settings.scan_consistency(),
            })
        })
        .collect();
    match &route.scope {
        Scope::Ids(ids) => {
            let after = match after {
                Position::Event { key, time_series_id } => Some((key.clone(), time_series_id.clone())),
                _ => None,
            };
            let plan = ByEvent {
                fetch,
                slices,
                ids: ids.clone(),
                interval,
                direction,
                after,
                inside: None,
            };
            stream::try_unfold(plan, |mut plan| async move {
                Ok(plan.next().await?.map(|planned| (planned, plan)))
            })
            .boxed()
        }
        Scope::Everything => {
            let plan = ByPartition {
                fetch,
                slices,
                blocked: view.blocked.clone(),
                interval,
                direction,
                resume: Resume::of(after),
                inside: None,
            };
            stream::try_unfold(plan, |mut plan| async move {
                Ok(plan.next().await?.map(|planned| (planned, plan)))
            })
            .boxed()
        }
    }
}

/// True when a walk in partition order has left the slice behind. The slice that it stood in may be gone.
fn passed(slice: &TimeSlice, after: &Position, direction: Direction) -> bool {
    let start = slice.interval.start;
    match after {
        Position::Partition { slice_start, .. } => direction.compare(&start, slice_start).is_lt(),
        Position::Slice { slice_start } => direction.compare(&start, slice_start).is_le(),
        _ => false,
    }
}

struct ByEvent {
    fetch: Arc<Fetch>,
    slices: VecDeque<Arc<Slice>>,
    ids: Arc<[TimeSeriesId]>,
    interval: TimeInterval,
    direction: Direction,
    after: Option<(EventKey, TimeSeriesId)>,
    inside: Option<InSlice>,
}

/// The walk inside one slice.
struct InSlice {
    slice: Arc<Slice>,
    /// The last bucket of the walk.
    to: i64,
    /// The next bucket of each id, as far as it is known: bucket to ids.
    next: BTreeMap<i64, Vec<usize>>,
    /// Ids whose next bucket is not known, and from where to ask.
    ask: Vec<usize>,
    from: i64,
}

impl ByEvent {
    async fn next(&mut self) -> Result<Option<Planned>, StoreError> {
        if self.inside.is_none() {
            let Some(slice) = self.slices.pop_front() else {
                return Ok(None);
            };
            let Some((first, last)) = slice.slice.buckets_touched(&self.interval) else {
                return Ok(Some(Planned::Passed(self.slice_end(&slice))));
            };
            let (from, to) = match self.direction {
                Direction::Ascending => (first, last),
                Direction::Descending => (last, first),
            };
            self.inside = Some(InSlice {
                slice,
                to,
                next: BTreeMap::new(),
                ask: (0..self.ids.len()).collect(),
                from,
            });
        }
        let Some(inside) = &mut self.inside else {
            return Ok(None);
        };
        inside.ask(&self.fetch, &self.ids, self.direction).await?;
        let next = match self.direction {
            Direction::Ascending => inside.next.pop_first(),
            Direction::Descending => inside.next.pop_last(),
        };
        let Some((bucket, members)) = next else {
            let end = self.inside.take().map(|inside| self.slice_end(&inside.slice));
            return Ok(end.map(Planned::Passed));
        };
        let slice = inside.slice.clone();
        if bucket != inside.to {
            // Where these ids go on is asked only when the walk comes to it.
            inside.from = match self.direction {
                Direction::Ascending => bucket.saturating_add(1),
                Direction::Descending => bucket.saturating_sub(1),
            };
            inside.ask = members.clone();
        }
        Ok(Some(Planned::Cell(self.cell(&slice, bucket, &members))))
    }

    fn cell(&self, slice: &Slice, bucket: i64, members: &[usize]) -> Cell {
        let whole = slice.slice.bucket_interval(bucket);
        let interval = whole.intersection(&self.interval);
        let ids = members.iter().filter_map(|member| self.ids.get(*member));
        let event_buckets = slice.slice.settings.event_buckets.max(1);
        let scans = ids
            .flat_map(|id| (0..event_buckets).map(move |event_bucket| (id, event_bucket)))
            .map(|(id, event_bucket)| ScanRequest {
                table: slice.table.clone(),
                partition: PartitionKey {
                    slice: slice.slice.name.clone(),
                    time_series_id: id.clone(),
                    time_bucket: bucket,
                    event_bucket,
                },
                bounds: self.bounds(id, interval),
                direction: self.direction,
                events_max: 0,
                bytes_max: 0,
                consistency: slice.consistency,
            })
            .collect();
        Cell {
            scans,
            bucket_start: whole.start,
            end: Position::Time(far_end(interval, self.direction)),
            slice_start: slice.slice.interval.start,
        }
    }

    /// Of one id, what comes after the position: at the same key, the ids that the walk meets later.
    fn bounds(&self, id: &TimeSeriesId, interval: TimeInterval) -> EventBounds {
        let mut bounds = EventBounds::of_interval(interval);
        if let Some((key, last)) = &self.after {
            let from = if self.direction.compare(id, last).is_gt() {
                Bound::Included(key.clone())
            } else {
                Bound::Excluded(key.clone())
            };
            match self.direction {
                Direction::Ascending => bounds.lower = from,
                Direction::Descending => bounds.upper = from,
            }
        }
        bounds
    }

    fn slice_end(&self, slice: &Slice) -> Position {
        let inside = slice.slice.interval.intersection(&self.interval);
        Position::Time(far_end(inside, self.direction))
    }
}

impl InSlice {
    async fn ask(
        &mut self,
        fetch: &Fetch,
        ids: &[TimeSeriesId],
        direction: Direction,
    ) -> Result<(), StoreError> {
        if self.ask.is_empty() {
            return Ok(());
        }
        let asked = Asked {
            table: &self.slice.table,
            from: self.from,
            to: self.to,
            direction,
        };
        // Built in a loop and not by a closure: the compiler does not see that one is general enough.
        let mut asking = Vec::with_capacity(self.ask.len());
        for member in &self.ask {
            if let Some(id) = ids.get(*member) {
                asking.push(asked.next_bucket(fetch, *member, id));
            }
        }
        let found: Vec<(usize, Option<i64>)> = stream::iter(asking).buffered(IDS_ASKED).try_collect().await?;
        for (member, bucket) in found {
            if let Some(bucket) = bucket {
                self.next.entry(bucket).or_default().push(member);
            }
        }
        self.ask.clear();
        Ok(())
    }
}

/// Which buckets an id is asked for.
#[derive(Clone, Copy)]
struct Asked<'a> {
    table: &'a TableName,
    from: i64,
    to: i64,
    direction: Direction,
}

impl Asked<'_> {
    async fn next_bucket(
        self,
        fetch: &Fetch,
        member: usize,
        id: &TimeSeriesId,
    ) -> Result<(usize, Option<i64>), StoreError> {
        let bucket = fetch
            .next_time_bucket(self.table, id, self.from, self.to, self.direction)
            .await?;
        Ok((member, bucket))
    }
}

struct ByPartition {
    fetch: Arc<Fetch>,
    slices: VecDeque<Arc<Slice>>,
    blocked: Arc<BTreeMap<TimeSeriesId, anabranch_catalog::Block>>,
    interval: TimeInterval,
    direction: Direction,
    resume: Option<Resume>,
    inside: Option<Listing>,
}

/// Where in a slice a walk in partition order goes on.
struct Resume {
    slice_start: EventTime,
    time_series_id: TimeSeriesId,
    time_bucket: i64,
    event_bucket: u32,
    event: Option<EventKey>,
}

/// The partitions of one slice, as far as they are listed.
struct Listing {
    slice: Arc<Slice>,
    touched: (i64, i64),
    listed: VecDeque<PartitionKey>,
    last: Option<PartitionKey>,
    /// In the partition that is resumed, everything up to here is done.
    done: Option<(PartitionKey, EventKey)>,
    ended: bool,
}

impl Resume {
    fn of(position: &Position) -> Option<Self> {
        match position {
            Position::Partition {
                slice_start,
                time_series_id,
                time_bucket,
                event_bucket,
                event,
            } => Some(Self {
                slice_start: *slice_start,
                time_series_id: time_series_id.clone(),
                time_bucket: *time_bucket,
                event_bucket: *event_bucket,
                event: event.clone(),
            }),
            _ => None,
        }
    }
}

impl ByPartition {
    async fn next(&mut self) -> Result<Option<Planned>, StoreError> {
        if self.inside.is_none() {
            let Some(slice) = self.slices.pop_front() else {
                return Ok(None);
            };
            let Some(touched) = slice.slice.buckets_touched(&self.interval) else {
                let slice_start = slice.slice.interval.start;
                return Ok(Some(Planned::Passed(Position::Slice { slice_start })));
            };
            self.inside = Some(self.enter(slice, touched));
        }
        let Some(inside) = &mut self.inside else {
            return Ok(None);
        };
        if inside.listed.is_empty() && !inside.ended {
            let listed = self
                .fetch
                .partitions(&inside.slice.table, inside.last.as_ref(), PARTITIONS_LISTED)
                .await?;
            inside.ended = listed.is_empty();
            inside.last = listed.last().cloned().or_else(|| inside.last.take());
            inside.listed = listed.into();
        }
        while let Some(partition) = inside.listed.pop_front() {
            if self.blocked.contains_key(&partition.time_series_id) {
                self.fetch
                    .warn("blocked time series ids are left out of the search".to_owned());
                continue;
            }
            let (first, last) = inside.touched;
            if (first..=last).contains(&partition.time_bucket) {
                return Ok(Some(Planned::Cell(inside.cell(
                    partition,
                    self.interval,
                    self.direction,
                ))));
            }
        }
        let slice_start = inside.slice.slice.interval.start;
        if inside.ended {
            self.inside = None;
            return Ok(Some(Planned::Passed(Position::Slice { slice_start })));
        }
        // None of those listed is on the way; say how far that goes.
        let passed = match &inside.last {
            Some(partition) => after_partition(slice_start, partition),
            None => Position::Slice { slice_start },
        };
        Ok(Some(Planned::Passed(passed)))
    }

    fn enter(&mut self, slice: Arc<Slice>, touched: (i64, i64)) -> Listing {
        let mut listing = Listing {
            slice: slice.clone(),
            touched,
            listed: VecDeque::new(),
            last: None,
            done: None,
            ended: false,
        };
        let resume = self.resume.take();
        if let Some(resume) = resume.filter(|resume| resume.slice_start == slice.slice.interval.start) {
            let partition = PartitionKey {
                slice: slice.slice.name.clone(),
                time_series_id: resume.time_series_id,
                time_bucket: resume.time_bucket,
                event_bucket: resume.event_bucket,
            };
            listing.last = Some(partition.clone());
            if let Some(event) = resume.event {
                listing.listed.push_back(partition.clone());
                listing.done = Some((partition, event));
            }
        }
        listing
    }
}

impl Listing {
    fn cell(&self, partition: PartitionKey, interval: TimeInterval, direction: Direction) -> Cell {
        let slice_start = self.slice.slice.interval.start;
        let bucket = self.slice.slice.bucket_interval(partition.time_bucket);
        let mut bounds = EventBounds::of_interval(bucket.intersection(&interval));
        if let Some((resumed, event)) = &self.done
            && *resumed == partition
        {
            bounds = bounds.after(event.clone(), direction);
        }
        Cell {
            bucket_start: bucket.start,
            end: after_partition(slice_start, &partition),
            slice_start,
            scans: vec![ScanRequest {
                table: self.slice.table.clone(),
                partition,
                bounds,
                direction,
                events_max: 0,
                bytes_max: 0,
                consistency: self.slice.consistency,
            }],
        }
    }
}

fn after_partition(slice_start: EventTime, partition: &PartitionKey) -> Position {
    Position::Partition {
        slice_start,
        time_series_id: partition.time_series_id.clone(),
        time_bucket: partition.time_bucket,
        event_bucket: partition.event_bucket,
        event: None,
    }
}

/// Where a walk leaves an interval.
fn far_end(interval: TimeInterval, direction: Direction) -> EventTime {
    match direction {
        Direction::Ascending => interval.end,
        Direction::Descending => interval.start,
    }
}
