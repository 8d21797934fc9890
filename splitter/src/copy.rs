//! Carries out a plan: copies, then reads everything back.
//!
//! ```text
//! claim ─▶ target ─▶ target ─▶ … ─▶ Verify ─▶ read back ─▶ is the basis still there? ─▶ Completed, or Failed
//!            └─ checkpoint after each, and now and then ┘
//! ```
//!
//! - S1: the original is only read.
//! - S2: what completes is what was read back from the store after everything was written, whole partitions of it, so
//!   that rows that do not belong there show too.
//! - S5: every step carries the claim's fence; a splitter that was overtaken stops without a word. What it still
//!   writes are the same rows.

use std::ops::Bound;
use std::time::Duration;

use anabranch_catalog::{Ground, broken};
use anabranch_model::{Consistency, Event, NamespaceName, PartitionKey, TimeInterval};
use anabranch_runtime::error_chain;
use anabranch_split::planted::{Bug, planted};
use anabranch_split::record::{page_bytes, total};
use anabranch_split::{Checksum, Copied, Lease, Pace, SplitPlan, SplitReason, SplitState, Step, Target};
use anabranch_storage::{
    EventBounds, Moved, PartitionAppend, ScanEnd, ScanPage, SplitSlot, StoreError, StoredSplit, TableKind,
    TableName, Walk,
};
use futures::future::join;
use tracing::{info, warn};

use crate::Splitting;

/// Why a split stopped before its end.
enum Stop {
    /// Another worker moved the record.
    Overtaken,
    /// The store failed.
    Store(StoreError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Splitting {
    /// Carries out a record's plan. True when the record moved.
    pub(crate) async fn split(
        &self,
        namespace: &NamespaceName,
        ground: &Ground,
        stored: &StoredSplit,
    ) -> Result<bool, StoreError> {
        let lease = Lease { owner: self.owner };
        let claim = Step::Split { lease };
        let elapsed = self.parts.clock.elapsed();
        let Moved::To(claimed) = self.splits.step(namespace, stored, claim, self.now()).await? else {
            self.metrics.claim_lost(namespace);
            return Ok(false);
        };
        self.metrics.claim(namespace);
        let partition = claimed.record.partition.clone();
        let mut copier = Copier {
            splitting: self,
            namespace,
            bytes_per_second: ground.settings.wide_partition.split_bytes_per_second,
            survey_consistency: ground.settings.survey_consistency(),
            held: claimed,
            pace: Pace::new(elapsed),
            stored_at: elapsed,
        };
        match Box::pin(copier.run()).await {
            Ok(()) => {}
            Err(Stop::Overtaken) => self.metrics.claim_lost(namespace),
            Err(Stop::Store(error)) => {
                let fence = copier.held.record.fence;
                self.fail(namespace, &partition, fence, &error).await?;
            }
        }
        Ok(true)
    }

    async fn next_page(&self, walk: &mut Walk) -> Result<Option<ScanPage>, StoreError> {
        let page = walk.next(&*self.parts.events);
        let is_full = |page: &ScanPage| matches!(page.end, ScanEnd::More { .. });
        self.own_pages.read(&*self.parts.clock, page, is_full).await
    }

    /// Has a split that the store ended tried again.
    async fn fail(
        &self,
        namespace: &NamespaceName,
        partition: &PartitionKey,
        fence: u64,
        error: &StoreError,
    ) -> Result<(), StoreError> {
        let reason = SplitReason::StoreFailed;
        warn!(%namespace, slice = %partition.slice, error = error_chain(error), "split failed");
        self.metrics.failed(namespace, reason);
        // Read again: the error may have been that of a step that happened.
        if let SplitSlot::Taken(stored) = self.splits.get(namespace, partition).await? {
            let step = Step::Fail {
                fence,
                reason,
                detail: error_chain(error),
                retry: self.settings.retry,
            };
            self.splits.step(namespace, &stored, step, self.now()).await?;
        }
        Ok(())
    }
}

/// A split under way.
struct Copier<'a> {
    splitting: &'a Splitting,
    namespace: &'a NamespaceName,
    bytes_per_second: u64,
    /// At which the original is read. Targets are written and read at the store's.
    survey_consistency: Consistency,
    /// The record as this splitter left it last.
    held: StoredSplit,
    pace: Pace,
    /// When its last step was sent off: from then on nobody else has moved it, or that step had failed.
    stored_at: Duration,
}

impl Copier<'_> {
    async fn run(&mut self) -> Result<(), Stop> {
        let Some(plan) = self.held.record.plan().cloned() else {
            return Err(Stop::Overtaken);
        };
        if self.invalidated(&plan).await? {
            return Ok(());
        }
        if let SplitState::Splitting { copied, .. } = &self.held.record.state {
            let done = copied.targets as usize;
            self.splitting.own_pages.begin();
            let skipped = usize::from(done > 0 && planted(Bug::CopySkipsAfterCheckpoint));
            // Newest first, as the store has them.
            for n in done + skipped..plan.targets.len() {
                self.copy(&plan, n).await?;
            }
            let fence = self.held.record.fence;
            self.step(Step::Verify { fence }).await?;
        }
        self.splitting.own_pages.begin();
        let mut read_back = Vec::with_capacity(plan.targets.len());
        for target in &plan.targets {
            read_back.push(match planted(Bug::VerifiesInMemory) {
                true => target.checksum,
                false => self.read_back(target).await?,
            });
        }
        if self.invalidated(&plan).await? {
            return Ok(());
        }
        let step = Step::Verified {
            fence: self.held.record.fence,
            read_back,
            retry: self.splitting.settings.retry,
        };
        self.step(step).await?;
        self.tell(&plan);
        Ok(())
    }

    fn tell(&self, plan: &SplitPlan) {
        let (record, namespace) = (&self.held.record, self.namespace);
        let slice = &record.partition.slice;
        if record.state == SplitState::Completed {
            let (targets, bytes) = (plan.targets.len(), total(&plan.targets).bytes);
            info!(%namespace, %slice, generation = record.generation, targets, bytes, "split completed");
            self.splitting.metrics.completed(namespace);
            self.splitting.parts.completed.notify_one();
        } else {
            warn!(%namespace, %slice, generation = record.generation, detail = record.detail, "split abandoned: checksums differ");
            self.splitting.metrics.validation_failed(namespace);
        }
    }

    /// Takes the plan back when what it rests on is not there any more.
    async fn invalidated(&mut self, plan: &SplitPlan) -> Result<bool, Stop> {
        let slice = self.held.record.partition.slice.clone();
        let records = &*self.splitting.parts.records;
        let broken = broken(records, self.namespace, &slice, plan.basis, plan.boundary);
        let Some(reason) = broken.await? else {
            return Ok(false);
        };
        self.step(Step::Invalidate { reason }).await?;
        self.splitting.metrics.invalidated(self.namespace, reason);
        Ok(true)
    }

    /// Copies the plan's `n`th target from the end.
    async fn copy(&mut self, plan: &SplitPlan, n: usize) -> Result<(), Stop> {
        let (older, rest) = plan.targets.split_at(plan.targets.len() - 1 - n);
        debug_assert_eq!(older.len() + rest.len(), plan.targets.len());
        let Some((target, newer)) = rest.split_first() else {
            return Ok(());
        };
        let (splitting, original) = (self.splitting, self.held.record.partition.clone());
        let before = total(newer);
        let mut copied = Copied {
            targets: u32::try_from(n).unwrap_or(u32::MAX),
            checksum_rows: before.rows,
            bytes: before.bytes,
        };
        let bounds = EventBounds {
            lower: match planted(Bug::CopyLeavesOutOldest) {
                true => Bound::Excluded(target.oldest.clone()),
                false => Bound::Included(target.oldest.clone()),
            },
            upper: Bound::Included(target.newest.clone()),
            interval: TimeInterval::ALL,
        };
        let table = TableName {
            namespace: self.namespace.clone(),
            kind: TableKind::Data,
            slice: original.slice.clone(),
        };
        let page_bytes = page_bytes(self.held.record.attempts);
        let consistency = self.survey_consistency;
        let mut walk = Walk::new(table, original.clone(), bounds, page_bytes, consistency);
        let to = target.partition(&original);
        let mut since = 0;
        // Not counted among the pages that tell of others: nothing of this splitter's own is written beside it.
        let mut ahead = walk.next(&*splitting.parts.events).await?;
        while let Some(page) = ahead {
            splitting.metrics.read(self.namespace, page.bytes_read);
            let mut rows = Checksum::default();
            for event in &page.events {
                rows.add_event(&original.time_series_id, event);
            }
            // The next page is read while this one is written.
            let append = self.append(&to, page.events, &copied);
            let (appended, next) = join(append, splitting.next_page(&mut walk)).await;
            appended?;
            splitting.metrics.written(self.namespace, rows.bytes);
            copied.checksum_rows += rows.rows;
            copied.bytes += rows.bytes;
            since += page.bytes_read;
            if since >= splitting.settings.checkpoint_bytes {
                since = 0;
                self.checkpoint(&copied).await?;
            }
            self.wait(page.bytes_read, Some(&copied)).await?;
            ahead = next?;
        }
        copied.targets += 1;
        self.checkpoint(&copied).await?;
        splitting.metrics.target_copied(self.namespace);
        Ok(())
    }

    /// Appends to one target, a batch at a time.
    async fn append(
        &mut self,
        target: &PartitionKey,
        events: Vec<Event>,
        copied: &Copied,
    ) -> Result<(), Stop> {
        let splitting = self.splitting;
        let mut events = events.into_iter().peekable();
        while events.peek().is_some() {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while let Some(event) = events.next_if(|event| {
                batch.is_empty() || bytes + event.content_bytes() <= splitting.settings.batch_bytes
            }) {
                bytes += event.content_bytes();
                batch.push(event);
            }
            self.hold(copied).await?;
            let part = PartitionAppend {
                table: wide_table(self.namespace, target),
                partition: target.clone(),
                events: batch,
                consistency: Consistency::default(),
            };
            if let Err(failure) = splitting.parts.events.append(vec![part]).await {
                let first = failure.failed.into_iter().next();
                let error = first.map_or(StoreError::Overloaded, |(_, error)| error);
                return Err(Stop::Store(error));
            }
        }
        Ok(())
    }

    /// What a target holds, all of it.
    async fn read_back(&mut self, target: &Target) -> Result<Checksum, Stop> {
        let original = self.held.record.partition.clone();
        let partition = target.partition(&original);
        let bounds = EventBounds::of_interval(TimeInterval::ALL);
        let page_bytes = page_bytes(self.held.record.attempts);
        let mut walk = Walk::new(
            wide_table(self.namespace, &partition),
            partition,
            bounds,
            page_bytes,
            Consistency::default(),
        );
        let mut found = Checksum::default();
        while let Some(page) = self.splitting.next_page(&mut walk).await? {
            self.splitting.metrics.validated(self.namespace, page.bytes_read);
            for event in &page.events {
                found.add_event(&original.time_series_id, event);
            }
            self.wait(page.bytes_read, None).await?;
        }
        Ok(found)
    }

    /// Waits as the pace asks after a page, and does not let the lease lapse meanwhile.
    async fn wait(&mut self, bytes: u64, copied: Option<&Copied>) -> Result<(), Stop> {
        let clock = &self.splitting.parts.clock;
        let foreground = self.splitting.foreground();
        let elapsed = clock.elapsed();
        let wait = self
            .pace
            .after_page(elapsed, bytes, self.bytes_per_second, foreground);
        let until = elapsed.saturating_add(wait);
        loop {
            let elapsed = clock.elapsed();
            let renew = self.stored_at.saturating_add(self.splitting.settings.lease / 3);
            if elapsed >= renew {
                match copied {
                    Some(copied) => self.checkpoint(copied).await?,
                    None => self.renew().await?,
                }
                continue;
            }
            if elapsed >= until {
                return Ok(());
            }
            clock.sleep(until.min(renew).saturating_sub(elapsed)).await;
        }
    }

    /// Makes sure that it is still this splitter's turn. One that slept for longer than its lease may have been
    /// overtaken, and its targets removed: what it wrote now nobody would ever remove.
    async fn hold(&mut self, copied: &Copied) -> Result<(), Stop> {
        let (clock, lease) = (&self.splitting.parts.clock, self.splitting.settings.lease);
        while clock.elapsed().saturating_sub(self.stored_at) >= lease {
            self.checkpoint(copied).await?;
        }
        Ok(())
    }

    async fn checkpoint(&mut self, copied: &Copied) -> Result<(), Stop> {
        let (fence, copied) = (self.held.record.fence, copied.clone());
        self.step(Step::Copied { fence, copied }).await?;
        self.splitting.metrics.checkpoint(self.namespace);
        Ok(())
    }

    /// Claims again what is one's own: reading back has no checkpoint that would keep the lease.
    async fn renew(&mut self) -> Result<(), Stop> {
        let lease = Lease {
            owner: self.splitting.owner,
        };
        self.step(Step::Split { lease }).await
    }

    async fn step(&mut self, step: Step) -> Result<(), Stop> {
        let splitting = self.splitting;
        let sent_at = splitting.parts.clock.elapsed();
        let moved = splitting
            .splits
            .step(self.namespace, &self.held, step, splitting.now());
        match moved.await? {
            Moved::To(held) => self.held = held,
            Moved::Overtaken => return Err(Stop::Overtaken),
            Moved::Illegal(illegal) => {
                // The fence and the state were right when it was claimed, and the version says that nobody moved it.
                warn!(namespace = %self.namespace, %illegal, "split took a step that its record does not allow");
                return Err(Stop::Overtaken);
            }
        }
        self.stored_at = sent_at;
        Ok(())
    }
}

pub(crate) fn wide_table(namespace: &NamespaceName, partition: &PartitionKey) -> TableName {
    TableName {
        namespace: namespace.clone(),
        kind: TableKind::Wide,
        slice: partition.slice.clone(),
    }
}
