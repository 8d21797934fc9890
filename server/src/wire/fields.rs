//! Fields that many messages have: names, times, durations, numbers.

use std::time::Duration;

use anabranch_model::{EventTime, InvalidName, ItemKey, NamespaceName, TimeInterval, TimeSeriesId};
use anabranch_proto::timeseries::v1 as pb;

use crate::errors::{Reason, ServiceError};

/// The name of a namespace.
///
/// # Errors
/// `INVALID_NAMESPACE_NAME`.
pub fn namespace(path: &str, name: &str) -> Result<NamespaceName, ServiceError> {
    NamespaceName::new(name).map_err(|why| refused(Reason::InvalidNamespaceName, path, &why))
}

/// A time series id.
///
/// # Errors
/// `INVALID_TIME_SERIES_ID`.
pub fn time_series_id(path: &str, id: &str) -> Result<TimeSeriesId, ServiceError> {
    TimeSeriesId::new(id).map_err(|why| refused(Reason::InvalidTimeSeriesId, path, &why))
}

/// An item key, for a request that is wrong for `reason` without it.
///
/// # Errors
/// `reason`.
pub fn item_key(reason: Reason, path: &str, key: &str) -> Result<ItemKey, ServiceError> {
    ItemKey::new(key).map_err(|why| refused(reason, path, &why))
}

/// A name that was refused. Too long is a reason of its own in events.
pub(super) fn refused(reason: Reason, path: &str, why: &InvalidName) -> ServiceError {
    let problem = match why {
        InvalidName::Empty { .. } => "must not be empty".to_owned(),
        InvalidName::TooLong { bytes, bytes_max, .. } => {
            format!("has {bytes} bytes, at most {bytes_max} are allowed")
        }
        InvalidName::Characters { name, allowed, .. } => format!("`{name}` may hold only {allowed}"),
        other => other.to_string(),
    };
    ServiceError::of_field(reason, path, problem)
}

/// A time.
///
/// # Errors
/// `INVALID_TIMESTAMP`.
pub fn time(path: &str, time: &prost_types::Timestamp) -> Result<EventTime, ServiceError> {
    EventTime::from_timestamp(time.seconds, time.nanos).ok_or_else(|| {
        let problem = format!(
            "seconds {} and nanos {} are no time in the years 0001 to 9999",
            time.seconds, time.nanos
        );
        ServiceError::of_field(Reason::InvalidTimestamp, path, problem)
    })
}

/// A time that may be missing.
///
/// # Errors
/// `INVALID_TIMESTAMP`.
pub fn optional_time(
    path: &str,
    value: Option<&prost_types::Timestamp>,
) -> Result<Option<EventTime>, ServiceError> {
    value.map(|value| time(path, value)).transpose()
}

/// An interval; a missing bound is open.
///
/// # Errors
/// `INVALID_TIMESTAMP`, `INVALID_TIME_INTERVAL`.
pub fn interval(path: &str, interval: Option<&pb::TimeInterval>) -> Result<TimeInterval, ServiceError> {
    let Some(interval) = interval else {
        return Ok(TimeInterval::ALL);
    };
    let start = optional_time(&format!("{path}.start"), interval.start.as_ref())?;
    let end = optional_time(&format!("{path}.end"), interval.end.as_ref())?;
    if let (Some(start), Some(end)) = (start, end)
        && end < start
    {
        let problem = format!("ends at {end}, before it starts at {start}; swap the bounds");
        return Err(ServiceError::of_field(Reason::InvalidTimeInterval, path, problem));
    }
    Ok(TimeInterval {
        start: start.unwrap_or(TimeInterval::ALL.start),
        end: end.unwrap_or(TimeInterval::ALL.end),
    })
}

/// A duration of zero or more.
///
/// # Errors
/// `reason`.
pub fn duration(
    reason: Reason,
    path: &str,
    duration: &prost_types::Duration,
) -> Result<Duration, ServiceError> {
    // What protobuf allows: about ten thousand years.
    const SECONDS_MAX: u64 = 315_576_000_000;
    let seconds = u64::try_from(duration.seconds)
        .ok()
        .filter(|seconds| *seconds <= SECONDS_MAX);
    let nanos = u32::try_from(duration.nanos)
        .ok()
        .filter(|nanos| *nanos < 1_000_000_000);
    match (seconds, nanos) {
        (Some(seconds), Some(nanos)) => Ok(Duration::new(seconds, nanos)),
        _ => {
            let problem = format!(
                "seconds {} and nanos {} are no duration of 0 or more",
                duration.seconds, duration.nanos
            );
            Err(ServiceError::of_field(reason, path, problem))
        }
    }
}

/// A time on the wire; `None` for one that the wire can not carry, which only open bounds are.
pub fn timestamp(time: EventTime) -> Option<prost_types::Timestamp> {
    if !(EventTime::MIN..=EventTime::MAX).contains(&time) {
        return None;
    }
    let (seconds, nanos) = time.to_timestamp();
    Some(prost_types::Timestamp { seconds, nanos })
}

/// An interval on the wire; open bounds are left out.
pub fn time_interval(interval: &TimeInterval) -> pb::TimeInterval {
    pb::TimeInterval {
        start: timestamp(interval.start),
        end: timestamp(interval.end),
    }
}

/// A duration on the wire.
pub fn wire_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

/// A count on the wire, held at the end of the number range.
pub fn wire_i64(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A count on the wire, held at the end of the number range.
pub fn wire_i32(count: u64) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn times_roundtrip_to_the_microsecond(micros in EventTime::MIN.micros()..=EventTime::MAX.micros()) {
            let there = timestamp(EventTime::from_micros(micros)).expect("in range");
            prop_assert_eq!(time("t", &there).expect("in range").micros(), micros);
        }

        #[test]
        fn durations_roundtrip(seconds in 0u64..315_576_000_000, nanos in 0u32..1_000_000_000) {
            let value = Duration::new(seconds, nanos);
            let back = duration(Reason::InvalidDuration, "d", &wire_duration(value)).expect("in range");
            prop_assert_eq!(back, value);
        }
    }

    #[test]
    fn open_bounds_stay_open_and_an_end_before_the_start_is_refused() {
        assert_eq!(interval("i", None).unwrap(), TimeInterval::ALL);
        let open = pb::TimeInterval::default();
        assert_eq!(interval("i", Some(&open)).unwrap(), TimeInterval::ALL);
        assert_eq!(time_interval(&TimeInterval::ALL), open);
        let at = |seconds| {
            Some(prost_types::Timestamp {
                seconds,
                nanos: 1_999,
            })
        };
        let backwards = pb::TimeInterval {
            start: at(2),
            end: at(1),
        };
        let error = interval("time_interval", Some(&backwards)).unwrap_err();
        assert_eq!(
            (error.reason, error.fields[0].0.as_str()),
            (Reason::InvalidTimeInterval, "time_interval")
        );
        let empty = pb::TimeInterval {
            start: at(2),
            end: at(2),
        };
        assert!(interval("i", Some(&empty)).unwrap().is_empty());
    }

    #[test]
    fn wrong_times_and_durations_name_their_field() {
        let wrong = prost_types::Timestamp {
            seconds: 0,
            nanos: -1,
        };
        let interval = pb::TimeInterval {
            start: Some(wrong),
            end: None,
        };
        let error = super::interval("time_interval", Some(&interval)).unwrap_err();
        assert_eq!(
            (error.reason, error.fields[0].0.as_str()),
            (Reason::InvalidTimestamp, "time_interval.start")
        );
        let wrong = prost_types::Duration {
            seconds: -1,
            nanos: 0,
        };
        assert_eq!(
            duration(Reason::InvalidLatencySlo, "d", &wrong)
                .unwrap_err()
                .reason,
            Reason::InvalidLatencySlo
        );
    }
}
