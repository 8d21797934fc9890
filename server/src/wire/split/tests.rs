use anabranch_model::{EventId, EventKey, EventTime, TimeSeriesId};
use anabranch_split::{
    Aim, Basis, Copied, Gain, Lease, RetryPolicy, SplitPlan, SplitReason, Step, Survey, SurveyTask,
};

use super::*;

const NOW: EventTime = EventTime::from_micros(7_000_000);
const BASIS: Basis = Basis {
    incarnation: 1,
    epoch: 2,
};
const LEASE: Lease = Lease { owner: 5 };

fn key() -> PartitionKey {
    PartitionKey {
        slice: SliceName::new("20260101").unwrap(),
        time_series_id: TimeSeriesId::new("a/b").unwrap(),
        time_bucket: 3,
        event_bucket: 1,
    }
}

fn event(micros: i64) -> EventKey {
    EventKey {
        time: EventTime::from_micros(micros),
        id: EventId::new("e").unwrap(),
    }
}

fn target(event_bucket: u32, from: i64, to: i64) -> Target {
    Target {
        generation: 1,
        event_bucket,
        oldest: event(from),
        newest: event(to),
        checksum: Checksum {
            rows: 10,
            bytes: 1_000,
            sum: 255,
            crc: 16,
        },
    }
}

fn planned() -> SplitRecord {
    let task = SurveyTask {
        basis: BASIS,
        extends: false,
        boundary: EventTime::from_micros(5_000_000),
        aim: Aim {
            target_bytes: 1_000,
            targets_max: 2,
        },
        survey: Survey::new(100, 16),
    };
    let plan = SplitPlan {
        basis: BASIS,
        extends: false,
        boundary: EventTime::from_micros(5_000_000),
        targets: vec![target(2_048, 1, 2), target(2_049, 3, 4)],
        capped: true,
        checksum_version: 1,
    };
    walk(
        SplitRecord::detected(key(), 77, NOW),
        [Step::Survey { lease: LEASE, task }, Step::Plan { fence: 1, plan }],
    )
}

fn completed() -> SplitRecord {
    let planned = planned();
    let read_back = planned
        .plan()
        .map(|plan| plan.targets.iter().map(|target| target.checksum).collect());
    let copied = Copied {
        targets: 2,
        checksum_rows: 20,
        bytes: 2_000,
    };
    walk(
        planned,
        [
            Step::Split { lease: LEASE },
            Step::Copied { fence: 2, copied },
            Step::Verify { fence: 2 },
            Step::Verified {
                fence: 2,
                read_back: read_back.unwrap(),
                retry: RetryPolicy::default(),
            },
        ],
    )
}

fn walk(record: SplitRecord, steps: impl IntoIterator<Item = Step>) -> SplitRecord {
    steps
        .into_iter()
        .fold(record, |record, step| record.after(step, NOW).unwrap())
}

#[test]
fn a_partition_is_read_back_as_it_was_written() {
    assert_eq!(partition(Some(&wire_partition(&key()))).unwrap(), key());
}

#[test]
fn what_can_not_be_a_partition_is_named_by_its_field() {
    let good = wire_partition(&key());
    let of = |change: fn(&mut pb::Partition)| {
        let mut changed = good.clone();
        change(&mut changed);
        Some(changed)
    };
    for (wrong, field) in [
        (None, "partition"),
        (of(|p| p.time_slice.clear()), "partition.time_slice"),
        (of(|p| p.time_slice = "../x".to_owned()), "partition.time_slice"),
        (of(|p| p.time_series_id.clear()), "partition.time_series_id"),
        (of(|p| p.event_bucket = -1), "partition.event_bucket"),
    ] {
        let error = partition(wrong.as_ref()).unwrap_err();
        assert_eq!(error.reason, Reason::InvalidPartition);
        assert_eq!(error.fields[0].0, field);
    }
    assert_eq!(time_slice("").unwrap(), None);
    assert_eq!(time_slice("../x").unwrap_err().reason, Reason::InvalidPartition);
}

#[test]
fn every_state_has_one_name_on_the_wire_and_in_the_record() {
    // The last is of what stands where a record should, and can not be read.
    for number in 1..=13 {
        let name = state(number).unwrap().unwrap();
        assert_eq!(State::from_str_name(name).unwrap() as i32, number);
        assert_eq!(SplitState::NAMES.contains(&name), number <= 12, "{name}");
    }
    assert_eq!(state(0).unwrap(), None);
    assert_eq!(state(14).unwrap_err().reason, Reason::InvalidSplitState);
    for record in [SplitRecord::detected(key(), 1, NOW), planned(), completed()] {
        assert_eq!(split(&record).state().as_str_name(), record.state.name());
    }
}

#[test]
fn a_split_says_what_it_is_about_in_every_state() {
    let detected = split(&SplitRecord::detected(key(), 77, NOW));
    assert_eq!((detected.source_bytes, detected.source_events), (77, 0));
    assert_eq!((detected.generation, detected.target_count), (0, 0));
    let planned = split(&planned());
    assert_eq!((planned.source_bytes, planned.source_events), (2_000, 20));
    assert_eq!((planned.generation, planned.target_count), (1, 2));
    assert_eq!((planned.serving_generation, planned.capped), (0, true));
    let completed = split(&completed());
    assert_eq!((completed.source_bytes, completed.source_events), (2_000, 20));
    assert_eq!((completed.serving_generation, completed.target_count), (1, 2));
    assert_eq!(completed.boundary.map(|time| time.seconds), Some(5));
    assert_eq!(completed.targets, []);
}

#[test]
fn a_split_says_why_it_waits_and_until_when() {
    let due = EventTime::from_micros(9_000_000);
    let reason = SplitReason::Mutable;
    let parked = walk(
        SplitRecord::detected(key(), 77, NOW),
        [Step::Park { due, reason }],
    );
    let parked = split(&parked);
    assert_eq!(parked.reason, "MUTABLE");
    assert_eq!(parked.retry_time.map(|time| time.seconds), Some(9));
}

#[test]
fn targets_are_listed_with_what_proves_them() {
    let completed = split_with_targets(&completed());
    assert_eq!(completed.targets.len(), 2);
    let first = &completed.targets[0];
    assert_eq!(
        (first.event_bucket, first.bytes, first.serving),
        (2_048, 1_000, true)
    );
    assert_eq!(first.checksum, format!("{:032x}-00000010", 255));
    let planned = split_with_targets(&planned());
    assert!(planned.targets.iter().all(|target| !target.serving));
}

#[test]
fn the_gain_is_a_ratio_of_what_was_timed() {
    assert_eq!(split(&completed()).gain_ratio, None);
    let gain = Gain {
        reads: 4,
        original_micros: 900,
        targets_micros: 300,
    };
    let measured = split(&walk(completed(), [Step::Measured { gain }]));
    assert_eq!((measured.gain_ratio, measured.compared_reads), (Some(3.0), 4));
}

#[test]
fn what_was_invalidated_has_targets_to_remove_and_none_to_serve() {
    let reason = SplitReason::Operator;
    let gone = split(&walk(completed(), [Step::Invalidate { reason }]));
    assert_eq!((gone.targets_retiring, gone.target_count), (2, 0));
    assert_eq!((gone.serving_generation, gone.reason.as_str()), (0, "OPERATOR"));
}
