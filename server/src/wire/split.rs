//! Splits of wide partitions, and the sizes of partitions: partitions in, records out.

use anabranch_model::{PartitionKey, SliceName};
use anabranch_proto::admin::v1 as pb;
use anabranch_split::record::total;
use anabranch_split::{Checksum, SplitRecord, SplitState, Target};
use anabranch_storage::{ListedSplit, UnreadableSplit};
use pb::split::State;

use super::fields::{self, timestamp, wire_i32, wire_i64};
use crate::admin::{PartitionSize, PartitionSizes, PlanPreviewed};
use crate::errors::{Reason, ServiceError};

/// The partition of a request.
///
/// # Errors
/// `INVALID_PARTITION`.
pub fn partition(partition: Option<&pb::Partition>) -> Result<PartitionKey, ServiceError> {
    let invalid = |path: &str, problem: String| {
        let path = format!("partition{path}");
        ServiceError::of_field(Reason::InvalidPartition, path, problem)
    };
    let partition = partition.ok_or_else(|| invalid("", "must be given".to_owned()))?;
    let refused = |path: &str| {
        let path = format!("partition.{path}");
        move |why| fields::refused(Reason::InvalidPartition, &path, &why)
    };
    Ok(PartitionKey {
        slice: SliceName::new(partition.time_slice.as_str()).map_err(refused("time_slice"))?,
        time_series_id: anabranch_model::TimeSeriesId::new(partition.time_series_id.as_str())
            .map_err(refused("time_series_id"))?,
        time_bucket: partition.time_bucket,
        event_bucket: u32::try_from(partition.event_bucket).map_err(|_| {
            let problem = format!("is {}, and can not be negative", partition.event_bucket);
            invalid(".event_bucket", problem)
        })?,
    })
}

/// The slice of a request; `None` when it names none.
///
/// # Errors
/// `INVALID_PARTITION`.
pub fn time_slice(name: &str) -> Result<Option<SliceName>, ServiceError> {
    if name.is_empty() {
        return Ok(None);
    }
    let refused = |why| fields::refused(Reason::InvalidPartition, "time_slice", &why);
    SliceName::new(name).map(Some).map_err(refused)
}

/// The state of a request, by the name that records have for it; `None` for any.
///
/// # Errors
/// `INVALID_SPLIT_STATE`.
pub fn state(state: i32) -> Result<Option<&'static str>, ServiceError> {
    match State::try_from(state) {
        Ok(State::Unspecified) => Ok(None),
        Ok(state) => Ok(Some(state.as_str_name())),
        Err(_) => {
            let problem = format!("is {state}, which is no state of a split");
            Err(ServiceError::of_field(
                Reason::InvalidSplitState,
                "state",
                problem,
            ))
        }
    }
}

/// A partition on the wire.
pub fn wire_partition(partition: &PartitionKey) -> pb::Partition {
    pb::Partition {
        time_slice: partition.slice.to_string(),
        time_series_id: partition.time_series_id.to_string(),
        time_bucket: partition.time_bucket,
        event_bucket: wire_i32(partition.event_bucket.into()),
    }
}

/// A split of a list on the wire, without its targets.
pub fn listed(split: &ListedSplit) -> pb::Split {
    match split {
        ListedSplit::Read(stored) => self::split(&stored.record),
        ListedSplit::Unreadable(split) => unreadable(split),
    }
}

/// A split on the wire, with its targets.
pub fn listed_with_targets(split: &ListedSplit) -> pb::Split {
    match split {
        ListedSplit::Read(stored) => split_with_targets(&stored.record),
        ListedSplit::Unreadable(split) => unreadable(split),
    }
}

/// What is known of a record that can not be read.
fn unreadable(split: &UnreadableSplit) -> pb::Split {
    pb::Split {
        partition: Some(wire_partition(&split.partition)),
        state: State::Unreadable.into(),
        reason: split.why.as_str().to_owned(),
        detail: split.why.to_string(),
        ..pb::Split::default()
    }
}

/// A record on the wire, without its targets.
pub fn split(record: &SplitRecord) -> pb::Split {
    let serving = record.serving.as_ref();
    let plan = record.plan();
    let source = source(record);
    // What is being made comes beside what is served, or in its place.
    let kept = match (serving, plan) {
        (Some(_), Some(plan)) if !plan.extends => 0,
        (Some(serving), _) => serving.targets.len(),
        (None, _) => 0,
    };
    let made = plan.map_or(0, |plan| plan.targets.len());
    let copied = match &record.state {
        SplitState::Splitting { copied, .. } => (copied.targets.into(), copied.bytes),
        SplitState::Verifying { plan, .. } => (plan.targets.len() as u64, total(&plan.targets).bytes),
        _ => (0, 0),
    };
    let retry = match &record.state {
        SplitState::Parked { due } => Some(*due),
        SplitState::Failed { retry } => Some(*retry),
        _ => None,
    };
    let boundary = serving
        .map(|serving| serving.boundary)
        .or(plan.map(|plan| plan.boundary));
    let retiring: usize = record
        .retiring
        .iter()
        .map(|retiring| retiring.event_buckets.len())
        .sum();
    pb::Split {
        partition: Some(wire_partition(&record.partition)),
        state: wire_state(&record.state).into(),
        generation: wire_i32(record.generation.into()),
        source_bytes: wire_i64(source.bytes),
        source_events: wire_i64(source.rows),
        target_count: wire_i32((kept + made) as u64),
        reason: record
            .reason
            .map_or_else(String::new, |reason| reason.as_str().to_owned()),
        detail: record.detail.clone(),
        attempts: wire_i32(record.attempts.into()),
        create_time: timestamp(record.created),
        update_time: timestamp(record.updated),
        retry_time: retry.and_then(timestamp),
        boundary: boundary.and_then(timestamp),
        serving_generation: serving.map_or(0, |serving| wire_i32(serving.generation.into())),
        serving_since: serving.and_then(|serving| timestamp(serving.since)),
        capped: plan.is_some_and(|plan| plan.capped),
        gain_ratio: record
            .gain
            .filter(|gain| gain.targets_micros > 0)
            .map(|gain| gain.original_micros as f64 / gain.targets_micros as f64),
        compared_reads: record.gain.map_or(0, |gain| wire_i64(gain.reads)),
        targets_copied: wire_i32(copied.0),
        bytes_copied: wire_i64(copied.1),
        targets_retiring: wire_i32(retiring as u64),
        targets: Vec::new(),
    }
}

/// A record on the wire, with its targets.
pub fn split_with_targets(record: &SplitRecord) -> pb::Split {
    let served = record
        .serving
        .iter()
        .flat_map(|serving| &serving.targets)
        .map(|target| wire_target(target, true));
    let made = record
        .plan()
        .into_iter()
        .flat_map(|plan| &plan.targets)
        .map(|target| wire_target(target, false));
    pb::Split {
        targets: served.chain(made).collect(),
        ..split(record)
    }
}

/// What would be planned, on the wire.
pub fn preview(previewed: &PlanPreviewed) -> pb::SplitPreview {
    let plan = previewed.plan.as_ref();
    pb::SplitPreview {
        boundary: previewed.boundary.and_then(timestamp),
        source_bytes: wire_i64(previewed.bytes),
        source_events: wire_i64(previewed.rows),
        reason: previewed
            .reason
            .map_or_else(String::new, |reason| reason.as_str().to_owned()),
        capped: plan.is_some_and(|plan| plan.capped),
        extends: plan.is_some_and(|plan| plan.extends),
        targets: plan
            .into_iter()
            .flat_map(|plan| &plan.targets)
            .map(|target| wire_target(target, false))
            .collect(),
    }
}

/// Sizes on the wire.
pub fn sizes(sizes: &PartitionSizes) -> pb::GetPartitionSizesResponse {
    let percentiles = sizes.percentiles.map(|percentiles| {
        let [p50, p90, p99, max] =
            [percentiles.p50, percentiles.p90, percentiles.p99, percentiles.max].map(wire_i64);
        pb::get_partition_sizes_response::Percentiles { p50, p90, p99, max }
    });
    pb::GetPartitionSizesResponse {
        time_slice: sizes.slice.to_string(),
        count: wire_i64(sizes.partitions),
        events: wire_i64(sizes.events),
        bytes: wire_i64(sizes.bytes),
        percentiles,
        widest: sizes.widest.iter().map(size).collect(),
        partial: sizes.partial.is_some(),
        partial_reason: sizes.partial.unwrap_or_default().to_owned(),
    }
}

fn size(size: &PartitionSize) -> pb::PartitionSize {
    pb::PartitionSize {
        partition: Some(wire_partition(&size.partition)),
        bytes: wire_i64(size.bytes),
        events: wire_i64(size.events),
        at_least: size.at_least,
    }
}

fn wire_target(target: &Target, serving: bool) -> pb::SplitTarget {
    let Checksum {
        rows,
        bytes,
        sum,
        crc,
    } = target.checksum;
    pb::SplitTarget {
        generation: wire_i32(target.generation.into()),
        event_bucket: wire_i32(target.event_bucket.into()),
        oldest_event_time: timestamp(target.oldest.time),
        oldest_event_id: target.oldest.id.to_string(),
        newest_event_time: timestamp(target.newest.time),
        newest_event_id: target.newest.id.to_string(),
        bytes: wire_i64(bytes),
        events: wire_i64(rows),
        checksum: format!("{sum:032x}-{crc:08x}"),
        serving,
    }
}

/// What the split is about: what its targets hold or are to hold, or what is known of it so far.
fn source(record: &SplitRecord) -> Checksum {
    let bytes_only = |bytes| Checksum {
        bytes,
        ..Checksum::default()
    };
    let served = record.serving.as_ref().map(anabranch_split::Serving::total);
    let beside = |extends: bool, more: Checksum| match &served {
        Some(served) if extends => served.then(&more),
        _ => more,
    };
    match &record.state {
        SplitState::Planning { task, .. } => beside(task.extends, task.survey.total()),
        SplitState::Planned { plan }
        | SplitState::Splitting { plan, .. }
        | SplitState::Verifying { plan, .. } => beside(plan.extends, total(&plan.targets)),
        SplitState::NotWorthIt { bytes, .. } => bytes_only(*bytes),
        _ => served.unwrap_or_else(|| bytes_only(record.detected_bytes)),
    }
}

fn wire_state(state: &SplitState) -> State {
    match state {
        SplitState::Detected => State::Detected,
        SplitState::Parked { .. } => State::Parked,
        SplitState::Planning { .. } => State::Planning,
        SplitState::Planned { .. } => State::Planned,
        SplitState::Splitting { .. } => State::Splitting,
        SplitState::Verifying { .. } => State::Verifying,
        SplitState::Completed => State::Completed,
        SplitState::NotWorthIt { .. } => State::NotWorthIt,
        SplitState::Failed { .. } => State::Failed,
        SplitState::Quarantined => State::Quarantined,
        SplitState::Invalidated => State::Invalidated,
        SplitState::Retired => State::Retired,
    }
}

#[cfg(test)]
mod tests;
