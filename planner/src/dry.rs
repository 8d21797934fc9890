//! What would be planned for a partition, without a record of it and without freezing anything.

use std::sync::Arc;

use anabranch_catalog::ground;
use anabranch_model::{EventTime, NamespaceName, PartitionKey, TimeInterval};
use anabranch_split::record::page_bytes;
use anabranch_split::{Aim, Checksum, EventBucketSplit, Pace, SplitPlan, SplitReason, SurveyTask};
use anabranch_storage::{EventBounds, SplitSlot, StoreError, Walk};

use crate::Planning;
use crate::decide::{Verdict, verdict};
use crate::survey::{originals, take_in};

/// What would be planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DryPlan {
    /// There is no such namespace, open slice or bucket.
    Unknown,
    /// Nothing of it is immutable.
    Mutable {
        /// When a planner would look again.
        due: EventTime,
    },
    /// It is too small, as far as it is immutable.
    TooSmall {
        /// Everything before this was surveyed.
        boundary: EventTime,
        /// What that holds.
        total: Checksum,
    },
    /// This.
    Plan {
        /// The whole of the partition that is immutable is divided, as if nothing of it was split yet.
        plan: SplitPlan,
        /// What the targets would hold together.
        total: Checksum,
    },
    /// The wide table has no event buckets left for another generation.
    Exhausted,
}

/// Plans without consequences. Clones share the planner's parts.
#[derive(Clone, Debug)]
pub struct DryPlanner(pub(crate) Arc<Planning>);

impl DryPlanner {
    /// Surveys what is immutable of a partition by now, at the namespace's pace, and says what would be planned.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn plan(
        &self,
        namespace: &NamespaceName,
        partition: &PartitionKey,
    ) -> Result<DryPlan, StoreError> {
        let planning = &*self.0;
        let Some(ground) = ground(&*planning.parts.records, namespace, &partition.slice).await? else {
            return Ok(DryPlan::Unknown);
        };
        let bucket = ground.slice.bucket_interval(partition.time_bucket);
        let event_buckets = ground.slice.settings.event_buckets.max(1);
        if bucket.is_empty() || partition.event_bucket >= event_buckets {
            return Ok(DryPlan::Unknown);
        }
        let justified = ground
            .justified(planning.now())
            .map(|before| before.min(bucket.end));
        let Some(boundary) = justified.filter(|before| *before > bucket.start) else {
            let never = EventTime::from_micros(i64::MIN);
            let due = planning.due(&ground, partition, never, SplitReason::Mutable);
            return Ok(DryPlan::Mutable { due });
        };
        let generation = match planning.splits.get(namespace, partition).await? {
            SplitSlot::Taken(stored) => stored.record.generation.saturating_add(1),
            // What would be planned does not rest on the number.
            SplitSlot::Free { .. } | SplitSlot::Unreadable(_) => 1,
        };
        let wide = &ground.settings.wide_partition;
        let aim = Aim {
            target_bytes: wide.target_bytes,
            targets_max: wide.targets_max,
        };
        let strategy = EventBucketSplit { aim, kept: 0 };
        let mut task = SurveyTask {
            basis: ground.basis,
            extends: false,
            boundary,
            aim,
            survey: strategy.survey(),
        };
        let bounds = EventBounds::of_interval(TimeInterval {
            start: TimeInterval::ALL.start,
            end: boundary,
        });
        let table = originals(namespace, partition);
        let consistency = ground.settings.survey_consistency();
        let mut walk = Walk::new(table, partition.clone(), bounds, page_bytes(0), consistency);
        let clock = &planning.parts.clock;
        let mut pace = Pace::new(clock.elapsed());
        while let Some(page) = walk.next(&*planning.parts.events).await? {
            take_in(&mut task, &partition.time_series_id, &page);
            let (elapsed, foreground) = (clock.elapsed(), planning.foreground());
            let wait = pace.after_page(elapsed, page.bytes_read, wide.split_bytes_per_second, foreground);
            clock.sleep(wait).await;
        }
        let total = task.survey.total();
        Ok(
            match verdict(partition, &strategy, &task, generation, event_buckets) {
                Verdict::Plan(plan) => DryPlan::Plan { plan, total },
                Verdict::Exhausted => DryPlan::Exhausted,
                // Nothing is kept, so there is nothing to begin anew.
                Verdict::TooSmall | Verdict::Anew => DryPlan::TooSmall { boundary, total },
            },
        )
    }
}
