//! Names, events and records for tests.

use anabranch_model::{
    Event, EventId, EventItem, EventKey, EventTime, ItemKey, PartitionKey, SliceName, TimeSeriesId,
};
use bytes::Bytes;

use crate::checksum::{CHECKSUM_VERSION, Checksum};
use crate::record::{Basis, SplitPlan, SplitRecord, SurveyTask};
use crate::state::SplitState;
use crate::step::Step;
use crate::strategy::{Aim, EventBucketSplit};
use crate::target::{Target, target_bucket};

pub(crate) const BASIS: Basis = Basis {
    incarnation: 1,
    epoch: 1,
};

const AIM: Aim = Aim {
    target_bytes: 1_000,
    targets_max: 8,
};

pub(crate) fn id(id: &str) -> TimeSeriesId {
    TimeSeriesId::new(id).unwrap()
}

pub(crate) fn key(micros: i64, id: &str) -> EventKey {
    EventKey {
        time: at(micros),
        id: EventId::new(id).unwrap(),
    }
}

pub(crate) fn event(micros: i64, id: &str, items: &[(&str, &str)]) -> Event {
    Event {
        key: key(micros, id),
        items: items
            .iter()
            .map(|(key, value)| EventItem {
                key: ItemKey::new(*key).unwrap(),
                value: Bytes::copy_from_slice(value.as_bytes()),
            })
            .collect(),
    }
}

pub(crate) fn at(micros: i64) -> EventTime {
    EventTime::from_micros(micros)
}

pub(crate) fn detected() -> SplitRecord {
    let partition = PartitionKey {
        slice: SliceName::new("20260101").unwrap(),
        time_series_id: id("a"),
        time_bucket: 3,
        event_bucket: 1,
    };
    SplitRecord::detected(partition, 20, at(1))
}

/// A survey that has seen two events.
pub(crate) fn task(basis: Basis, extends: bool, boundary: i64) -> SurveyTask {
    let mut survey = EventBucketSplit { aim: AIM, kept: 0 }.survey();
    for time in [boundary - 1, boundary - 2] {
        survey.add(&id("a"), &event(time, "e", &[("k", "v")]));
    }
    SurveyTask {
        basis,
        extends,
        boundary: at(boundary),
        aim: AIM,
        survey,
    }
}

/// A plan of `count` targets for a record that is in `Planning`.
pub(crate) fn plan(record: &SplitRecord, count: u32) -> SplitPlan {
    let SplitState::Planning { task, .. } = &record.state else {
        panic!("{} has no survey", record.state.name());
    };
    let end = task.boundary.micros();
    let start = record
        .extendable(task)
        .map_or(end - 10 * i64::from(count), |serving| serving.boundary.micros());
    let width = (end - start) / i64::from(count);
    let target = |index: u32| {
        let first = start + i64::from(index) * width;
        let generation = record.generation;
        Target {
            generation,
            event_bucket: target_bucket(generation, 2, record.partition.event_bucket, index).unwrap(),
            oldest: key(first, "a"),
            newest: key(first + width - 1, "b"),
            checksum: Checksum {
                rows: 10 + u64::from(index),
                bytes: 1_000,
                sum: u128::from(generation) << 96 | u128::from(index),
                crc: 7,
            },
        }
    };
    SplitPlan {
        basis: task.basis,
        extends: task.extends,
        boundary: task.boundary,
        targets: (0..count).map(target).collect(),
        capped: false,
        checksum_version: CHECKSUM_VERSION,
    }
}

/// What targets hold when they were written as planned.
pub(crate) fn held(plan: &SplitPlan) -> Vec<Checksum> {
    plan.targets.iter().map(|target| target.checksum).collect()
}

/// The record after a step that it takes, a moment later.
pub(crate) fn after(record: &SplitRecord, step: Step) -> SplitRecord {
    let now = at(record.updated.micros() + 1);
    let name = step.name();
    match record.after(step, now) {
        Ok(next) => next,
        Err(illegal) => panic!("{name}: {illegal}"),
    }
}
