//! How wide the partitions of a slice are: measured by reading them, as far as the time goes.
//!
//! Reads are made one after the other and in small pages, so that a measurement never takes more than one call of the
//! store from the requests beside it.

use std::time::Duration;

use anabranch_model::{
    Consistency, Direction, NamespaceName, PartitionKey, SliceName, SliceState, TimeInterval,
};
use anabranch_runtime::Deadline;
use anabranch_storage::{EventBounds, ScanEnd, ScanRequest, TableKind, TableName};

use super::Admin;
use super::splits::open_slice;
use crate::errors::{Reason, ServiceError};
use crate::namespaces::NamespaceView;

/// Widest partitions that are named.
pub const WIDEST_MAX: usize = 20;
/// How long a measurement takes at most.
pub const SIZES_TIME_MAX: Duration = Duration::from_secs(10);

/// Partitions listed at once.
const PARTITIONS_AT_ONCE: usize = 256;
/// Partitions measured at most: their sizes are held in memory.
const PARTITIONS_MAX: usize = 1_000_000;
/// Events and bytes read at once.
const PAGE_EVENTS: usize = 4_096;
const PAGE_BYTES: usize = 1 << 20;

/// How wide a partition is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionSize {
    /// The partition.
    pub partition: PartitionKey,
    /// Bytes of it.
    pub bytes: u64,
    /// Events in it.
    pub events: u64,
    /// The time ran out inside it: there may be more.
    pub at_least: bool,
}

/// Sizes that shares of the partitions do not exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percentiles {
    /// Of half of them.
    pub p50: u64,
    /// Of nine in ten.
    pub p90: u64,
    /// Of ninety-nine in a hundred.
    pub p99: u64,
    /// Of all of them.
    pub max: u64,
}

/// How wide the partitions of a slice are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionSizes {
    /// The slice.
    pub slice: SliceName,
    /// Partitions that were measured.
    pub partitions: u64,
    /// Events in them.
    pub events: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Their sizes; `None` when there are none.
    pub percentiles: Option<Percentiles>,
    /// The widest, widest first.
    pub widest: Vec<PartitionSize>,
    /// Why not every partition was measured.
    pub partial: Option<&'static str>,
}

impl Admin {
    /// Measures the partitions of a slice (the newest that has begun, when `None`).
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND`, `TIME_SLICE_NOT_FOUND`, `TIME_SLICE_CLOSED`, those of the store.
    pub async fn partition_sizes(
        &self,
        name: &NamespaceName,
        slice: Option<&SliceName>,
        deadline: Option<Deadline>,
    ) -> Result<PartitionSizes, ServiceError> {
        let view = self.namespaces.view(name).await?;
        let slice = match slice {
            Some(slice) => open_slice(&view, slice)?.name.clone(),
            None => self.newest_begun(&view)?,
        };
        // A tenth is left for the answer.
        let asked = deadline.map_or(SIZES_TIME_MAX, |deadline| deadline.left(&*self.clock) * 9 / 10);
        let ends = Deadline::after(&*self.clock, asked.min(SIZES_TIME_MAX));
        let table = TableName {
            namespace: name.clone(),
            kind: TableKind::Data,
            slice: slice.clone(),
        };
        let consistency = view.settings.survey_consistency();
        let mut measured = Measured::default();
        let mut after: Option<PartitionKey> = None;
        let partial = 'slice: loop {
            let listed = self
                .store
                .events
                .partitions(&table, after.as_ref(), PARTITIONS_AT_ONCE)
                .await?;
            let Some(last) = listed.last().cloned() else {
                break 'slice None;
            };
            for partition in listed {
                if measured.sizes.len() >= PARTITIONS_MAX {
                    break 'slice Some("there are more partitions than are measured at once");
                }
                if !measured.sizes.is_empty() && ends.passed(&*self.clock) {
                    break 'slice Some("the time ran out");
                }
                let size = self.size(&table, partition, consistency, &ends).await?;
                let cut = size.at_least;
                measured.add(size);
                if cut {
                    break 'slice Some("the time ran out");
                }
            }
            after = Some(last);
        };
        Ok(measured.over(slice, partial))
    }

    /// Reads a partition to its end, or until the time runs out.
    async fn size(
        &self,
        table: &TableName,
        partition: PartitionKey,
        consistency: Consistency,
        ends: &Deadline,
    ) -> Result<PartitionSize, ServiceError> {
        let mut request = ScanRequest {
            table: table.clone(),
            partition: partition.clone(),
            bounds: EventBounds::of_interval(TimeInterval::ALL),
            direction: Direction::Descending,
            events_max: PAGE_EVENTS,
            bytes_max: PAGE_BYTES,
            consistency,
        };
        let (mut bytes, mut events) = (0, 0);
        loop {
            let page = self.store.events.scan(&request).await?;
            bytes += page.bytes_read;
            events += page.events.len() as u64;
            let at_least = match page.end {
                ScanEnd::Exhausted => false,
                ScanEnd::More { after } if !ends.passed(&*self.clock) => {
                    request.bounds = request.bounds.after(after, request.direction);
                    continue;
                }
                ScanEnd::More { .. } => true,
            };
            return Ok(PartitionSize {
                partition,
                bytes,
                events,
                at_least,
            });
        }
    }

    fn newest_begun(&self, view: &NamespaceView) -> Result<SliceName, ServiceError> {
        let now = self.namespaces.now();
        let begun = view
            .slices
            .iter()
            .rev()
            .find(|slice| slice.state == SliceState::Open && slice.interval.start <= now);
        begun.map(|slice| slice.name.clone()).ok_or_else(|| {
            let problem = format!("namespace `{}` has no open time slice that has begun", view.name);
            ServiceError::new(Reason::TimeSliceNotFound, problem).with("namespace", &view.name)
        })
    }
}

#[derive(Debug, Default)]
struct Measured {
    sizes: Vec<u64>,
    events: u64,
    widest: Vec<PartitionSize>,
}

impl Measured {
    fn add(&mut self, size: PartitionSize) {
        self.sizes.push(size.bytes);
        self.events += size.events;
        self.widest.push(size);
        if self.widest.len() > 4 * WIDEST_MAX {
            self.keep_widest();
        }
    }

    fn keep_widest(&mut self) {
        self.widest
            .sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.partition.cmp(&b.partition)));
        self.widest.truncate(WIDEST_MAX);
    }

    fn over(mut self, slice: SliceName, partial: Option<&'static str>) -> PartitionSizes {
        self.keep_widest();
        self.sizes.sort_unstable();
        PartitionSizes {
            slice,
            partitions: self.sizes.len() as u64,
            events: self.events,
            bytes: self.sizes.iter().sum(),
            percentiles: percentiles(&self.sizes),
            widest: self.widest,
            partial,
        }
    }
}

/// Of ascending sizes, by the nearest rank.
fn percentiles(sizes: &[u64]) -> Option<Percentiles> {
    let at = |percent: usize| {
        let rank = (sizes.len() * percent).div_ceil(100);
        sizes.get(rank.saturating_sub(1)).copied()
    };
    Some(Percentiles {
        p50: at(50)?,
        p90: at(90)?,
        p99: at(99)?,
        max: at(100)?,
    })
}

#[cfg(test)]
mod tests;
