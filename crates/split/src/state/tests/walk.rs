//! Records that take random steps, and what holds after each.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// What is around a record: only grows.
#[derive(Clone, Copy)]
pub(crate) struct World {
    pub(crate) now: EventTime,
    pub(crate) basis: Basis,
    pub(crate) frozen_before: i64,
}

impl World {
    /// As it is right after a record's last step.
    pub(crate) fn at(record: &SplitRecord) -> Self {
        let now = record.updated.micros() + 1;
        Self {
            now: at(now),
            basis: BASIS,
            frozen_before: now * 100,
        }
    }
}

const RETRY: RetryPolicy = RetryPolicy {
    wait: Duration::from_secs(1),
    wait_max: Duration::from_secs(3),
    attempts_max: 3,
};

/// Every kind of step, right and wrong, that may come to a record.
pub(crate) fn steps(record: &SplitRecord, world: &World) -> Vec<Step> {
    let lease = LEASE;
    let survey = |extends| task(world.basis, extends, world.frozen_before);
    let mut steps = vec![
        Step::Detect { bytes: 99 },
        Step::Park {
            due: world.now.saturating_add(Duration::from_secs(1)),
            reason: SplitReason::Mutable,
        },
        Step::Survey {
            lease,
            task: survey(true),
        },
        Step::Survey {
            lease,
            task: survey(false),
        },
        Step::Split { lease },
        Step::Invalidate {
            reason: SplitReason::EpochChanged,
        },
        Step::Retry,
        Step::Measured {
            gain: Gain::default(),
        },
    ];
    let first_and_last = record.retiring.first().into_iter().chain(record.retiring.last());
    steps.extend(first_and_last.map(|retiring| Step::Removed {
        retiring: retiring.clone(),
    }));
    for fence in [record.fence, record.fence.wrapping_sub(1), record.fence + 1] {
        steps.extend(worker_steps(record, world, fence));
    }
    steps
}

fn worker_steps(record: &SplitRecord, world: &World, fence: u64) -> Vec<Step> {
    let retry = RETRY;
    let mut steps = vec![
        Step::Leave { fence, bytes: 5 },
        Step::Verify { fence },
        Step::Fail {
            fence,
            reason: SplitReason::StoreFailed,
            detail: "no answer".to_owned(),
            retry,
        },
    ];
    if let SplitState::Planning { task: stored, .. } = &record.state {
        for task in [stored.clone(), task(world.basis, false, stored.boundary.micros())] {
            steps.push(Step::Surveyed { fence, task });
        }
        let good = plan(record, 3);
        let mut of_another_generation = good.clone();
        of_another_generation.targets[0].generation = 0;
        let none = SplitPlan {
            targets: Vec::new(),
            ..good.clone()
        };
        steps.extend([good, of_another_generation, none].map(|plan| Step::Plan { fence, plan }));
    }
    if let Some(plan) = record.plan() {
        steps.extend((0..=4).map(|targets| Step::Copied {
            fence,
            copied: Copied {
                targets,
                ..Copied::default()
            },
        }));
        let good = held(plan);
        let changed = |change: &dyn Fn(&mut Checksum)| {
            let mut changed = good.clone();
            change(&mut changed[1]);
            changed
        };
        let read_backs = [
            good[..2].to_vec(),
            [&good[..], &good[..1]].concat(),
            good.iter().rev().copied().collect(),
            changed(&|sum| sum.rows += 1),
            changed(&|sum| sum.bytes += 1),
            changed(&|sum| sum.sum += 1),
            changed(&|sum| sum.crc += 1),
            good,
        ];
        steps.extend(read_backs.map(|read_back| Step::Verified {
            fence,
            read_back,
            retry,
        }));
    }
    steps
}

/// The step that brings a record on.
fn forward(record: &SplitRecord, world: &World, whole: bool) -> Step {
    let fence = record.fence;
    match &record.state {
        SplitState::Detected | SplitState::Parked { .. } | SplitState::Failed { .. } => {
            let task = task(world.basis, true, world.frozen_before);
            let extends = !whole && record.extendable(&task).is_some();
            Step::Survey {
                lease: LEASE,
                task: SurveyTask { extends, ..task },
            }
        }
        SplitState::Planning { .. } => Step::Plan {
            fence,
            plan: plan(record, 3),
        },
        SplitState::Planned { .. } => Step::Split { lease: LEASE },
        SplitState::Splitting { copied, .. } if copied.targets == 3 => Step::Verify { fence },
        SplitState::Splitting { copied, .. } => Step::Copied {
            fence,
            copied: Copied {
                targets: copied.targets + 1,
                ..Copied::default()
            },
        },
        SplitState::Verifying { plan, .. } => Step::Verified {
            fence,
            read_back: held(plan),
            retry: RETRY,
        },
        SplitState::Completed | SplitState::NotWorthIt { .. } | SplitState::Retired => {
            Step::Detect { bytes: 99 }
        }
        SplitState::Invalidated => Step::Removed {
            retiring: record.retiring[0].clone(),
        },
        SplitState::Quarantined => Step::Retry,
    }
}

/// Takes a step for each number, and says which states came up, or what did not hold.
pub(crate) fn walk(choices: &[u16]) -> Result<BTreeSet<&'static str>, String> {
    let mut record = detected();
    let mut world = World::at(&record);
    let mut planned_ever = BTreeSet::new();
    let mut seen = BTreeSet::from([record.state.name()]);
    for choice in choices {
        world = World {
            basis: world.basis,
            ..World::at(&SplitRecord {
                updated: world.now,
                ..record.clone()
            })
        };
        let choice = usize::from(*choice);
        if choice.is_multiple_of(31) {
            world.basis.epoch += 1;
        }
        let (how, which) = (choice % 8, choice / 8);
        let any = steps(&record, &world);
        let step = match how {
            0 => any[which % any.len()].clone(),
            1 => {
                let legal: Vec<&Step> = any
                    .iter()
                    .filter(|step| record.after((*step).clone(), world.now).is_ok())
                    .collect();
                legal[which % legal.len()].clone()
            }
            _ => forward(&record, &world, which.is_multiple_of(4)),
        };
        let moved = record.after(step.clone(), world.now);
        hold(&record, &step, &world, moved.as_ref(), &mut planned_ever)
            .map_err(|what| format!("{what}: {step:?} of {record:#?} gave {moved:#?}"))?;
        if let Ok(next) = moved {
            seen.insert(next.state.name());
            record = next;
        }
    }
    Ok(seen)
}

/// Event buckets that are served, planned, and to be removed, as they come.
fn places(record: &SplitRecord) -> Vec<u32> {
    let serving = record.serving.iter().flat_map(|serving| &serving.targets);
    let planned = record.plan().into_iter().flat_map(|plan| &plan.targets);
    let used = serving.chain(planned).map(|target| target.event_bucket);
    let retiring = record
        .retiring
        .iter()
        .flat_map(|retiring| retiring.event_buckets.iter().copied());
    used.chain(retiring).collect()
}

/// The invariants of a step.
fn hold(
    before: &SplitRecord,
    step: &Step,
    world: &World,
    moved: Result<&SplitRecord, &IllegalStep>,
    planned_ever: &mut BTreeSet<u32>,
) -> Result<(), &'static str> {
    let check = |holds: bool, what| if holds { Ok(()) } else { Err(what) };
    let overtaken = step.fence().is_some_and(|fence| fence != before.fence);
    let Ok(next) = moved else {
        return Ok(());
    };
    check(!overtaken, "S5: an overtaken worker moved the record")?;
    check(next.updated == world.now, "the time of the change is not kept")?;
    check(
        next.created == before.created,
        "it was detected first another time",
    )?;
    check(next.generation >= before.generation, "the generation went back")?;
    check(next.fence >= before.fence, "the fence went back")?;
    let stored = next.encode().map_err(|_| "it can not be stored")?;
    let read = SplitRecord::decode(&stored).map_err(|_| "it can not be read")?;
    check(read == *next, "what was stored is not what is read")?;

    // S2.
    if let (true, Some(serving)) = (next.serving != before.serving, &next.serving) {
        let proved = match (step, &before.state) {
            (Step::Verified { read_back, .. }, SplitState::Verifying { plan, .. }) => {
                *read_back == held(plan)
            }
            _ => false,
        };
        check(proved, "S2: something is served that was not proved")?;
        check(
            next.state == SplitState::Completed,
            "it is served and not completed",
        )?;
        served_whole(before, serving)?;
    }
    if let (Step::Verified { read_back, .. }, Some(plan)) = (step, before.plan()) {
        let completed = next.state == SplitState::Completed;
        check(
            completed == (*read_back == held(plan)),
            "S2: equal checksums, and only they, complete",
        )?;
    }

    // S3.
    let (old, new) = (places(before), places(next));
    let (old_set, new_set): (BTreeSet<u32>, BTreeSet<u32>) =
        (old.into_iter().collect(), new.iter().copied().collect());
    check(new.len() == new_set.len(), "S3: a target is in two places")?;
    let planned: BTreeSet<u32> = match step {
        Step::Plan { plan, .. } => buckets(&plan.targets).into_iter().collect(),
        _ => BTreeSet::new(),
    };
    check(
        planned.is_disjoint(planned_ever),
        "S3: a target was used by another generation",
    )?;
    planned_ever.extend(&planned);
    let removed: BTreeSet<u32> = match step {
        Step::Removed { retiring } => retiring.event_buckets.iter().copied().collect(),
        _ => BTreeSet::new(),
    };
    let kept: BTreeSet<u32> = old_set.union(&planned).copied().collect();
    let expected: BTreeSet<u32> = kept.difference(&removed).copied().collect();
    check(
        new_set == expected,
        "a target was forgotten, or came from nowhere",
    )?;

    // The states mean what they say.
    match &next.state {
        SplitState::Completed => check(next.serving.is_some(), "it is completed and not served")?,
        SplitState::NotWorthIt { .. } => check(next.serving.is_none(), "what is not worth it is served")?,
        SplitState::Invalidated => check(
            next.serving.is_none() && !next.retiring.is_empty(),
            "it is invalidated and served, or gone",
        )?,
        SplitState::Retired => check(
            next.serving.is_none() && next.retiring.is_empty(),
            "something is left of it",
        )?,
        SplitState::Failed { retry } => check(
            *retry <= world.now.saturating_add(RETRY.wait_max),
            "it is never tried again",
        )?,
        SplitState::Planning { task, .. } => check(
            !matches!(step, Step::Survey { .. }) || task.basis == world.basis,
            "S4: a survey goes on that rests on what is gone",
        )?,
        _ => {}
    }
    if let Step::Survey { .. } | Step::Split { .. } | Step::Invalidate { .. } = step {
        check(next.fence > before.fence, "S5: who was at it is not out")?;
    }
    Ok(())
}

/// What is served is all of the partition before its boundary.
fn served_whole(before: &SplitRecord, serving: &Serving) -> Result<(), &'static str> {
    let in_order = serving
        .targets
        .windows(2)
        .all(|pair| pair[0].newest < pair[1].oldest);
    let within = serving
        .targets
        .iter()
        .all(|target| target.newest.time < serving.boundary);
    if !in_order || !within {
        return Err("what is served is not in order");
    }
    match (before.plan(), &before.serving) {
        (Some(plan), Some(old)) if plan.extends => {
            let kept = serving.targets.starts_with(&old.targets) && serving.targets.ends_with(&plan.targets);
            let grown = old.boundary < serving.boundary && old.basis == serving.basis;
            if kept && grown && serving.targets.len() == old.targets.len() + plan.targets.len() {
                Ok(())
            } else {
                Err("an extension does not hold what it extends")
            }
        }
        (Some(plan), _) if !plan.extends && plan.targets == serving.targets => Ok(()),
        _ => Err("what is served was not planned"),
    }
}

proptest! {
    #[test]
    fn no_sequence_of_steps_breaks_an_invariant(choices in proptest::collection::vec(any::<u16>(), 0..300)) {
        if let Err(what) = walk(&choices) {
            return Err(TestCaseError::fail(what));
        }
    }
}

/// Numbers for a walk: the same for the same seed.
pub(crate) fn choices(seed: u64, count: usize) -> Vec<u16> {
    // A linear congruential generator.
    let mut state = seed;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()
    };
    let high = |bytes: [u8; 8]| u16::from_be_bytes([bytes[0], bytes[1]]);
    std::iter::repeat_with(next).map(high).take(count).collect()
}

#[test]
fn random_steps_come_through_every_state() {
    assert_eq!(walk(&choices(1, 20_000)).unwrap().len(), 12);
}
