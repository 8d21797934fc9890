use std::time::Duration;

use super::*;
use crate::record::Gain;
use crate::testing::{BASIS, after, at, detected, held, plan, task};

mod page;
pub(crate) mod walk;

const LEASE: Lease = Lease { owner: 9 };
const OTHER_BASIS: Basis = Basis {
    incarnation: 1,
    epoch: 2,
};

fn retry() -> RetryPolicy {
    RetryPolicy::default()
}

fn surveying(record: &SplitRecord, basis: Basis, extends: bool, boundary: i64) -> SplitRecord {
    let task = task(basis, extends, boundary);
    after(record, Step::Survey { lease: LEASE, task })
}

fn planned(record: &SplitRecord) -> SplitRecord {
    let step = Step::Plan {
        fence: record.fence,
        plan: plan(record, 3),
    };
    after(record, step)
}

fn splitting(record: &SplitRecord) -> SplitRecord {
    after(record, Step::Split { lease: LEASE })
}

fn written(record: &SplitRecord) -> SplitRecord {
    let copied = Copied {
        targets: 3,
        checksum_rows: 30,
        bytes: 3_000,
    };
    let fence = record.fence;
    after(
        &after(record, Step::Copied { fence, copied }),
        Step::Verify { fence },
    )
}

fn verified(record: &SplitRecord, read_back: Vec<Checksum>) -> SplitRecord {
    let step = Step::Verified {
        fence: record.fence,
        read_back,
        retry: retry(),
    };
    after(record, step)
}

fn verifying(record: &SplitRecord, basis: Basis, extends: bool, boundary: i64) -> SplitRecord {
    written(&splitting(&planned(&surveying(record, basis, extends, boundary))))
}

fn completed(record: &SplitRecord, basis: Basis, extends: bool, boundary: i64) -> SplitRecord {
    let verifying = verifying(record, basis, extends, boundary);
    verified(&verifying, held(verifying.plan().unwrap()))
}

fn served() -> SplitRecord {
    completed(&detected(), BASIS, false, 100)
}

fn again(record: &SplitRecord) -> SplitRecord {
    after(record, Step::Detect { bytes: 30 })
}

fn fail(record: &SplitRecord) -> SplitRecord {
    let step = Step::Fail {
        fence: record.fence,
        reason: SplitReason::StoreFailed,
        detail: "no answer".to_owned(),
        retry: retry(),
    };
    after(record, step)
}

fn invalidate(record: &SplitRecord) -> SplitRecord {
    let reason = SplitReason::EpochChanged;
    after(record, Step::Invalidate { reason })
}

fn refused(record: &SplitRecord, step: Step) -> &'static str {
    record.after(step, at(1_000)).expect_err("it is taken").why
}

fn event_buckets(record: &SplitRecord) -> Vec<u32> {
    record
        .serving
        .as_ref()
        .map_or_else(Vec::new, |serving| buckets(&serving.targets))
}

// --- S2: only equal checksums complete ---------------------------------------------------------------------------------

#[test]
fn targets_that_hold_what_was_surveyed_are_served() {
    let verifying = verifying(&detected(), BASIS, false, 100);
    let targets = verifying.plan().unwrap().targets.clone();
    let completed = verified(&verifying, held(verifying.plan().unwrap()));
    assert_eq!(completed.state, SplitState::Completed);
    let serving = completed.serving.unwrap();
    assert_eq!(
        (serving.generation, serving.basis, serving.boundary),
        (1, BASIS, at(100))
    );
    assert_eq!(serving.targets, targets);
}

/// What a copy may have done to its rows, and what is read back then.
#[test]
fn rows_that_are_not_those_surveyed_are_never_served() {
    use crate::testing::{event, id};
    let of = |events: &[anabranch_model::Event]| {
        let mut checksum = Checksum::default();
        events
            .iter()
            .for_each(|event| checksum.add_event(&id("a"), event));
        checksum
    };
    let row = |n: i64| event(n, "e", &[("k", "value")]);
    let (head, tail) = ([row(9), row(8), row(7)], [row(6), row(5), row(4)]);
    let mut verifying = verifying(&detected(), BASIS, false, 100);
    let SplitState::Verifying { plan, .. } = &mut verifying.state else {
        panic!("it was written");
    };
    plan.targets.truncate(2);
    plan.targets[0].checksum = of(&tail);
    plan.targets[1].checksum = of(&head);

    let dropped = [of(&tail), of(&[row(9), row(8)])];
    let doubled = [of(&tail), of(&[row(9), row(8), row(8), row(7)])];
    let swapped = [of(&tail), of(&[row(9), row(7), row(8)])];
    let flipped = [of(&tail), of(&[row(9), row(8), event(7, "e", &[("k", "valuf")])])];
    let renamed = [of(&tail), of(&[row(9), row(8), event(7, "f", &[("k", "value")])])];
    let moved = [of(&[row(7), row(6), row(5), row(4)]), of(&[row(9), row(8)])];
    let exchanged = [of(&head), of(&tail)];
    for wrong in [dropped, doubled, swapped, flipped, renamed, moved, exchanged] {
        let failed = verified(&verifying, wrong.to_vec());
        assert!(matches!(failed.state, SplitState::Failed { .. }));
        assert_eq!(failed.reason, Some(SplitReason::ChecksumMismatch));
        assert_eq!(failed.serving, None);
        assert!(failed.detail.starts_with("target "), "{}", failed.detail);
    }
    assert_eq!(
        verified(&verifying, vec![of(&tail), of(&head)]).state,
        SplitState::Completed
    );
}

#[test]
fn as_many_targets_are_read_back_as_were_planned() {
    let verifying = verifying(&detected(), BASIS, false, 100);
    let all = held(verifying.plan().unwrap());
    let missing = verified(&verifying, all[..2].to_vec());
    assert_eq!(missing.detail, "target 2 was not read back");
    let one_more = verified(&verifying, [&all[..], &all[..1]].concat());
    assert_eq!(one_more.detail, "4 targets were read back, 3 planned");
    for failed in [missing, one_more, verified(&verifying, Vec::new())] {
        assert!(matches!(failed.state, SplitState::Failed { .. }));
        assert_eq!(failed.serving, None);
    }
}

// --- S5: who was overtaken is out --------------------------------------------------------------------------------------

#[test]
fn every_step_of_an_overtaken_worker_is_refused() {
    let planning = surveying(&detected(), BASIS, false, 100);
    let splitting = splitting(&planned(&planning));
    let verifying = written(&splitting);
    for held_by in [planning, splitting, verifying] {
        let claim = match &held_by.state {
            SplitState::Planning { task, .. } => Step::Survey {
                lease: Lease { owner: 10 },
                task: task.clone(),
            },
            _ => Step::Split {
                lease: Lease { owner: 10 },
            },
        };
        let taken = after(&held_by, claim);
        assert_eq!(taken.lease(), Some(Lease { owner: 10 }));
        for step in walk::steps(&held_by, &walk::World::at(&held_by)) {
            if step.fence() == Some(held_by.fence) {
                assert_eq!(refused(&taken, step), "another worker has taken over");
            }
        }
    }
}

#[test]
fn invalidation_takes_the_work_out_of_every_hand() {
    let splitting = splitting(&planned(&surveying(&detected(), BASIS, false, 100)));
    let invalidated = invalidate(&splitting);
    assert_eq!(
        refused(
            &invalidated,
            Step::Verify {
                fence: splitting.fence
            }
        ),
        "another worker has taken over"
    );
}

// --- S3: what is served, what is made, what is removed -----------------------------------------------------------------

#[test]
fn a_served_split_stays_served_while_the_next_is_made_and_fails() {
    let served = served();
    let mut record = again(&served);
    for boundary in [200, 300, 400, 500, 600, 700] {
        record = surveying(&record, BASIS, true, boundary);
        assert_eq!(record.serving, served.serving);
        record = splitting(&planned(&record));
        assert_eq!(record.serving, served.serving);
        record = fail(&written(&record));
        assert_eq!(record.serving, served.serving);
    }
    assert_eq!(record.state, SplitState::Quarantined);
}

#[test]
fn an_extension_keeps_the_targets_and_moves_the_boundary() {
    let served = served();
    let extended = completed(&again(&served), BASIS, true, 200);
    let (old, new) = (served.serving.unwrap(), extended.serving.clone().unwrap());
    assert_eq!((new.generation, new.boundary), (2, at(200)));
    assert_eq!(new.targets[..3], old.targets);
    assert_eq!(new.targets.len(), 6);
    assert!(new.targets[2].newest < new.targets[3].oldest);
    assert_eq!(extended.retiring, []);
}

#[test]
fn a_whole_split_again_retires_what_it_replaces() {
    let served = served();
    let replaced = completed(&again(&served), BASIS, false, 200);
    assert_eq!(replaced.serving.as_ref().unwrap().targets.len(), 3);
    let event_buckets = event_buckets(&served);
    assert_eq!(replaced.retiring, [Retiring { event_buckets }]);
}

#[test]
fn nothing_is_extended_that_is_not_served_on_the_same_basis() {
    let survey = |basis, extends, boundary| Step::Survey {
        lease: LEASE,
        task: task(basis, extends, boundary),
    };
    let why = "nothing is served that could be extended";
    assert_eq!(refused(&detected(), survey(BASIS, true, 100)), why);
    let served = again(&served());
    assert_eq!(refused(&served, survey(OTHER_BASIS, true, 200)), why);
    assert_eq!(refused(&served, survey(BASIS, true, 100)), why, "nothing is new");
    // Nor when a planner takes over from one that surveyed on another basis.
    let planning = surveying(&served, BASIS, true, 200);
    assert_eq!(refused(&planning, survey(OTHER_BASIS, true, 300)), why);
    let anew = surveying(&planning, OTHER_BASIS, false, 300);
    let checkpoint = |task| Step::Surveyed {
        fence: anew.fence,
        task,
    };
    assert_eq!(refused(&anew, checkpoint(task(OTHER_BASIS, true, 300))), why);
    assert_eq!(
        refused(&anew, checkpoint(task(BASIS, false, 300))),
        "what was surveyed rests on something else"
    );
}

#[test]
fn a_plan_is_of_what_was_surveyed_and_of_its_own_generation() {
    let planning = surveying(&again(&served()), BASIS, true, 200);
    let good = plan(&planning, 3);
    let with = |change: &dyn Fn(&mut SplitPlan)| {
        let mut plan = good.clone();
        change(&mut plan);
        let fence = planning.fence;
        refused(&planning, Step::Plan { fence, plan })
    };
    assert_eq!(with(&|plan| plan.targets.clear()), "the plan has no targets");
    let other = "the plan is not of what was surveyed";
    assert_eq!(with(&|plan| plan.basis = OTHER_BASIS), other);
    assert_eq!(with(&|plan| plan.extends = false), other);
    assert_eq!(with(&|plan| plan.boundary = at(201)), other);
    let beyond = "a target reaches beyond what was surveyed";
    assert_eq!(with(&|plan| plan.targets[0].oldest.time = at(99)), beyond);
    assert_eq!(with(&|plan| plan.targets[2].newest.time = at(200)), beyond);
    let order = "the targets are not in event order";
    assert_eq!(with(&|plan| plan.targets.swap(0, 1)), order);
    assert_eq!(
        with(&|plan| plan.targets[0].newest = plan.targets[1].oldest.clone()),
        order
    );
    let own = "the targets are not the generation's own";
    assert_eq!(with(&|plan| plan.targets[1].generation = 1), own);
    assert_eq!(
        with(&|plan| plan.targets[1].event_bucket = plan.targets[0].event_bucket),
        own
    );
}

#[test]
fn a_planner_without_room_surveys_the_whole_instead() {
    let planning = surveying(&again(&served()), BASIS, true, 200);
    let whole = Step::Surveyed {
        fence: planning.fence,
        task: task(BASIS, false, 200),
    };
    let planned = planned(&after(&planning, whole));
    assert!(!planned.plan().unwrap().extends);
}

#[test]
fn invalidation_retires_what_is_served_and_what_is_half_written() {
    let served = served();
    let splitting = splitting(&planned(&surveying(&again(&served), BASIS, true, 200)));
    let half_written = buckets(&splitting.plan().unwrap().targets);
    let invalidated = invalidate(&splitting);
    assert_eq!(invalidated.state, SplitState::Invalidated);
    assert_eq!((invalidated.serving.as_ref(), invalidated.plan()), (None, None));
    let [first, second] = invalidated.retiring.clone().try_into().unwrap();
    assert_eq!(first.event_buckets, half_written);
    assert_eq!(second.event_buckets, event_buckets(&served));

    assert_eq!(
        refused(
            &invalidated,
            Step::Removed {
                retiring: second.clone()
            }
        ),
        "these targets are not the next to be removed"
    );
    let one_left = after(&invalidated, Step::Removed { retiring: first });
    assert_eq!(one_left.state, SplitState::Invalidated);
    let retired = after(&one_left, Step::Removed { retiring: second });
    assert_eq!(
        (retired.state, retired.retiring),
        (SplitState::Retired, Vec::new())
    );
}

#[test]
fn invalidating_what_wrote_nothing_retires_it_at_once() {
    for record in [
        detected(),
        surveying(&detected(), BASIS, false, 100),
        fail(&surveying(&detected(), BASIS, false, 100)),
    ] {
        let retired = invalidate(&record);
        assert_eq!(retired.state, SplitState::Retired);
        let reason = SplitReason::Operator;
        assert_eq!(
            refused(&retired, Step::Invalidate { reason }),
            "nothing is served or made"
        );
    }
}

#[test]
fn removal_goes_on_whatever_the_next_generation_does() {
    let detected = again(&invalidate(&served()));
    let retiring = detected.retiring[0].clone();
    let removed = after(&detected, Step::Removed { retiring });
    assert_eq!(
        (removed.state, removed.retiring),
        (SplitState::Detected, Vec::new())
    );
}

#[test]
fn what_a_failed_generation_wrote_is_removed_and_never_used_again() {
    let mut record = detected();
    let mut used: Vec<u32> = Vec::new();
    for generation in 1..=4 {
        record = splitting(&planned(&surveying(&record, BASIS, false, 100)));
        assert_eq!(record.generation, generation);
        let written = buckets(&record.plan().unwrap().targets);
        assert!(written.iter().all(|bucket| !used.contains(bucket)));
        used.extend(&written);
        record = fail(&record);
        let last = record.retiring.last().unwrap();
        assert_eq!(last.event_buckets, written);
    }
}

#[test]
fn a_survey_that_goes_on_elsewhere_is_the_same_generation_and_the_same_survey() {
    let planning = surveying(&detected(), BASIS, false, 100);
    let taken = surveying(&planning, BASIS, false, 500);
    assert_eq!((taken.generation, taken.fence), (1, planning.fence + 1));
    assert!(matches!(&taken.state, SplitState::Planning { task, .. } if task.boundary == at(100)));
    let anew = surveying(&planning, OTHER_BASIS, false, 500);
    assert!(matches!(&anew.state, SplitState::Planning { task, .. } if task.boundary == at(500)));
}

#[test]
fn after_the_last_generation_there_is_no_other() {
    let mut record = detected();
    record.generation = u32::MAX;
    let survey = Step::Survey {
        lease: LEASE,
        task: task(BASIS, false, 100),
    };
    assert_eq!(refused(&record, survey), "there are no more generations");
}

// --- failing, waiting, giving up ---------------------------------------------------------------------------------------

#[test]
fn failures_wait_longer_each_time_until_an_operator_decides() {
    let mut record = detected();
    let mut waits = Vec::new();
    while record.state != SplitState::Quarantined {
        record = fail(&surveying(&record, BASIS, false, 100));
        if let SplitState::Failed { retry } = record.state {
            waits.push((retry.micros() - record.updated.micros()) / 1_000_000);
        }
    }
    assert_eq!(waits, [10, 20, 40, 80, 160]);
    assert_eq!(record.attempts, 6);
    assert_eq!(record.reason, Some(SplitReason::StoreFailed));
    assert_eq!(record.detail, "no answer");
    let why = "this state does not take it";
    assert_eq!(refused(&record, Step::Detect { bytes: 1 }), why);
    let survey = Step::Survey {
        lease: LEASE,
        task: task(BASIS, false, 100),
    };
    assert_eq!(refused(&record, survey), why);
    let sent_round = after(&record, Step::Retry);
    assert_eq!((sent_round.state, sent_round.attempts), (SplitState::Detected, 0));
}

#[test]
fn waits_are_bounded_and_pages_shrink() {
    let policy = RetryPolicy {
        wait: Duration::from_secs(10),
        wait_max: Duration::from_secs(100),
        attempts_max: u32::MAX,
    };
    assert_eq!(policy.wait(5), Some(Duration::from_secs(100)));
    assert_eq!(policy.wait(u32::MAX - 1), Some(Duration::from_secs(100)));
    assert_eq!(policy.wait(u32::MAX), None);
    let pages = [0, 1, 4, 9].map(crate::record::page_bytes);
    assert_eq!(pages, [1 << 20, 1 << 19, 1 << 16, 1 << 16]);
}

#[test]
fn success_forgets_the_failures() {
    let failed = fail(&surveying(&detected(), BASIS, false, 100));
    assert_eq!(failed.attempts, 1);
    assert_eq!(completed(&failed, BASIS, false, 100).attempts, 0);
}

#[test]
fn what_is_not_worth_it_stays_in_the_original() {
    let planning = surveying(&detected(), BASIS, false, 100);
    let fence = planning.fence;
    let left = after(&planning, Step::Leave { fence, bytes: 50 });
    let state = SplitState::NotWorthIt {
        basis: BASIS,
        bytes: 50,
        boundary: at(100),
    };
    assert_eq!((left.state, left.reason), (state, Some(SplitReason::Small)));
}

#[test]
fn leaving_what_is_served_leaves_it_served_unless_its_basis_is_gone() {
    let served = served();
    for extends in [true, false] {
        let planning = surveying(&again(&served), BASIS, extends, 200);
        let fence = planning.fence;
        let left = after(&planning, Step::Leave { fence, bytes: 50 });
        assert_eq!(left.state, SplitState::Completed);
        assert_eq!(left.serving, served.serving);
    }
    let planning = surveying(&again(&served), OTHER_BASIS, false, 200);
    let fence = planning.fence;
    let left = after(&planning, Step::Leave { fence, bytes: 50 });
    assert!(matches!(left.state, SplitState::NotWorthIt { .. }));
    assert_eq!(left.serving, None);
    assert_eq!(left.retiring.len(), 1);
}

#[test]
fn the_copy_is_over_when_every_target_is_written() {
    let splitting = splitting(&planned(&surveying(&detected(), BASIS, false, 100)));
    let fence = splitting.fence;
    assert_eq!(
        refused(&splitting, Step::Verify { fence }),
        "not every target is written"
    );
    let copied = Copied {
        targets: 4,
        ..Copied::default()
    };
    assert_eq!(
        refused(&splitting, Step::Copied { fence, copied }),
        "more targets are written than planned"
    );
}

// --- detections --------------------------------------------------------------------------------------------------------

#[test]
fn a_detection_moves_only_what_has_come_to_rest() {
    let planning = surveying(&detected(), BASIS, false, 100);
    let fence = planning.fence;
    let parked = Step::Park {
        due: at(500),
        reason: SplitReason::Mutable,
    };
    let at_rest = [
        served(),
        after(&planning, Step::Leave { fence, bytes: 5 }),
        invalidate(&served()),
        invalidate(&detected()),
    ];
    for record in at_rest {
        let detected = again(&record);
        assert_eq!(
            (detected.state, detected.detected_bytes),
            (SplitState::Detected, 30)
        );
        assert_eq!(detected.serving, record.serving);
        assert_eq!(detected.retiring, record.retiring);
    }
    let planned = planned(&planning);
    let splitting = splitting(&planned);
    let under_way = [
        detected(),
        after(&detected(), parked),
        fail(&planning),
        written(&splitting),
        planning,
        planned,
        splitting,
    ];
    for record in under_way {
        let why = refused(&record, Step::Detect { bytes: 1 });
        assert_eq!(why, "this state does not take it");
        assert!(!record.wants_detection(BASIS, at(1_000)));
    }
}

#[test]
fn a_detection_is_wanted_where_there_is_more_to_do() {
    let served = served();
    assert!(!served.wants_detection(BASIS, at(100)), "all of it is split");
    assert!(served.wants_detection(BASIS, at(101)), "it grows on");
    assert!(
        served.wants_detection(OTHER_BASIS, at(100)),
        "it may have changed"
    );
    let planning = surveying(&detected(), BASIS, false, 100);
    let fence = planning.fence;
    let left = after(&planning, Step::Leave { fence, bytes: 5 });
    assert!(!left.wants_detection(BASIS, at(100)), "it was looked at");
    assert!(left.wants_detection(BASIS, at(101)));
    assert!(left.wants_detection(OTHER_BASIS, at(100)), "it may have grown");
    assert!(invalidate(&served).wants_detection(BASIS, at(100)));
    assert!(invalidate(&detected()).wants_detection(BASIS, at(100)));
}

#[test]
fn what_a_split_is_worth_is_kept_as_long_as_it_is_served() {
    let gain = Gain {
        reads: 2,
        original_micros: 30,
        targets_micros: 10,
    };
    let measured = after(&again(&served()), Step::Measured { gain });
    assert_eq!(measured.gain, Some(gain));
    assert_eq!(completed(&measured, BASIS, true, 200).gain, None);
    assert_eq!(refused(&detected(), Step::Measured { gain }), "nothing is served");
}
