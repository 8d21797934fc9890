//! Which record needs a planner, and what for.

use std::time::Duration;

use anabranch_catalog::{Ground, Look, Wake};
use anabranch_model::EventTime;
use anabranch_model::namespace::Rollout;
use anabranch_split::planted::{Bug, planted};
use anabranch_split::{Basis, SplitReason, SplitRecord, SplitState};

/// What a record needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// A survey.
    Survey,
    /// A survey, if whoever is at it has died.
    SurveyIfLapsed,
    /// To be made and served no more.
    Invalidate,
    /// To be detected again: what was wrong with it is no reason to leave it.
    Detect,
    /// Nothing, until then.
    Nothing(Wake),
}

impl Need {
    pub(crate) fn look(self, lapsed: impl FnOnce() -> bool) -> Look {
        match self {
            Self::Nothing(wake) => Look::Idle(wake),
            Self::SurveyIfLapsed if !lapsed() => Look::Idle(Wake::Next),
            _ => Look::Needed,
        }
    }
}

/// What a record needs on this ground; there is none when its slice is not open.
pub(crate) fn need(record: &SplitRecord, ground: Option<&Ground>, now: EventTime) -> Need {
    let Some(ground) = ground else {
        let idle = matches!(record.state, SplitState::Invalidated | SplitState::Retired);
        return if idle && record.serving.is_none() {
            Need::Nothing(Wake::Change)
        } else {
            Need::Invalidate
        };
    };
    if bases(record).any(|basis| basis != ground.basis) {
        return Need::Invalidate;
    }
    if ground.settings.wide_partition.rollout < Rollout::Split {
        return Need::Nothing(Wake::Change);
    }
    let bucket = ground.slice.bucket_interval(record.partition.time_bucket);
    let justified = ground.justified(now);
    match &record.state {
        SplitState::Detected => Need::Survey,
        SplitState::Planning { .. } => Need::SurveyIfLapsed,
        SplitState::Failed { retry } if *retry <= now => Need::Survey,
        SplitState::Failed { retry } => Need::Nothing(Wake::At(*retry)),
        SplitState::Parked { .. } if planted(Bug::ParkedNeverDue) => Need::Nothing(Wake::Change),
        SplitState::Parked { due } => {
            let enough = match record.reason {
                Some(SplitReason::Mutable) => served(record, ground.basis).max(bucket.start),
                // More of it has to come, or nothing more can.
                _ => bucket.end,
            };
            let sooner = match record.reason {
                Some(SplitReason::Mutable) => justified.is_some_and(|before| before > enough),
                _ => justified.is_some_and(|before| before >= enough),
            };
            if *due <= now || sooner {
                Need::Survey
            } else {
                Need::Nothing(Wake::At(*due))
            }
        }
        SplitState::Invalidated | SplitState::Retired if heals(record.reason) => {
            if justified.is_some_and(|before| before > bucket.start) {
                Need::Detect
            } else {
                Need::Nothing(again(ground, bucket.start, now))
            }
        }
        _ => Need::Nothing(Wake::Change),
    }
}

/// Before this, targets are served under this basis; the beginning of time when none are.
pub(crate) fn served(record: &SplitRecord, basis: Basis) -> EventTime {
    let serving = record.serving.as_ref().filter(|serving| serving.basis == basis);
    serving.map_or(EventTime::from_micros(i64::MIN), |serving| serving.boundary)
}

fn bases(record: &SplitRecord) -> impl Iterator<Item = Basis> {
    let survey = match &record.state {
        SplitState::Planning { task, .. } => Some(task.basis),
        _ => None,
    };
    let plan = record.plan().map(|plan| plan.basis);
    let serving = record.serving.as_ref().map(|serving| serving.basis);
    [survey, plan, serving].into_iter().flatten()
}

/// True for what was wrong with a split and not with splitting the partition.
fn heals(reason: Option<SplitReason>) -> bool {
    matches!(
        reason,
        Some(SplitReason::TargetDamaged | SplitReason::CompareMismatch | SplitReason::EpochChanged)
    )
}

/// When the accept limit is to have made something from `start` on immutable.
fn again(ground: &Ground, start: EventTime, now: EventTime) -> Wake {
    let limit = ground.settings.accept_limit;
    if limit.is_zero() {
        // Only a seal can, and that changes the namespace.
        return Wake::Change;
    }
    let at = immutable_from(start, limit);
    if at > now { Wake::At(at) } else { Wake::Next }
}

/// When what lies before `time` can be frozen for certain under an accept limit.
pub(crate) fn immutable_from(time: EventTime, accept_limit: Duration) -> EventTime {
    let margin = anabranch_catalog::freeze::SKEW_MARGIN + Duration::from_secs(1);
    time.saturating_add(accept_limit).saturating_add(margin)
}

#[cfg(test)]
mod tests;
