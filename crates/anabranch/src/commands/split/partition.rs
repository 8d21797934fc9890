//! Which partition is meant: written out as SLICE/ID/TIME_BUCKET/EVENT_BUCKET, or by an id and a time.

use anabranch_model::{EventTime, PartitionKey};
use anabranch_proto::admin::v1::{Partition, TimeSlice};

use super::Session;
use crate::cli::WhichPartition;
use crate::client::Client;
use crate::commands::slices;
use crate::exit::Failure;

const MICROS_PER_SECOND: i64 = 1_000_000;

/// The partition that the command line means.
pub(super) async fn of(
    session: &Session,
    client: &mut Client,
    which: &WhichPartition,
) -> Result<Partition, Failure> {
    if let Some(text) = &which.partition {
        return parse(text).map_err(Failure::usage);
    }
    let (Some(id), Some(time)) = (&which.id, &which.time) else {
        return Err(Failure::usage(
            "which partition? Give SLICE/ID/TIME_BUCKET/EVENT_BUCKET as `split list` prints it, or --id and --time",
        ));
    };
    let time = session.time("--time", time)?;
    let micros = EventTime::from_timestamp(time.seconds, time.nanos)
        .ok_or_else(|| Failure::usage("--time: it is outside the years 0001 to 9999"))?
        .micros();
    let slices = slices::fetch(client, &which.namespace).await?;
    let slice = slices.iter().find(|slice| holds(slice, micros)).ok_or_else(|| {
        Failure::usage(format_args!(
            "--time: no time slice of `{}` holds it; `anabranch slices {}` lists them",
            which.namespace, which.namespace
        ))
    })?;
    let buckets = slice.settings.unwrap_or_default().event_buckets;
    let event_bucket = match which.event_bucket {
        Some(bucket) => bucket,
        None if buckets <= 1 => 0,
        None => {
            return Err(Failure::usage(format_args!(
                "slice `{}` has {buckets} event buckets: say which with --event-bucket 0 to {}",
                slice.name,
                buckets - 1
            )));
        }
    };
    Ok(Partition {
        time_slice: slice.name.clone(),
        time_series_id: id.clone(),
        time_bucket: time_bucket(slice, micros),
        event_bucket,
    })
}

/// A partition as it is written.
pub(crate) fn text(partition: &Partition) -> String {
    format!(
        "{}/{}/{}/{}",
        partition.time_slice, partition.time_series_id, partition.time_bucket, partition.event_bucket
    )
}

/// A partition of its text.
fn parse(text: &str) -> Result<Partition, String> {
    let wrong = || format!("`{text}` is no partition; write SLICE/ID/TIME_BUCKET/EVENT_BUCKET");
    let [slice, id, time_bucket, event_bucket] = PartitionKey::split_text(text).ok_or_else(wrong)?;
    Ok(Partition {
        time_slice: slice.to_owned(),
        time_series_id: id.to_owned(),
        time_bucket: time_bucket.parse().map_err(|_| wrong())?,
        event_bucket: event_bucket.parse().map_err(|_| wrong())?,
    })
}

fn bounds(slice: &TimeSlice) -> (Option<i64>, Option<i64>) {
    let micros = |time: Option<&prost_types::Timestamp>| {
        let time = time?;
        EventTime::from_timestamp(time.seconds, time.nanos).map(EventTime::micros)
    };
    let interval = slice.interval.as_ref();
    (
        micros(interval.and_then(|interval| interval.start.as_ref())),
        micros(interval.and_then(|interval| interval.end.as_ref())),
    )
}

fn holds(slice: &TimeSlice, micros: i64) -> bool {
    let (start, end) = bounds(slice);
    start.is_none_or(|start| start <= micros) && end.is_none_or(|end| micros < end)
}

/// Buckets count from the slice's start, those of the slice of all time from the epoch.
fn time_bucket(slice: &TimeSlice, micros: i64) -> i64 {
    let width = slice.settings.unwrap_or_default().seconds_per_time_bucket;
    let width = width.saturating_mul(MICROS_PER_SECOND).max(1);
    let origin = bounds(slice).0.unwrap_or(0);
    micros.saturating_sub(origin).div_euclid(width)
}

#[cfg(test)]
mod tests {
    use anabranch_model::layout::slice_at;
    use anabranch_proto::admin::v1::time_slice::Settings;
    use anabranch_proto::timeseries::v1::TimeInterval;

    use super::*;

    #[test]
    fn a_partition_is_read_back_from_its_text() {
        for id in ["a", "a/b", "/", "a/1/2"] {
            let partition = Partition {
                time_slice: "20260101".to_owned(),
                time_series_id: id.to_owned(),
                time_bucket: -3,
                event_bucket: 7,
            };
            assert_eq!(parse(&text(&partition)), Ok(partition));
        }
        for wrong in ["", "a", "a/b", "a/b/1", "a/b/x/0", "a/b/0/x"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_time_is_in_the_bucket_that_counts_from_its_slice() {
        let settings = Some(Settings {
            seconds_per_time_bucket: 3_600,
            event_buckets: 1,
        });
        let noon = 12 * 3_600 * MICROS_PER_SECOND;
        let (_, interval) = slice_at(EventTime::from_micros(noon), 86_400).unwrap();
        let stamp = |time: EventTime| {
            let (seconds, nanos) = time.to_timestamp();
            Some(prost_types::Timestamp { seconds, nanos })
        };
        let day = TimeSlice {
            interval: Some(TimeInterval {
                start: stamp(interval.start),
                end: stamp(interval.end),
            }),
            settings,
            ..TimeSlice::default()
        };
        assert!(holds(&day, noon) && !holds(&day, 2 * noon));
        assert_eq!(time_bucket(&day, noon + 1), 12);
        let all = TimeSlice {
            interval: Some(TimeInterval::default()),
            settings,
            ..TimeSlice::default()
        };
        assert!(holds(&all, -1));
        assert_eq!(time_bucket(&all, -1), -1);
    }
}
