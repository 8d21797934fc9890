use anabranch_model::{
    NamespaceSettings, PartitionKey, PartitionSettings, SliceName, TimeInterval, TimeSeriesId, TimeSlice,
};
use anabranch_split::{Aim, Lease, Serving, Survey, SurveyTask};

use super::*;

fn at(seconds: i64) -> EventTime {
    EventTime::from_micros(seconds * 1_000_000)
}

const BASIS: Basis = Basis {
    incarnation: 1,
    epoch: 2,
};
const OLD: Basis = Basis {
    incarnation: 1,
    epoch: 1,
};
/// The record's bucket is the second hour.
const END: i64 = 7_200;

fn ground() -> Ground {
    let interval = TimeInterval {
        start: at(0),
        end: at(86_400),
    };
    let settings = PartitionSettings {
        seconds_per_time_bucket: 3_600,
        event_buckets: 1,
    };
    Ground {
        settings: NamespaceSettings::default(),
        sealed_before: None,
        slice: TimeSlice::cut(SliceName::new("19700101").unwrap(), interval, settings),
        basis: BASIS,
    }
}

fn record(state: SplitState, reason: Option<SplitReason>) -> SplitRecord {
    let partition = PartitionKey {
        slice: SliceName::new("19700101").unwrap(),
        time_series_id: TimeSeriesId::new("a").unwrap(),
        time_bucket: 1,
        event_bucket: 0,
    };
    SplitRecord {
        state,
        reason,
        ..SplitRecord::detected(partition, 1, at(0))
    }
}

fn planning(basis: Basis) -> SplitRecord {
    let task = SurveyTask {
        basis,
        extends: false,
        boundary: at(END),
        aim: Aim {
            target_bytes: 1,
            targets_max: 2,
        },
        survey: Survey::new(1, 2),
    };
    let lease = Lease { owner: 1 };
    record(SplitState::Planning { lease, task }, None)
}

fn completed(basis: Basis) -> SplitRecord {
    SplitRecord {
        serving: Some(Serving {
            generation: 1,
            basis,
            boundary: at(5_000),
            targets: Vec::new(),
            since: at(0),
        }),
        ..record(SplitState::Completed, None)
    }
}

fn needs(record: &SplitRecord, now: i64) -> Need {
    need(record, Some(&ground()), at(now))
}

#[test]
fn what_rests_on_another_epoch_is_taken_back() {
    assert_eq!(needs(&completed(OLD), END), Need::Invalidate);
    assert_eq!(needs(&planning(OLD), END), Need::Invalidate);
    assert_eq!(needs(&completed(BASIS), END), Need::Nothing(Wake::Change));
    assert_eq!(needs(&planning(BASIS), END), Need::SurveyIfLapsed);
}

#[test]
fn nothing_is_left_of_a_slice_that_is_gone() {
    assert_eq!(need(&completed(BASIS), None, at(END)), Need::Invalidate);
    assert_eq!(
        need(&record(SplitState::Detected, None), None, at(END)),
        Need::Invalidate
    );
    let gone = record(SplitState::Invalidated, Some(SplitReason::SliceGone));
    assert_eq!(need(&gone, None, at(END)), Need::Nothing(Wake::Change));
}

#[test]
fn nothing_is_surveyed_where_healing_does_not_go_that_far() {
    let mut ground = ground();
    ground.settings.wide_partition.rollout = Rollout::Detect;
    let detected = record(SplitState::Detected, None);
    assert_eq!(
        need(&detected, Some(&ground), at(END)),
        Need::Nothing(Wake::Change)
    );
    assert_eq!(need(&completed(OLD), Some(&ground), at(END)), Need::Invalidate);
    assert_eq!(needs(&detected, END), Need::Survey);
}

#[test]
fn a_parked_record_is_needed_when_it_is_due_or_can_be_split_sooner() {
    let due = at(20_000);
    let mutable = record(SplitState::Parked { due }, Some(SplitReason::Mutable));
    let start = 3_600 + 605;
    assert_eq!(needs(&mutable, start), Need::Nothing(Wake::At(due)));
    assert_eq!(needs(&mutable, start + 1), Need::Survey);
    let little = record(SplitState::Parked { due }, Some(SplitReason::TooLittleYet));
    assert_eq!(needs(&little, END + 604), Need::Nothing(Wake::At(due)));
    assert_eq!(needs(&little, END + 605), Need::Survey, "nothing more can come");
    let prefix = SplitRecord {
        state: SplitState::Parked { due: at(6_000) },
        ..little
    };
    assert_eq!(needs(&prefix, 6_000), Need::Survey);
}

#[test]
fn what_failed_waits_for_its_turn() {
    let retry = at(9_000);
    let failed = record(SplitState::Failed { retry }, Some(SplitReason::StoreFailed));
    assert_eq!(needs(&failed, 8_999), Need::Nothing(Wake::At(retry)));
    assert_eq!(needs(&failed, 9_000), Need::Survey);
    assert_eq!(
        needs(&record(SplitState::Quarantined, None), END),
        Need::Nothing(Wake::Change)
    );
}

#[test]
fn what_was_wrong_with_a_split_is_no_reason_to_leave_the_partition() {
    for (reason, again) in [
        (SplitReason::TargetDamaged, true),
        (SplitReason::CompareMismatch, true),
        (SplitReason::EpochChanged, true),
        (SplitReason::Operator, false),
        (SplitReason::SliceGone, false),
    ] {
        for state in [SplitState::Invalidated, SplitState::Retired] {
            let need = needs(&record(state, Some(reason)), END);
            assert_eq!(need == Need::Detect, again, "{reason:?}");
        }
    }
    let early = needs(
        &record(SplitState::Invalidated, Some(SplitReason::EpochChanged)),
        3_700,
    );
    assert_eq!(
        early,
        Need::Nothing(Wake::At(at(3_600 + 606))),
        "once it is justified"
    );
}
