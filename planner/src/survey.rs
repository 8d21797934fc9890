//! Surveys an original: reads what is immutable of it once, and stores what is to be done.
//!
//! ```text
//! freeze ─▶ claim ─▶ page ─▶ page ─▶ … ─▶ verdict ─▶ is the basis still there? ─▶ plan
//!                      └─ checkpoint now and then ┘
//! ```
//!
//! - S4: only what is frozen, and settled, is surveyed.
//! - S5: every step after the claim carries its fence; a planner that was overtaken stops without a word.
//! - A survey that dies anywhere is taken over at its checkpoint, and ends with the same plan.

use std::ops::Bound;
use std::time::Duration;

use anabranch_catalog::{Ground, broken, ground};
use anabranch_model::namespace::Rollout;
use anabranch_model::{EventTime, NamespaceName, PartitionKey, TimeInterval};
use anabranch_runtime::error_chain;
use anabranch_split::planted::{Bug, planted};
use anabranch_split::record::page_bytes;
use anabranch_split::{Aim, Lease, Pace, RetryPolicy, SplitReason, SplitState, Step, SurveyTask};
use anabranch_storage::{
    EventBounds, Moved, ScanEnd, ScanPage, SplitSlot, StoreError, StoredSplit, TableKind, TableName, Walk,
};
use tracing::{info, warn};

use crate::Planning;
use crate::decide::{Verdict, strategy, verdict};
use crate::freeze::Freeze;
use crate::sweep::{immutable_from, served};

/// Why a survey stopped before its end.
pub(crate) enum Stop {
    /// Another planner moved the record.
    Overtaken,
    /// The store failed.
    Store(StoreError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// The part of a bucket that is looked at.
struct Reach {
    basis: anabranch_split::Basis,
    boundary: EventTime,
    /// What is frozen, and settled, at least.
    frozen_before: EventTime,
}

/// How long a partition is left alone that only a seal can make more of immutable.
const UNTIL_A_SEAL: Duration = Duration::from_secs(3_600);

impl Planning {
    /// Surveys a record that needs it. True when the record moved.
    pub(crate) async fn survey(
        &self,
        namespace: &NamespaceName,
        stored: StoredSplit,
    ) -> Result<bool, StoreError> {
        let partition = stored.record.partition.clone();
        let Some(ground) = ground(&*self.parts.records, namespace, &partition.slice).await? else {
            return Ok(false);
        };
        if ground.settings.wide_partition.rollout < Rollout::Split {
            return Ok(false);
        }
        let reach = match self.reach(namespace, &stored, &ground).await? {
            Reached::Part(reach) => reach,
            Reached::Nothing => return self.park(namespace, &stored, &ground, SplitReason::Mutable).await,
            Reached::Later => return Ok(false),
        };
        let task = begin(&stored, &ground, &reach);
        let lease = Lease { owner: self.owner };
        let claim = Step::Survey { lease, task };
        let claimed = match self.splits.step(namespace, &stored, claim, self.now()).await? {
            Moved::To(claimed) => claimed,
            Moved::Overtaken | Moved::Illegal(_) => {
                self.metrics.claim_lost(namespace);
                return Ok(false);
            }
        };
        self.metrics.survey(namespace);
        let fence = claimed.record.fence;
        let surveyor = Surveyor::new(self, namespace, &ground, claimed);
        match Box::pin(surveyor.run(reach.frozen_before)).await {
            Ok(()) => {}
            Err(Stop::Overtaken) => self.metrics.claim_lost(namespace),
            Err(Stop::Store(error)) => self.fail(namespace, &partition, fence, &error).await?,
        }
        Ok(true)
    }

    /// How far a record may be surveyed now.
    async fn reach(
        &self,
        namespace: &NamespaceName,
        stored: &StoredSplit,
        ground: &Ground,
    ) -> Result<Reached, StoreError> {
        let record = &stored.record;
        let bucket = ground.slice.bucket_interval(record.partition.time_bucket);
        let begun = match &record.state {
            SplitState::Planning { task, .. } if task.basis == ground.basis => Some(task.boundary),
            _ => None,
        };
        let from = served(record, ground.basis).max(bucket.start);
        let justified = ground.justified(self.now()).map(|before| before.min(bucket.end));
        // What was begun is ended as it was begun, whatever more has become immutable since.
        let wanted = begun.or(justified.filter(|before| *before > from));
        let Some(wanted) = wanted else {
            return Ok(Reached::Nothing);
        };
        let (slice, freezer) = (&record.partition.slice, &self.parts.freezer);
        let (before, basis) = match freezer.freeze(namespace, slice, wanted).await? {
            Freeze::Settled { before, basis } => (before, basis),
            Freeze::NotJustified => return Ok(Reached::Nothing),
            Freeze::Waiting | Freeze::NotOpen => return Ok(Reached::Later),
        };
        let enough = match begun {
            Some(boundary) => before >= boundary,
            // When all of it is immutable by the clock, all of it is waited for: a part that was found too little
            // would be surveyed again at once, and again, until the rest is settled too.
            None if wanted >= bucket.end => before >= bucket.end,
            None => before > from,
        };
        if basis != ground.basis || !enough {
            return Ok(Reached::Later);
        }
        let reached = if planted(Bug::BoundaryPastFrozen) {
            bucket.end
        } else {
            before
        };
        let boundary = begun.unwrap_or(reached.min(bucket.end));
        Ok(Reached::Part(Reach {
            basis,
            boundary,
            frozen_before: reached,
        }))
    }

    async fn next_page(&self, walk: &mut Walk) -> Result<Option<ScanPage>, StoreError> {
        let page = walk.next(&*self.parts.events);
        let is_full = |page: &ScanPage| matches!(page.end, ScanEnd::More { .. });
        self.own_pages.read(&*self.parts.clock, page, is_full).await
    }

    /// Leaves a partition alone for a while.
    async fn park(
        &self,
        namespace: &NamespaceName,
        stored: &StoredSplit,
        ground: &Ground,
        reason: SplitReason,
    ) -> Result<bool, StoreError> {
        let served = served(&stored.record, ground.basis);
        let due = self.due(ground, &stored.record.partition, served, reason);
        let step = Step::Park { due, reason };
        let moved = self.splits.step(namespace, stored, step, self.now()).await?;
        let parked = matches!(moved, Moved::To(_));
        if parked {
            self.metrics.left(namespace, reason.as_str());
        }
        Ok(parked)
    }

    /// When to look again at a partition that can not be split, or not wholly, yet, and that is served before `served`.
    pub(crate) fn due(
        &self,
        ground: &Ground,
        partition: &PartitionKey,
        served: EventTime,
        reason: SplitReason,
    ) -> EventTime {
        let now = self.now();
        let later = now.saturating_add(self.settings.park_interval);
        let limit = ground.settings.accept_limit;
        let bucket = ground.slice.bucket_interval(partition.time_bucket);
        if limit.is_zero() {
            // No clock makes more of it immutable, only a seal, which is seen when it comes (`sweep`). What is sealed
            // already waits for its freeze to count.
            let sealed = ground.justified(now);
            let freezes = reason == SplitReason::Mutable
                && sealed.is_some_and(|before| before > served.max(bucket.start));
            return if freezes {
                later
            } else {
                now.saturating_add(UNTIL_A_SEAL)
            };
        }
        let whole = immutable_from(bucket.end, limit);
        // Past that time and still not: whatever it waits for, it is not the clock.
        if whole > now { whole.min(later) } else { later }
    }

    /// Has a survey that the store ended tried again.
    async fn fail(
        &self,
        namespace: &NamespaceName,
        partition: &PartitionKey,
        fence: u64,
        error: &StoreError,
    ) -> Result<(), StoreError> {
        warn!(%namespace, slice = %partition.slice, error = error_chain(error), "survey failed");
        self.metrics.failure(namespace, SplitReason::StoreFailed.as_str());
        // Read again: the error may have been that of a step that happened.
        if let SplitSlot::Taken(stored) = self.splits.get(namespace, partition).await? {
            let step = Step::Fail {
                fence,
                reason: SplitReason::StoreFailed,
                detail: error_chain(error),
                retry: self.settings.retry,
            };
            self.splits.step(namespace, &stored, step, self.now()).await?;
        }
        Ok(())
    }
}

enum Reached {
    /// There is something to survey.
    Part(Reach),
    /// Nothing of it is immutable.
    Nothing,
    /// Something is, or will be known to be.
    Later,
}

fn begin(stored: &StoredSplit, ground: &Ground, reach: &Reach) -> SurveyTask {
    let wide = &ground.settings.wide_partition;
    let aim = Aim {
        target_bytes: wide.target_bytes,
        targets_max: wide.targets_max,
    };
    let mut task = SurveyTask {
        basis: reach.basis,
        extends: true,
        boundary: reach.boundary,
        aim,
        survey: anabranch_split::Survey::new(1, 2),
    };
    task.extends = stored.record.extendable(&task).is_some();
    task.survey = strategy(&stored.record, &task).survey();
    task
}

/// A survey under way.
struct Surveyor<'a> {
    planning: &'a Planning,
    namespace: &'a NamespaceName,
    ground: &'a Ground,
    /// The record as this planner left it last.
    held: StoredSplit,
    pace: Pace,
    stored_at: Duration,
    bytes_since: u64,
}

impl<'a> Surveyor<'a> {
    fn new(
        planning: &'a Planning,
        namespace: &'a NamespaceName,
        ground: &'a Ground,
        held: StoredSplit,
    ) -> Self {
        let elapsed = planning.parts.clock.elapsed();
        Self {
            planning,
            namespace,
            ground,
            held,
            pace: Pace::new(elapsed),
            stored_at: elapsed,
            bytes_since: 0,
        }
    }

    async fn run(mut self, frozen_before: EventTime) -> Result<(), Stop> {
        let planning = self.planning;
        let SplitState::Planning { task, .. } = &self.held.record.state else {
            return Err(Stop::Overtaken);
        };
        let mut task = task.clone();
        // S4: what is surveyed is frozen. A survey that was taken over has kept its own boundary.
        assert!(
            task.boundary <= frozen_before,
            "a survey reaches past what is frozen"
        );
        loop {
            self.walk(&mut task).await?;
            let strategy = strategy(&self.held.record, &task);
            let event_buckets = self.ground.slice.settings.event_buckets.max(1);
            let (partition, generation) = (self.partition(), self.held.record.generation);
            match verdict(&partition, &strategy, &task, generation, event_buckets) {
                Verdict::Plan(plan) => {
                    let ground = broken(
                        &*planning.parts.records,
                        self.namespace,
                        &partition.slice,
                        plan.basis,
                        plan.boundary,
                    );
                    if let Some(reason) = ground.await? {
                        planning.metrics.invalidated(self.namespace, reason.as_str());
                        return self.step(Step::Invalidate { reason }).await;
                    }
                    let targets = plan.targets.len();
                    let fence = self.held.record.fence;
                    self.step(Step::Plan { fence, plan }).await?;
                    planning.metrics.plan(self.namespace);
                    planning.parts.planned.notify_one();
                    info!(namespace = %self.namespace, slice = %partition.slice, generation, targets, "split planned");
                    return Ok(());
                }
                Verdict::TooSmall => return self.leave(&task).await,
                Verdict::Anew => {
                    task.extends = false;
                    task.survey = strategy_anew(&task);
                    self.checkpoint(&task).await?;
                }
                Verdict::Exhausted => {
                    let reason = SplitReason::GenerationsExhausted;
                    planning.metrics.failure(self.namespace, reason.as_str());
                    let retry = RetryPolicy {
                        attempts_max: 0,
                        ..planning.settings.retry
                    };
                    let (fence, detail) = (self.held.record.fence, String::new());
                    return self
                        .step(Step::Fail {
                            fence,
                            reason,
                            detail,
                            retry,
                        })
                        .await;
                }
            }
        }
    }

    /// Reads what the survey has not seen yet.
    async fn walk(&mut self, task: &mut SurveyTask) -> Result<(), Stop> {
        let record = &self.held.record;
        let planning = self.planning;
        let from = record.extendable(task).map(|serving| serving.boundary);
        let interval = TimeInterval {
            start: from.unwrap_or(TimeInterval::ALL.start),
            end: match planted(Bug::SurveyBoundaryInclusive) {
                true => task.boundary.saturating_add(Duration::from_micros(1)),
                false => task.boundary,
            },
        };
        let mut bounds = EventBounds::of_interval(interval);
        let mut skips = planted(Bug::SurveySkipsAfterCheckpoint) && task.survey.position().is_some();
        if let Some(position) = task.survey.position() {
            bounds.upper = Bound::Excluded(position.clone());
        }
        let table = originals(self.namespace, &record.partition);
        let page_bytes = page_bytes(record.attempts);
        let consistency = self.ground.settings.survey_consistency();
        let mut walk = Walk::new(table, record.partition.clone(), bounds, page_bytes, consistency);
        planning.own_pages.begin();
        while let Some(mut page) = planning.next_page(&mut walk).await? {
            if std::mem::take(&mut skips) && !page.events.is_empty() {
                page.events.remove(0);
            }
            take_in(task, &record_id(&self.held), &page);
            planning.metrics.read(self.namespace, page.bytes_read);
            self.bytes_since += page.bytes_read;
            if self.bytes_since >= planning.settings.checkpoint_bytes {
                self.checkpoint(task).await?;
            }
            let rate = self.ground.settings.wide_partition.split_bytes_per_second;
            let foreground = planning.foreground();
            let elapsed = planning.parts.clock.elapsed();
            let wait = self.pace.after_page(elapsed, page.bytes_read, rate, foreground);
            self.pause(wait, task).await?;
        }
        Ok(())
    }

    /// Waits, and does not let the lease lapse meanwhile.
    async fn pause(&mut self, wait: Duration, task: &SurveyTask) -> Result<(), Stop> {
        let clock = &self.planning.parts.clock;
        let until = clock.elapsed().saturating_add(wait);
        loop {
            let elapsed = clock.elapsed();
            let renew = self.stored_at.saturating_add(self.planning.settings.lease / 3);
            if elapsed >= renew {
                self.checkpoint(task).await?;
                continue;
            }
            if elapsed >= until {
                return Ok(());
            }
            clock.sleep(until.min(renew).saturating_sub(elapsed)).await;
        }
    }

    /// Stores how far the survey has come, which is also what keeps its lease.
    async fn checkpoint(&mut self, task: &SurveyTask) -> Result<(), Stop> {
        let (fence, task) = (self.held.record.fence, task.clone());
        self.step(Step::Surveyed { fence, task }).await?;
        self.planning.metrics.checkpoint(self.namespace);
        Ok(())
    }

    /// There is not enough: for good, or so far.
    async fn leave(mut self, task: &SurveyTask) -> Result<(), Stop> {
        let planning = self.planning;
        let bucket = self
            .ground
            .slice
            .bucket_interval(self.held.record.partition.time_bucket);
        let (step, reason) = if task.boundary >= bucket.end {
            let (fence, bytes) = (self.held.record.fence, task.survey.total().bytes);
            (Step::Leave { fence, bytes }, SplitReason::Small)
        } else {
            let reason = SplitReason::TooLittleYet;
            let record = &self.held.record;
            let served = served(record, self.ground.basis);
            let due = planning.due(self.ground, &record.partition, served, reason);
            (Step::Park { due, reason }, reason)
        };
        self.step(step).await?;
        planning.metrics.left(self.namespace, reason.as_str());
        Ok(())
    }

    async fn step(&mut self, step: Step) -> Result<(), Stop> {
        let planning = self.planning;
        let moved = planning
            .splits
            .step(self.namespace, &self.held, step, planning.now());
        match moved.await? {
            Moved::To(held) => self.held = held,
            Moved::Overtaken => return Err(Stop::Overtaken),
            Moved::Illegal(illegal) => {
                // The fence and the state were right when it was claimed, and the version says that nobody moved it.
                warn!(namespace = %self.namespace, %illegal, "survey took a step that its record does not allow");
                return Err(Stop::Overtaken);
            }
        }
        self.stored_at = planning.parts.clock.elapsed();
        self.bytes_since = 0;
        Ok(())
    }

    fn partition(&self) -> PartitionKey {
        self.held.record.partition.clone()
    }
}

fn strategy_anew(task: &SurveyTask) -> anabranch_split::Survey {
    let whole = anabranch_split::EventBucketSplit {
        aim: task.aim,
        kept: 0,
    };
    whole.survey()
}

fn record_id(held: &StoredSplit) -> anabranch_model::TimeSeriesId {
    held.record.partition.time_series_id.clone()
}

pub(crate) fn take_in(task: &mut SurveyTask, id: &anabranch_model::TimeSeriesId, page: &ScanPage) {
    for event in &page.events {
        task.survey.add(id, event);
    }
}

pub(crate) fn originals(namespace: &NamespaceName, partition: &PartitionKey) -> TableName {
    TableName {
        namespace: namespace.clone(),
        kind: TableKind::Data,
        slice: partition.slice.clone(),
    }
}
