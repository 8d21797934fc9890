//! Removes targets that are not served any more, when nobody can be reading them.
//!
//! - S1: only partitions of the wide table are removed, and of these none that is served or being made.
//! - A record lets go of its targets when they are seen to be empty, not when they were told to go.
//! - How long targets were left alone is measured on this process's own elapsed time, since it first saw them retiring.

use std::collections::BTreeMap;
use std::time::Duration;

use anabranch_model::{Consistency, NamespaceName, PartitionKey, TimeInterval};
use anabranch_split::planted::{Bug, planted};
use anabranch_split::{Retiring, SplitRecord, Step};
use anabranch_storage::{ErrorKind, EventBounds, Moved, StoreError, StoredSplit, TableName, Walk};
use tracing::{error, warn};

use crate::Splitting;
use crate::copy::wide_table;

/// Since when retiring targets have been seen.
#[derive(Debug, Default)]
pub(crate) struct RetiringWatch(BTreeMap<(NamespaceName, PartitionKey), Vec<(Retiring, Duration)>>);

impl RetiringWatch {
    /// Takes note of what of a record is retiring; true when the first of it may be removed.
    pub(crate) fn due(
        &mut self,
        namespace: &NamespaceName,
        record: &SplitRecord,
        elapsed: Duration,
        retire_after: Duration,
    ) -> bool {
        let key = (namespace.clone(), record.partition.clone());
        let Some(first) = record.retiring.first() else {
            self.0.remove(&key);
            return false;
        };
        let seen = self.0.entry(key).or_default();
        seen.retain(|(retiring, _)| record.retiring.contains(retiring));
        for retiring in &record.retiring {
            if !seen.iter().any(|(known, _)| known == retiring) {
                seen.push((retiring.clone(), elapsed));
            }
        }
        let left_alone =
            |since: Duration| elapsed.saturating_sub(since) >= retire_after || planted(Bug::RetiresAtOnce);
        seen.iter()
            .any(|(retiring, since)| retiring == first && left_alone(*since))
    }
}

impl Splitting {
    /// Removes the first of a record's retiring targets. The record as it stands then, if it moved.
    pub(crate) async fn remove(
        &self,
        namespace: &NamespaceName,
        stored: &StoredSplit,
    ) -> Result<Option<StoredSplit>, StoreError> {
        let record = &stored.record;
        let Some(retiring) = record.retiring.first().cloned() else {
            return Ok(None);
        };
        let table = wide_table(namespace, &record.partition);
        for event_bucket in removable(namespace, record, &retiring) {
            let target = PartitionKey {
                event_bucket,
                ..record.partition.clone()
            };
            match self.parts.events.delete_partition(&table, &target).await {
                Ok(()) => {}
                // The slice was dropped, and its targets with it.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            if self.holds_any(&table, &target).await? {
                // Where every process stamps its writes itself, what one whose clock is ahead of this one's has written
                // stays until this one is past it. The next sweep asks again.
                warn!(%namespace, slice = %record.partition.slice, event_bucket, "a removed target still holds events: are clocks apart?");
                return Ok(None);
            }
        }
        let targets = retiring.event_buckets.len() as u64;
        let step = Step::Removed { retiring };
        Ok(
            match self.splits.step(namespace, stored, step, self.now()).await? {
                Moved::To(moved) => {
                    self.metrics.removed(namespace, targets);
                    Some(moved)
                }
                Moved::Overtaken | Moved::Illegal(_) => None,
            },
        )
    }

    async fn holds_any(&self, table: &TableName, partition: &PartitionKey) -> Result<bool, StoreError> {
        let bounds = EventBounds::of_interval(TimeInterval::ALL);
        let mut walk = Walk::new(
            table.clone(),
            partition.clone(),
            bounds,
            1,
            Consistency::default(),
        );
        loop {
            match walk.next(&*self.parts.events).await {
                Ok(Some(page)) if page.events.is_empty() => {}
                Ok(page) => return Ok(page.is_some()),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }
}

/// The retiring event buckets without those that are in use. There are none of these: every generation has its own.
fn removable(namespace: &NamespaceName, record: &SplitRecord, retiring: &Retiring) -> Vec<u32> {
    if planted(Bug::JanitorTakesServed)
        && let Some(serving) = &record.serving
    {
        return serving.targets.iter().map(|target| target.event_bucket).collect();
    }
    let retiring = retiring.event_buckets.iter().copied();
    let (in_use, free): (Vec<u32>, Vec<u32>) = retiring.partition(|bucket| in_use(record, *bucket));
    if !in_use.is_empty() {
        error!(%namespace, slice = %record.partition.slice, ?in_use, "retiring targets are in use");
    }
    free
}

fn in_use(record: &SplitRecord, event_bucket: u32) -> bool {
    let served = record.serving.iter().flat_map(|serving| &serving.targets);
    let planned = record.plan().into_iter().flat_map(|plan| &plan.targets);
    served
        .chain(planned)
        .any(|target| target.event_bucket == event_bucket)
}
