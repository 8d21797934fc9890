//! Time slices, out.

use anabranch_model::{SliceState, TimeSlice};
use anabranch_proto::admin::v1 as pb;
use pb::time_slice::{Settings, State};

use super::fields;

/// A slice as an operator sees it.
pub fn time_slice(slice: &TimeSlice) -> pb::TimeSlice {
    let sealed_whole = slice
        .sealed_before
        .is_some_and(|before| before >= slice.interval.end);
    let state = match slice.state {
        SliceState::Open if sealed_whole => State::Sealed,
        SliceState::Open => State::Open,
        SliceState::Closed => State::Closed,
        SliceState::Dropped => State::Dropped,
    };
    pb::TimeSlice {
        name: slice.name.to_string(),
        interval: Some(fields::time_interval(&slice.interval)),
        state: state.into(),
        epoch: fields::wire_i64(slice.epoch),
        sealed_before: slice.sealed_before.and_then(fields::timestamp),
        settings: Some(Settings {
            seconds_per_time_bucket: slice.settings.seconds_per_time_bucket,
            event_buckets: fields::wire_i32(slice.settings.event_buckets.into()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_model::layout::slice_at;
    use anabranch_model::{EventTime, PartitionSettings};

    #[test]
    fn a_slice_is_sealed_when_all_of_it_is() {
        let (name, interval) = slice_at(EventTime::from_micros(0), 86_400).unwrap();
        let settings = PartitionSettings {
            seconds_per_time_bucket: 3_600,
            event_buckets: 4,
        };
        let mut slice = TimeSlice::cut(name, interval, settings);
        slice.epoch = 2;
        assert_eq!(time_slice(&slice).state(), State::Open);
        slice.sealed_before = Some(EventTime::from_micros(1));
        assert_eq!(time_slice(&slice).state(), State::Open);
        slice.sealed_before = Some(slice.interval.end);
        let wire = time_slice(&slice);
        assert_eq!(wire.state(), State::Sealed);
        assert_eq!((wire.name.as_str(), wire.epoch), ("19700101", 2));
        assert_eq!(
            wire.interval.and_then(|i| i.end).map(|end| end.seconds),
            Some(86_400)
        );
        assert_eq!(
            wire.settings
                .map(|s| (s.seconds_per_time_bucket, s.event_buckets)),
            Some((3_600, 4))
        );
        slice.state = SliceState::Closed;
        assert_eq!(time_slice(&slice).state(), State::Closed);
    }
}
