//! What a finished survey leads to. A function of values.

use anabranch_model::PartitionKey;
use anabranch_split::{
    CHECKSUM_VERSION, Decision, EventBucketSplit, SplitPlan, SplitRecord, SurveyTask, Target, target_bucket,
};

/// What is done after a survey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// This is to be carried out.
    Plan(SplitPlan),
    /// It is too small.
    TooSmall,
    /// There is no room beside the targets that are served: the whole is to be surveyed.
    Anew,
    /// The wide table has no event buckets left for another generation.
    Exhausted,
}

/// The strategy for a survey of this record, where it adds to what is served or begins anew.
pub(crate) fn strategy(record: &SplitRecord, task: &SurveyTask) -> EventBucketSplit {
    EventBucketSplit {
        aim: task.aim,
        kept: record.extendable(task).map_or(0, |serving| serving.targets.len()),
    }
}

/// What a finished survey leads to in generation `generation` of a partition.
pub(crate) fn verdict(
    partition: &PartitionKey,
    strategy: &EventBucketSplit,
    task: &SurveyTask,
    generation: u32,
    event_buckets: u32,
) -> Verdict {
    let (ranges, capped) = match strategy.decide(&task.survey) {
        Decision::NotWorthIt => return Verdict::TooSmall,
        Decision::DivideAnew => return Verdict::Anew,
        Decision::Divide { ranges, capped } => (ranges, capped),
    };
    let targets = ranges.into_iter().zip(0u32..).map(|(range, index)| {
        let event_bucket = target_bucket(generation, event_buckets, partition.event_bucket, index)?;
        Some(Target {
            generation,
            event_bucket,
            oldest: range.oldest,
            newest: range.newest,
            checksum: range.checksum,
        })
    });
    match targets.collect::<Option<Vec<Target>>>() {
        None => Verdict::Exhausted,
        Some(targets) => Verdict::Plan(SplitPlan {
            basis: task.basis,
            extends: task.extends,
            boundary: task.boundary,
            targets,
            capped,
            checksum_version: CHECKSUM_VERSION,
        }),
    }
}
