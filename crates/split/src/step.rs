//! What happens to a split: the steps that [`crate::state`] lets its record take, or refuses.

use anabranch_model::EventTime;

use crate::checksum::Checksum;
use crate::lease::Lease;
use crate::record::{Copied, Gain, Retiring, RetryPolicy, SplitPlan, SplitReason, SurveyTask};

/// What happens to a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A read found the partition (still, or again) wide.
    Detect {
        /// Bytes that it had read of the original.
        bytes: u64,
    },
    /// It can not be split yet.
    Park {
        /// When to look again, at the latest.
        due: EventTime,
        /// Why.
        reason: SplitReason,
    },
    /// A planner begins to survey, or goes on where another stopped.
    Survey {
        /// The planner.
        lease: Lease,
        /// What is surveyed; what is there of an earlier planner under the same basis goes on instead.
        task: SurveyTask,
    },
    /// A survey's checkpoint.
    Surveyed {
        /// The planner's fence.
        fence: u64,
        /// How far it has come.
        task: SurveyTask,
    },
    /// The survey is over, and this is to be done.
    Plan {
        /// The planner's fence.
        fence: u64,
        /// The plan.
        plan: SplitPlan,
    },
    /// The survey is over, and nothing is to be done.
    Leave {
        /// The planner's fence.
        fence: u64,
        /// Bytes that it found.
        bytes: u64,
    },
    /// A splitter begins to copy, or goes on where another stopped.
    Split {
        /// The splitter.
        lease: Lease,
    },
    /// A copy's checkpoint.
    Copied {
        /// The splitter's fence.
        fence: u64,
        /// How far it has come.
        copied: Copied,
    },
    /// Everything is written.
    Verify {
        /// The splitter's fence.
        fence: u64,
    },
    /// Every target was read back.
    Verified {
        /// The splitter's fence.
        fence: u64,
        /// What each target held, in the order of the plan.
        read_back: Vec<Checksum>,
        /// What is done about a difference.
        retry: RetryPolicy,
    },
    /// The worker could not go on.
    Fail {
        /// The worker's fence.
        fence: u64,
        /// Why.
        reason: SplitReason,
        /// In words.
        detail: String,
        /// What is done about it.
        retry: RetryPolicy,
    },
    /// Nothing of it may be served, or made, any more.
    Invalidate {
        /// Why.
        reason: SplitReason,
    },
    /// An operator sends it round again.
    Retry,
    /// The first of the retiring target buckets are removed.
    Removed {
        /// Which.
        retiring: Retiring,
    },
    /// A read was made both ways.
    Measured {
        /// What all such reads found.
        gain: Gain,
    },
}

/// A step that a record does not allow.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("a split in state {from} does not take the step {step}: {why}")]
pub struct IllegalStep {
    /// The record's state.
    pub from: &'static str,
    /// The step.
    pub step: &'static str,
    /// What is wrong.
    pub why: &'static str,
}

impl Step {
    /// Its name, as in the docs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Detect { .. } => "detect",
            Self::Park { .. } => "park",
            Self::Survey { .. } => "survey",
            Self::Surveyed { .. } => "surveyed",
            Self::Plan { .. } => "plan",
            Self::Leave { .. } => "leave",
            Self::Split { .. } => "split",
            Self::Copied { .. } => "copied",
            Self::Verify { .. } => "verify",
            Self::Verified { .. } => "verified",
            Self::Fail { .. } => "fail",
            Self::Invalidate { .. } => "invalidate",
            Self::Retry => "retry",
            Self::Removed { .. } => "removed",
            Self::Measured { .. } => "measured",
        }
    }

    /// Of the worker that takes it; none when nobody has to hold a lease for it.
    pub(crate) fn fence(&self) -> Option<u64> {
        match self {
            Self::Surveyed { fence, .. }
            | Self::Plan { fence, .. }
            | Self::Leave { fence, .. }
            | Self::Copied { fence, .. }
            | Self::Verify { fence }
            | Self::Verified { fence, .. }
            | Self::Fail { fence, .. } => Some(*fence),
            _ => None,
        }
    }
}
