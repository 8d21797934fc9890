//! Splits of wide partitions as an operator sees and moves them.
//!
//! ```text
//! list, get ─▶ split records            plan, retry, invalidate ─▶ step ─▶ compare-and-set      the workers do the rest
//!                                       plan, dry run ─▶ PlanPreview (the planner, where this process has one)
//! ```
//!
//! - A record moves only by the one transition function; what it refuses is `SPLIT_STATE`.
//! - A record that this version can not read is shown as such, and not moved: `SPLIT_RECORD_UNREADABLE`.
//! - Nothing here waits for a planner or splitter: they find what changed by themselves.

use std::fmt;
use std::sync::Arc;

use anabranch_model::namespace::Rollout;
use anabranch_model::{
    EventTime, NamespaceName, PartitionKey, SliceName, SliceState, TimeSeriesId, TimeSlice,
};
use anabranch_split::{SplitPlan, SplitReason, SplitRecord, SplitState, Step};
use anabranch_storage::{ListedSplit, Moved, SplitRecords, SplitSlot, StoredSplit, UnreadableSplit};
use async_trait::async_trait;

use super::page::{Cursor, List};
use super::{Admin, Page, PageRequest};
use crate::errors::{Reason, ServiceError};
use crate::namespaces::NamespaceView;

/// Records that one page of a list looks at: a page of a rare state stays bounded, and may be short.
const RECORDS_A_PAGE_MAX: usize = 10_000;

/// The state of a record that can not be read, as it is named on the wire.
const UNREADABLE: &str = "UNREADABLE";

/// What would be planned for a partition now.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanPreviewed {
    /// Events before this would be divided; `None` when nothing of the partition is immutable yet.
    pub boundary: Option<EventTime>,
    /// Bytes that were surveyed.
    pub bytes: u64,
    /// Rows that were surveyed: one for each item of each event.
    pub rows: u64,
    /// The plan; `None` when nothing would be divided.
    pub plan: Option<SplitPlan>,
    /// Why nothing would be divided.
    pub reason: Option<SplitReason>,
}

/// Says what would be planned, without storing anything: the planner, where a process has one.
#[async_trait]
pub trait PlanPreview: fmt::Debug + Send + Sync + 'static {
    /// Surveys a partition as it stands, and decides.
    async fn preview(
        &self,
        namespace: &NamespaceName,
        partition: &PartitionKey,
    ) -> Result<PlanPreviewed, ServiceError>;
}

impl Admin {
    /// Tells who says what would be planned. The first one stays.
    pub fn set_plan_preview(&self, preview: Arc<dyn PlanPreview>) {
        // A second one would say the same: it is the same planner's.
        let _ = self.preview.set(preview);
    }

    /// A page of a namespace's splits, of those in a state (as [`state_name`] has it) if one is given. It may hold fewer
    /// than asked for before the end.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND`, `PAGE_TOKEN_INVALID`, `PAGE_TOKEN_MISMATCH`.
    pub async fn list_splits(
        &self,
        name: &NamespaceName,
        state: Option<&'static str>,
        page: &PageRequest,
    ) -> Result<Page<ListedSplit>, ServiceError> {
        // A name has no space, so this is one namespace and one state.
        let of = format!("{name} {}", state.unwrap_or_default());
        let cursor = |partition: &PartitionKey| Cursor::new(List::Splits, &of, &partition.to_string());
        let mut after = match page.cursor(List::Splits, &of)? {
            Some(cursor) => Some(partition_of(&cursor.after).ok_or_else(super::page::invalid)?),
            None => None,
        };
        self.namespaces.view(name).await?;
        let splits = self.splits();
        let (mut entries, mut seen) = (Vec::new(), 0);
        loop {
            let wanted = page.size() + 1 - entries.len();
            let at_once = if state.is_some() { 500 } else { wanted };
            let found = splits.list(name, after.as_ref(), at_once).await?;
            seen += found.len();
            let ended = found.len() < at_once;
            let last = found.last().map(|split| split.partition().clone());
            let fitting = found
                .into_iter()
                .filter(|split| state.is_none_or(|state| state_name(split) == state));
            entries.extend(fitting);
            if ended || entries.len() > page.size() {
                return Ok(page.cut(entries, |split| cursor(split.partition())));
            }
            if let Some(last) = last {
                if seen >= RECORDS_A_PAGE_MAX {
                    return Ok(Page {
                        entries,
                        next_page_token: cursor(&last).token(),
                    });
                }
                after = Some(last);
            }
        }
    }

    /// What has happened to a partition.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND`, `SPLIT_NOT_FOUND`.
    pub async fn get_split(
        &self,
        name: &NamespaceName,
        partition: &PartitionKey,
    ) -> Result<ListedSplit, ServiceError> {
        self.namespaces.view(name).await?;
        match self.splits().get(name, partition).await? {
            SplitSlot::Taken(split) => Ok(ListedSplit::Read(split)),
            SplitSlot::Unreadable(split) => Ok(ListedSplit::Unreadable(split)),
            SplitSlot::Free { .. } => Err(not_found(name, partition)),
        }
    }

    /// Has a partition surveyed and split. Nothing happens when that is under way.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND`, `INVALID_PARTITION`, `TIME_SLICE_NOT_FOUND`, `TIME_SLICE_CLOSED`, `SPLITTING_OFF`,
    /// `SPLIT_RECORD_UNREADABLE`.
    pub async fn plan_split(
        &self,
        name: &NamespaceName,
        partition: &PartitionKey,
    ) -> Result<SplitRecord, ServiceError> {
        let view = self.namespaces.view(name).await?;
        check_partition(&view, partition)?;
        let rollout = view.settings.wide_partition.rollout;
        if matches!(rollout, Rollout::Off | Rollout::Detect) {
            let problem = format!("namespace `{name}` does not have its wide partitions split");
            return Err(ServiceError::new(Reason::SplittingOff, problem)
                .with("namespace", name)
                .with("rollout", format!("{rollout:?}").to_uppercase()));
        }
        let splits = self.splits();
        // Ends: another round means that somebody else's change went through.
        loop {
            let now = self.namespaces.now();
            let moved = match splits.get(name, partition).await? {
                SplitSlot::Free { version } => {
                    let record = SplitRecord::detected(partition.clone(), 0, now);
                    splits.create(name, version, record).await?
                }
                SplitSlot::Taken(split) => match again(&split.record) {
                    Some(step) => splits.step(name, &split, step, now).await?,
                    None => Moved::To(split),
                },
                SplitSlot::Unreadable(split) => return Err(unreadable(name, &split)),
            };
            match moved {
                Moved::To(split) => return Ok(*split.record),
                Moved::Overtaken => {}
                Moved::Illegal(illegal) => return Err(refused(name, partition, &illegal)),
            }
        }
    }

    /// What would be planned for a partition now; nothing is stored.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND`, `INVALID_PARTITION`, `TIME_SLICE_NOT_FOUND`, `TIME_SLICE_CLOSED`,
    /// `PLAN_PREVIEW_UNAVAILABLE`, those of the planner.
    pub async fn preview_split(
        &self,
        name: &NamespaceName,
        partition: &PartitionKey,
    ) -> Result<PlanPreviewed, ServiceError> {
        let view = self.namespaces.view(name).await?;
        check_partition(&view, partition)?;
        let Some(preview) = self.preview.get() else {
            let problem = "this server runs no planner that could say what it would plan";
            return Err(ServiceError::new(Reason::PlanPreviewUnavailable, problem)
                .with("namespace", name)
                .with("partition", partition));
        };
        preview.preview(name, partition).await
    }

    /// Sends a split round again, its failures forgotten.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND`, `SPLIT_NOT_FOUND`, `SPLIT_STATE`, `SPLIT_RECORD_UNREADABLE`.
    pub async fn retry_split(
        &self,
        name: &NamespaceName,
        partition: &PartitionKey,
    ) -> Result<SplitRecord, ServiceError> {
        self.step_split(name, partition, &Step::Retry).await
    }

    /// Stops a split from being served, or made.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND`, `SPLIT_NOT_FOUND`, `SPLIT_STATE`, `SPLIT_RECORD_UNREADABLE`.
    pub async fn invalidate_split(
        &self,
        name: &NamespaceName,
        partition: &PartitionKey,
    ) -> Result<SplitRecord, ServiceError> {
        let reason = SplitReason::Operator;
        let invalidated = self
            .step_split(name, partition, &Step::Invalidate { reason })
            .await;
        // Not served by this server any more, at once; by others when they look it up again. Whatever became of it:
        // an error may hide a change that was stored.
        self.served.forget(name, partition).await;
        invalidated
    }

    async fn step_split(
        &self,
        name: &NamespaceName,
        partition: &PartitionKey,
        step: &Step,
    ) -> Result<SplitRecord, ServiceError> {
        // Ends: another round means that somebody else's change went through.
        loop {
            let split = self.existing_split(name, partition).await?;
            let now = self.namespaces.now();
            match self.splits().step(name, &split, step.clone(), now).await? {
                Moved::To(split) => return Ok(*split.record),
                Moved::Overtaken => {}
                Moved::Illegal(illegal) => return Err(refused(name, partition, &illegal)),
            }
        }
    }

    async fn existing_split(
        &self,
        name: &NamespaceName,
        partition: &PartitionKey,
    ) -> Result<StoredSplit, ServiceError> {
        match self.get_split(name, partition).await? {
            ListedSplit::Read(split) => Ok(split),
            ListedSplit::Unreadable(split) => Err(unreadable(name, &split)),
        }
    }

    fn splits(&self) -> SplitRecords {
        SplitRecords::new(self.store.records.clone())
    }
}

/// The step that has a partition surveyed again; `None` while that is under way.
fn again(record: &SplitRecord) -> Option<Step> {
    match record.state {
        SplitState::Detected
        | SplitState::Planning { .. }
        | SplitState::Planned { .. }
        | SplitState::Splitting { .. }
        | SplitState::Verifying { .. } => None,
        SplitState::Completed => Some(Step::Detect {
            bytes: record.detected_bytes,
        }),
        SplitState::Parked { .. }
        | SplitState::NotWorthIt { .. }
        | SplitState::Failed { .. }
        | SplitState::Quarantined
        | SplitState::Invalidated
        | SplitState::Retired => Some(Step::Retry),
    }
}

/// The state of a split as it is named on the wire.
fn state_name(split: &ListedSplit) -> &'static str {
    match split {
        ListedSplit::Read(split) => split.record.state.name(),
        ListedSplit::Unreadable(_) => UNREADABLE,
    }
}

fn not_found(name: &NamespaceName, partition: &PartitionKey) -> ServiceError {
    let problem = format!("partition `{partition}` of namespace `{name}` was never found wide");
    ServiceError::new(Reason::SplitNotFound, problem)
        .with("namespace", name)
        .with("partition", partition)
}

fn unreadable(name: &NamespaceName, split: &UnreadableSplit) -> ServiceError {
    let UnreadableSplit { partition, why, .. } = split;
    let problem = format!("split of `{partition}` is left alone here: {why}");
    ServiceError::new(Reason::SplitRecordUnreadable, problem)
        .with("namespace", name)
        .with("partition", partition)
        .with("why", why.as_str())
        .with("problem", why)
}

fn refused(
    name: &NamespaceName,
    partition: &PartitionKey,
    illegal: &anabranch_split::IllegalStep,
) -> ServiceError {
    let problem = format!(
        "split of `{partition}` is {} and does not take `{}`: {}",
        illegal.from, illegal.step, illegal.why
    );
    ServiceError::new(Reason::SplitState, problem)
        .with("namespace", name)
        .with("partition", partition)
        .with("state", illegal.from)
        .with("step", illegal.step)
        .with("problem", illegal.why)
}

/// The open slice of a name.
pub(super) fn open_slice<'a>(
    view: &'a NamespaceView,
    slice: &SliceName,
) -> Result<&'a TimeSlice, ServiceError> {
    let name = &view.name;
    let Some(found) = view
        .slice_named(slice)
        .filter(|found| found.state != SliceState::Dropped)
    else {
        let problem = format!("namespace `{name}` has no time slice `{slice}`");
        return Err(ServiceError::new(Reason::TimeSliceNotFound, problem)
            .with("namespace", name)
            .with("timeSlice", slice));
    };
    if found.state == SliceState::Closed {
        let problem = format!("time slice `{slice}` of namespace `{name}` is past its retention");
        return Err(ServiceError::new(Reason::TimeSliceClosed, problem)
            .with("namespace", name)
            .with("timeSlice", slice));
    }
    Ok(found)
}

/// A partition that its open slice can have.
fn check_partition(view: &NamespaceView, partition: &PartitionKey) -> Result<(), ServiceError> {
    let slice = open_slice(view, &partition.slice)?;
    let buckets = slice.settings.event_buckets;
    if partition.event_bucket >= buckets {
        let problem = format!(
            "is {}; the slice has {buckets} event buckets, counted from 0",
            partition.event_bucket
        );
        let path = "partition.event_bucket";
        return Err(ServiceError::of_field(Reason::InvalidPartition, path, problem));
    }
    if slice.bucket_interval(partition.time_bucket).is_empty() {
        let problem = format!("is {}; the slice has no such time bucket", partition.time_bucket);
        let path = "partition.time_bucket";
        return Err(ServiceError::of_field(Reason::InvalidPartition, path, problem));
    }
    Ok(())
}

/// The partition as it is written.
fn partition_of(text: &str) -> Option<PartitionKey> {
    let [slice, id, time_bucket, event_bucket] = PartitionKey::split_text(text)?;
    Some(PartitionKey {
        slice: SliceName::new(slice).ok()?,
        time_series_id: TimeSeriesId::new(id).ok()?,
        time_bucket: time_bucket.parse().ok()?,
        event_bucket: event_bucket.parse().ok()?,
    })
}

#[cfg(test)]
mod tests;
