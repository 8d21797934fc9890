//! The states of a split, and the only place where one moves.
//!
//! ```text
//! Detected ─▶ Planning ─▶ Planned ─▶ Splitting ─▶ Verifying ─▶ Completed ─▶ Invalidated ─▶ Retired
//!    ▲  │        │ │                     │             │            │             │           │
//!    │  └▶ Parked┘ └▶ NotWorthIt         └──────┬──────┘            │             │           │
//!    │                    │                     ▼                   │             │           │
//!    │                    │              Failed, Quarantined        │             │           │
//!    └────────────────────┴─────────────────────┴───────────────────┴─────────────┴───────────┘
//! ```
//!
//! Every edge, with the step that takes it, is in `docs/splits.md`; a test holds that page against this file.
//!
//! - S2: only [`Step::Verified`] completes, and only with checksums that are equal to the plan's.
//! - S3: completing replaces what is served; what it replaces is to be removed. A plan's targets are of its own generation.
//! - S5: a step of a worker whose fence is not the record's is refused.

use std::collections::BTreeSet;

use anabranch_model::EventTime;
use serde::{Deserialize, Serialize};

use crate::checksum::Checksum;
use crate::lease::Lease;
use crate::planted::{Bug, planted};
use crate::record::{
    Basis, Copied, Retiring, RetryPolicy, Serving, SplitPlan, SplitReason, SplitRecord, SurveyTask,
};
use crate::step::{IllegalStep, Step};
use crate::target::Target;

const NOT_EXTENDABLE: &str = "nothing is served that could be extended";

/// Where a generation stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum SplitState {
    /// A read found it wide.
    Detected,
    /// It can not be split before some time.
    Parked {
        /// When to look again, at the latest.
        due: EventTime,
    },
    /// Its original is being surveyed.
    Planning {
        /// By whom.
        lease: Lease,
        /// How far.
        task: SurveyTask,
    },
    /// It is known what to do.
    Planned {
        /// What.
        plan: SplitPlan,
    },
    /// Its targets are being written.
    Splitting {
        /// By whom.
        lease: Lease,
        /// What.
        plan: SplitPlan,
        /// How far.
        copied: Copied,
    },
    /// Its targets are being read back.
    Verifying {
        /// By whom.
        lease: Lease,
        /// What they have to hold.
        plan: SplitPlan,
    },
    /// Its targets are proved.
    Completed,
    /// Surveyed, and not worth dividing.
    NotWorthIt {
        /// What that rests on.
        basis: Basis,
        /// Bytes that the survey found.
        bytes: u64,
        /// Everything before this was surveyed.
        boundary: EventTime,
    },
    /// It is tried again.
    Failed {
        /// When.
        retry: EventTime,
    },
    /// It failed too often: an operator decides.
    Quarantined,
    /// What was served is not served any more.
    Invalidated,
    /// Nothing of it is left.
    Retired,
}

impl SplitState {
    /// All that [`Self::name`] says.
    pub const NAMES: [&str; 12] = [
        "DETECTED",
        "PARKED",
        "PLANNING",
        "PLANNED",
        "SPLITTING",
        "VERIFYING",
        "COMPLETED",
        "NOT_WORTH_IT",
        "FAILED",
        "QUARANTINED",
        "INVALIDATED",
        "RETIRED",
    ];

    /// As it is written on the wire, in logs and in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Detected => "DETECTED",
            Self::Parked { .. } => "PARKED",
            Self::Planning { .. } => "PLANNING",
            Self::Planned { .. } => "PLANNED",
            Self::Splitting { .. } => "SPLITTING",
            Self::Verifying { .. } => "VERIFYING",
            Self::Completed => "COMPLETED",
            Self::NotWorthIt { .. } => "NOT_WORTH_IT",
            Self::Failed { .. } => "FAILED",
            Self::Quarantined => "QUARANTINED",
            Self::Invalidated => "INVALIDATED",
            Self::Retired => "RETIRED",
        }
    }
}

impl SplitRecord {
    /// The record after a step: the only way in which one moves.
    ///
    /// # Errors
    /// When the state does not take the step, or the step is of a worker that was overtaken (S5).
    pub fn after(&self, step: Step, now: EventTime) -> Result<Self, IllegalStep> {
        let illegal = |why| IllegalStep {
            from: self.state.name(),
            step: step.name(),
            why,
        };
        let overtaken = step.fence().is_some_and(|fence| fence != self.fence);
        if overtaken && !planted(Bug::PublishWithoutFence) {
            return Err(illegal("another worker has taken over"));
        }
        let mut next = self.clone();
        next.updated = now;
        match (&self.state, step.clone()) {
            (
                SplitState::Completed
                | SplitState::NotWorthIt { .. }
                | SplitState::Invalidated
                | SplitState::Retired,
                Step::Detect { bytes },
            ) => {
                next.detected_bytes = bytes;
                next.explain(None, String::new());
                next.state = SplitState::Detected;
            }

            (
                SplitState::Detected
                | SplitState::Parked { .. }
                | SplitState::Failed { .. }
                | SplitState::Planning { .. },
                Step::Park { due, reason },
            ) => {
                next.explain(Some(reason), String::new());
                next.state = SplitState::Parked { due };
            }

            (
                SplitState::Detected | SplitState::Parked { .. } | SplitState::Failed { .. },
                Step::Survey { lease, task },
            ) => {
                if task.extends && self.extendable(&task).is_none() {
                    return Err(illegal(NOT_EXTENDABLE));
                }
                let generation = self.generation.checked_add(1);
                next.generation = generation.ok_or_else(|| illegal("there are no more generations"))?;
                next.fence += 1;
                next.state = SplitState::Planning { lease, task };
            }
            (SplitState::Planning { task: stored, .. }, Step::Survey { lease, task }) => {
                next.fence += 1;
                // What was surveyed is still true under the same basis; its boundary and aim stay too.
                let task = if stored.basis == task.basis || planted(Bug::SurveyGoesOnAcrossBasis) {
                    stored.clone()
                } else {
                    task
                };
                if task.extends && self.extendable(&task).is_none() {
                    return Err(illegal(NOT_EXTENDABLE));
                }
                next.state = SplitState::Planning { lease, task };
            }
            (SplitState::Planning { lease, task: stored }, Step::Surveyed { task, .. }) => {
                if task.basis != stored.basis {
                    return Err(illegal("what was surveyed rests on something else"));
                }
                // A planner may find no room beside the targets that stay, and survey the whole instead.
                if task.extends && self.extendable(&task).is_none() {
                    return Err(illegal(NOT_EXTENDABLE));
                }
                next.state = SplitState::Planning { lease: *lease, task };
            }
            (SplitState::Planning { task, .. }, Step::Plan { plan, .. }) => {
                self.check_plan(task, &plan).map_err(illegal)?;
                next.explain(None, String::new());
                next.state = SplitState::Planned { plan };
            }
            (SplitState::Planning { task, .. }, Step::Leave { bytes, .. }) => {
                next.attempts = 0;
                next.explain(Some(SplitReason::Small), String::new());
                let stays = self
                    .serving
                    .as_ref()
                    .is_some_and(|serving| serving.basis == task.basis);
                next.state = if stays {
                    SplitState::Completed
                } else {
                    // Of a basis that is gone: no read uses it any more.
                    next.retire_serving();
                    SplitState::NotWorthIt {
                        basis: task.basis,
                        bytes,
                        boundary: task.boundary,
                    }
                };
            }

            (SplitState::Planned { plan }, Step::Split { lease }) => {
                next.fence += 1;
                next.state = SplitState::Splitting {
                    lease,
                    plan: plan.clone(),
                    copied: Copied::default(),
                };
            }
            (SplitState::Splitting { plan, copied, .. }, Step::Split { lease }) => {
                next.fence += 1;
                next.state = SplitState::Splitting {
                    lease,
                    plan: plan.clone(),
                    copied: copied.clone(),
                };
            }
            (SplitState::Verifying { plan, .. }, Step::Split { lease }) => {
                next.fence += 1;
                next.state = SplitState::Verifying {
                    lease,
                    plan: plan.clone(),
                };
            }
            (SplitState::Splitting { lease, plan, .. }, Step::Copied { copied, .. }) => {
                if copied.targets as usize > plan.targets.len() {
                    return Err(illegal("more targets are written than planned"));
                }
                next.state = SplitState::Splitting {
                    lease: *lease,
                    plan: plan.clone(),
                    copied,
                };
            }
            (SplitState::Splitting { lease, plan, copied }, Step::Verify { .. }) => {
                if copied.targets as usize != plan.targets.len() {
                    return Err(illegal("not every target is written"));
                }
                next.state = SplitState::Verifying {
                    lease: *lease,
                    plan: plan.clone(),
                };
            }
            (SplitState::Verifying { plan, .. }, Step::Verified { read_back, retry, .. }) => {
                let planned = plan.targets.iter().map(|target| target.checksum);
                // S2: targets are served only when they hold exactly what the original holds.
                if planned.eq(read_back.iter().copied()) || planted(Bug::CompletesWithoutComparing) {
                    next.complete(plan, now);
                } else {
                    let detail = mismatch(&plan.targets, &read_back);
                    next.fail(SplitReason::ChecksumMismatch, detail, retry, now);
                }
            }

            (
                SplitState::Planning { .. } | SplitState::Splitting { .. } | SplitState::Verifying { .. },
                Step::Fail {
                    reason,
                    detail,
                    retry,
                    ..
                },
            ) => next.fail(reason, detail, retry, now),

            (state, Step::Invalidate { reason }) => {
                let idle = matches!(state, SplitState::Invalidated | SplitState::Retired);
                if idle && self.serving.is_none() {
                    return Err(illegal("nothing is served or made"));
                }
                next.retire_plan();
                if !planted(Bug::InvalidatedStillServed) {
                    next.retire_serving();
                }
                next.explain(Some(reason), String::new());
                next.fence += 1;
                next.state = next.invalidated();
            }

            (
                SplitState::Failed { .. }
                | SplitState::Quarantined
                | SplitState::NotWorthIt { .. }
                | SplitState::Parked { .. }
                | SplitState::Invalidated
                | SplitState::Retired,
                Step::Retry,
            ) => {
                next.attempts = 0;
                next.explain(Some(SplitReason::Operator), String::new());
                next.state = SplitState::Detected;
            }

            (_, Step::Removed { retiring }) => {
                if next.retiring.first() != Some(&retiring) {
                    return Err(illegal("these targets are not the next to be removed"));
                }
                next.retiring.remove(0);
                if next.state == SplitState::Invalidated {
                    next.state = next.invalidated();
                }
            }

            (_, Step::Measured { gain }) => {
                if self.serving.is_none() {
                    return Err(illegal("nothing is served"));
                }
                next.gain = Some(gain);
            }

            _ => return Err(illegal("this state does not take it")),
        }
        Ok(next)
    }

    /// What a survey of this kind adds to, if that is served on the same basis.
    pub fn extendable(&self, task: &SurveyTask) -> Option<&Serving> {
        let serving = self.serving.as_ref()?;
        (task.extends && serving.basis == task.basis && serving.boundary < task.boundary).then_some(serving)
    }

    /// True when a detection of the partition, which ends at `end` and now has this basis, means that there is something
    /// to do.
    pub fn wants_detection(&self, basis: Basis, end: EventTime) -> bool {
        match &self.state {
            // Past the boundary the original grows on, or its basis is gone.
            SplitState::Completed => {
                self.serving
                    .as_ref()
                    .is_none_or(|serving| serving.basis != basis || serving.boundary < end)
                    && !planted(Bug::GrowthIgnored)
            }
            SplitState::NotWorthIt {
                basis: surveyed,
                boundary,
                ..
            } => *surveyed != basis || *boundary < end,
            SplitState::Invalidated | SplitState::Retired => true,
            _ => false,
        }
    }

    /// Holds a plan against what was surveyed, so that completing it needs to compare nothing but checksums.
    fn check_plan(&self, task: &SurveyTask, plan: &SplitPlan) -> Result<(), &'static str> {
        if plan.basis != task.basis || plan.extends != task.extends || plan.boundary != task.boundary {
            return Err("the plan is not of what was surveyed");
        }
        let (Some(oldest), Some(newest)) = (plan.targets.first(), plan.targets.last()) else {
            return Err("the plan has no targets");
        };
        let start = match self.extendable(task) {
            Some(serving) => Some(serving.boundary),
            None if plan.extends => return Err(NOT_EXTENDABLE),
            None => None,
        };
        if start.is_some_and(|start| oldest.oldest.time < start) || newest.newest.time >= plan.boundary {
            return Err("a target reaches beyond what was surveyed");
        }
        let in_order = plan.targets.iter().all(|target| target.oldest <= target.newest)
            && plan
                .targets
                .windows(2)
                .all(|pair| pair[0].newest < pair[1].oldest);
        if !in_order {
            return Err("the targets are not in event order");
        }
        let distinct: BTreeSet<u32> = plan.targets.iter().map(|target| target.event_bucket).collect();
        let own = plan
            .targets
            .iter()
            .all(|target| target.generation == self.generation);
        // S3: no generation writes where another one did.
        if !own || distinct.len() != plan.targets.len() {
            return Err("the targets are not the generation's own");
        }
        Ok(())
    }

    fn explain(&mut self, reason: Option<SplitReason>, detail: String) {
        self.reason = reason;
        self.detail = detail;
    }

    fn complete(&mut self, plan: &SplitPlan, now: EventTime) {
        let kept = match &self.serving {
            Some(serving) if plan.extends && serving.basis == plan.basis => {
                std::mem::take(&mut self.serving).map_or_else(Vec::new, |serving| serving.targets)
            }
            _ => Vec::new(),
        };
        self.retire_serving();
        let kept = if planted(Bug::ExtensionForgetsKept) {
            Vec::new()
        } else {
            kept
        };
        if planted(Bug::RetiresServed) && !kept.is_empty() {
            let event_buckets = buckets(&kept);
            self.retiring.push(Retiring { event_buckets });
        }
        self.serving = Some(Serving {
            generation: self.generation,
            basis: plan.basis,
            boundary: plan.boundary,
            targets: kept.into_iter().chain(plan.targets.iter().cloned()).collect(),
            since: now,
        });
        self.attempts = 0;
        self.gain = None;
        self.explain(None, String::new());
        self.state = SplitState::Completed;
    }

    fn fail(&mut self, reason: SplitReason, detail: String, retry: RetryPolicy, now: EventTime) {
        self.retire_plan();
        self.attempts = self.attempts.saturating_add(1);
        self.explain(Some(reason), detail);
        self.state = match retry.wait(self.attempts) {
            Some(_) if planted(Bug::FailedNeverRetried) => SplitState::Failed {
                retry: EventTime::MAX,
            },
            Some(wait) => SplitState::Failed {
                retry: now.saturating_add(wait),
            },
            None => SplitState::Quarantined,
        };
    }

    /// The state in which nothing is served: there may be nothing to remove either.
    fn invalidated(&self) -> SplitState {
        if self.retiring.is_empty() {
            SplitState::Retired
        } else {
            SplitState::Invalidated
        }
    }

    /// What the generation under way may have written is to be removed.
    fn retire_plan(&mut self) {
        if let Some(plan) = self.plan()
            && !planted(Bug::HalfWrittenForgotten)
        {
            let event_buckets = buckets(&plan.targets);
            self.retiring.push(Retiring { event_buckets });
        }
    }

    fn retire_serving(&mut self) {
        if let Some(serving) = self.serving.take() {
            let event_buckets = buckets(&serving.targets);
            self.retiring.push(Retiring { event_buckets });
        }
    }
}

fn buckets(targets: &[Target]) -> Vec<u32> {
    targets.iter().map(|target| target.event_bucket).collect()
}

/// Names the first target that differs.
fn mismatch(planned: &[Target], read_back: &[Checksum]) -> String {
    for (n, target) in planned.iter().enumerate() {
        match read_back.get(n) {
            Some(found) if *found == target.checksum => {}
            Some(found) => {
                return format!(
                    "target {n} (event bucket {}): surveyed {} rows, {} bytes, sum {:032x}, crc {:08x}; read back {} rows, {} bytes, sum {:032x}, crc {:08x}",
                    target.event_bucket,
                    target.checksum.rows,
                    target.checksum.bytes,
                    target.checksum.sum,
                    target.checksum.crc,
                    found.rows,
                    found.bytes,
                    found.sum,
                    found.crc
                );
            }
            None => return format!("target {n} was not read back"),
        }
    }
    format!(
        "{} targets were read back, {} planned",
        read_back.len(),
        planned.len()
    )
}

#[cfg(test)]
pub(crate) mod tests;
