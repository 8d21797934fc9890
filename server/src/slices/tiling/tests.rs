use anabranch_model::{EventId, EventKey, TimeSeriesId};
use proptest::prelude::*;

use super::*;

fn settings(seconds_per_time_slice: i64, seconds_per_time_bucket: i64) -> NamespaceSettings {
    NamespaceSettings {
        seconds_per_time_slice,
        seconds_per_time_bucket,
        ..NamespaceSettings::default()
    }
}

fn add(slices: &mut Vec<TimeSlice>, settings: &NamespaceSettings, times: &[EventTime]) {
    slices.extend(missing(slices, settings, times).unwrap());
    slices.sort_by_key(|slice| slice.interval.start);
}

fn holding(slices: &[TimeSlice], time: EventTime) -> Vec<&TimeSlice> {
    slices
        .iter()
        .filter(|slice| slice.interval.contains(time))
        .collect()
}

fn hours(hours: i64) -> EventTime {
    EventTime::from_micros(hours * 3_600_000_000)
}

#[test]
fn a_wider_slice_is_cut_to_the_gap_and_named_by_its_start() {
    let mut slices = Vec::new();
    add(&mut slices, &settings(14_400, 3_600), &[hours(5), hours(170)]);
    add(&mut slices, &settings(604_800, 86_400), &[hours(20)]);
    let cut = holding(&slices, hours(20))[0];
    assert_eq!(cut.interval.start, hours(8));
    assert_eq!(cut.name.as_str(), "19700101_08");
    assert_eq!(cut.interval.end, hours(168));
}

#[test]
fn an_all_time_slice_among_others_has_a_start() {
    let mut slices = Vec::new();
    add(&mut slices, &settings(86_400, 3_600), &[hours(30)]);
    add(&mut slices, &settings(0, 3_600), &[hours(1), hours(100)]);
    let before = holding(&slices, hours(1))[0];
    assert_eq!(
        (before.interval.start, before.interval.end),
        (EventTime::MIN, hours(24))
    );
    let after = holding(&slices, hours(100))[0];
    assert_eq!(after.interval.start, hours(48));
    assert_eq!(after.name.as_str(), "19700103");
    assert_ne!(before.time_bucket(hours(1)), before.time_bucket(hours(3)));
}

#[test]
fn a_lone_all_time_slice_is_whole() {
    let mut slices = Vec::new();
    add(&mut slices, &settings(0, 3_600), &[hours(1)]);
    assert_eq!(slices[0].interval, TimeInterval::ALL);
    assert_eq!(slices[0].name.as_str(), "all");
}

fn widths() -> impl Strategy<Value = (i64, i64)> {
    prop_oneof![
        Just((0, 3_600)),
        Just((3_600, 60)),
        Just((14_400, 3_600)),
        Just((86_400, 7_200)),
        Just((129_600, 43_200)),
        Just((604_800, 86_400)),
        Just((31_536_000, 604_800)),
        Just((12_648_960_000, 86_400)),
    ]
}

fn times() -> impl Strategy<Value = EventTime> {
    prop_oneof![
        8 => (-2_000_000i64..2_000_000).prop_map(|minutes| EventTime::from_micros(minutes * 60_000_000 + 7)),
        1 => (EventTime::MIN.micros()..=EventTime::MAX.micros()).prop_map(EventTime::from_micros),
        1 => Just(EventTime::MIN),
        1 => Just(EventTime::MAX),
    ]
}

proptest! {
    #[test]
    fn every_time_has_one_slice_for_good(
        rounds in prop::collection::vec((widths(), prop::collection::vec(times(), 1..8)), 1..12),
    ) {
        let mut slices: Vec<TimeSlice> = Vec::new();
        let mut placed: Vec<(EventTime, anabranch_model::PartitionKey)> = Vec::new();
        let id = TimeSeriesId::new("t").unwrap();
        let partition = |slice: &TimeSlice, time| {
            slice.partition_of(&id, &EventKey { time, id: EventId::new("e").unwrap() })
        };
        for ((slice_width, bucket_width), times) in rounds {
            let before = slices.clone();
            add(&mut slices, &settings(slice_width, bucket_width), &times);
            // What is there never moves.
            for slice in &before {
                prop_assert!(slices.contains(slice));
            }
            for time in times {
                let holding = holding(&slices, time);
                prop_assert_eq!(holding.len(), 1);
                placed.push((time, partition(holding[0], time)));
            }
        }
        for (earlier, later) in slices.iter().zip(slices.iter().skip(1)) {
            prop_assert!(earlier.interval.end <= later.interval.start, "{:?} overlaps {:?}", earlier, later);
        }
        let mut names: Vec<_> = slices.iter().map(|slice| slice.name.clone()).collect();
        names.sort();
        names.dedup();
        prop_assert_eq!(names.len(), slices.len());
        for (time, was) in placed {
            let slice = holding(&slices, time)[0];
            prop_assert_eq!(&partition(slice, time), &was);
            prop_assert!(slice.bucket_interval(was.time_bucket).contains(time));
        }
    }
}
