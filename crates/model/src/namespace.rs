//! What a namespace is set to, its defaults, and the checks that hold between settings.
//!
//! What its levels of consistency come to is in [`crate::consistency`].

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::consistency::Consistency;
use crate::layout::PartitionSettings;
use crate::time::{EventTime, MICROS_PER_SECOND};

/// How the values of an item key compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FieldType {
    /// By bytes.
    #[default]
    Keyword,
    /// As decimal text of a signed 64-bit integer.
    Integer,
    /// As decimal text of a 64-bit float.
    Double,
    /// As the text `true` or `false`.
    Boolean,
    /// As RFC 3339 text, to the microsecond.
    Timestamp,
}

/// When a slice stops being read and written, and when it is dropped; counted from the slice's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// Close to reads and writes after this; never when `None`.
    pub close_after: Option<Duration>,
    /// Drop after this; never when `None`.
    pub delete_after: Option<Duration>,
}

/// How queued writes are gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueBuffering {
    /// Longest time that a queued event waits for company.
    pub coalesce: Duration,
    /// Most bytes that may wait; an event past it is refused and counted as dropped.
    pub buffer_capacity_bytes: u64,
}

/// What a request's latency should be, and at most may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slo {
    /// The aim.
    pub target: Duration,
    /// The most: a read's default `latency_slo`.
    pub max: Duration,
}

/// How far the healing of wide partitions may go. Each includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Rollout {
    /// Nothing.
    Off,
    /// Wide partitions are found.
    Detect,
    /// And split, but not read from.
    Split,
    /// And sampled reads are made both ways.
    Compare,
    /// And served from the copy.
    #[default]
    Serve,
}

/// When a partition is wide and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WidePartition {
    /// How far healing goes.
    pub rollout: Rollout,
    /// Bytes read from one partition past which it is detected.
    pub detect_bytes: u64,
    /// Size aimed at for a target.
    pub target_bytes: u64,
    /// Most targets of one partition.
    pub targets_max: u32,
    /// Share of reads that `compare` makes both ways, 0 to 1.
    pub compare_ratio: f64,
    /// Most bytes a second that splitting reads.
    pub split_bytes_per_second: u64,
}

/// Whether the sizes of future slices are tuned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TuningMode {
    /// No.
    Off,
    /// Proposals wait for approval.
    #[default]
    Propose,
    /// Proposals are applied.
    Apply,
}

/// The density that tuning aims at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuning {
    /// Whether it runs.
    pub mode: TuningMode,
    /// Partitions smaller than this are too many.
    pub density_min_bytes: u64,
    /// Partitions larger than this are too wide.
    pub density_max_bytes: u64,
}

/// Everything that a namespace is set to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NamespaceSettings {
    /// Width of a slice; 0 is one slice for all time.
    pub seconds_per_time_slice: i64,
    /// Width of a time bucket.
    pub seconds_per_time_bucket: i64,
    /// Event buckets in a time bucket.
    pub event_buckets: u32,
    /// Oldest event accepted, counted back from now; zero accepts any.
    pub accept_limit: Duration,
    /// Furthest event accepted, counted ahead from now.
    pub accept_ahead_limit: Duration,
    /// When slices close and drop.
    pub retention: Retention,
    /// Queued writes.
    pub queue_buffering: QueueBuffering,
    /// Replicas that must take a write; used as [`Self::append_consistency`].
    pub write_consistency: Consistency,
    /// Replicas that must answer a read; used as [`Self::scan_consistency`].
    pub read_consistency: Consistency,
    /// Latency of reads.
    pub read_slo: Slo,
    /// Latency of writes.
    pub write_slo: Slo,
    /// How the values of item keys compare; KEYWORD where a key is not named.
    pub field_mapping: BTreeMap<String, FieldType>,
    /// Healing.
    pub wide_partition: WidePartition,
    /// Tuning.
    pub tuning: Tuning,
}

impl Default for NamespaceSettings {
    fn default() -> Self {
        Self {
            seconds_per_time_slice: 604_800,
            seconds_per_time_bucket: 86_400,
            event_buckets: 1,
            accept_limit: Duration::from_secs(600),
            accept_ahead_limit: Duration::from_secs(60),
            retention: Retention::default(),
            queue_buffering: QueueBuffering {
                coalesce: Duration::from_secs(1),
                buffer_capacity_bytes: 4 << 20,
            },
            write_consistency: Consistency::LocalQuorum,
            read_consistency: Consistency::LocalQuorum,
            read_slo: Slo {
                target: Duration::from_millis(500),
                max: Duration::from_secs(1),
            },
            write_slo: Slo {
                target: Duration::from_millis(10),
                max: Duration::from_millis(50),
            },
            field_mapping: BTreeMap::new(),
            wide_partition: WidePartition {
                rollout: Rollout::Serve,
                detect_bytes: 16 << 20,
                target_bytes: 4 << 20,
                targets_max: 64,
                compare_ratio: 0.01,
                split_bytes_per_second: 20 << 20,
            },
            tuning: Tuning {
                mode: TuningMode::Propose,
                density_min_bytes: 2 << 20,
                density_max_bytes: 10 << 20,
            },
        }
    }
}

/// A setting that can not be, with the field as it is called on the wire.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}: {reason}")]
pub struct InvalidSetting {
    /// Path of the field.
    pub field: &'static str,
    /// What it was set to.
    pub value: String,
    /// Why not, and what fits.
    pub reason: &'static str,
}

/// Most event buckets in a time bucket: a read opens all of them.
pub const EVENT_BUCKETS_MAX: u32 = 64;

/// Most time buckets of a slice, where a walk of an id asks for each of them.
pub const TIME_BUCKETS_WALKED_MAX: i64 = 10_000;

impl NamespaceSettings {
    /// How the values of `item_key` compare.
    pub fn field_type(&self, item_key: &str) -> FieldType {
        self.field_mapping.get(item_key).copied().unwrap_or_default()
    }

    /// The settings that a slice made now is frozen with.
    pub fn partition_settings(&self) -> PartitionSettings {
        PartitionSettings {
            seconds_per_time_bucket: self.seconds_per_time_bucket,
            event_buckets: self.event_buckets,
        }
    }

    /// Every rule that holds for one setting or between several; all that are broken are named.
    pub fn check(&self) -> Result<(), Vec<InvalidSetting>> {
        const HOUR: i64 = 3_600;
        let mut broken = Vec::new();
        let mut rule = |holds: bool, field: &'static str, value: String, reason: &'static str| {
            if !holds {
                broken.push(InvalidSetting { field, value, reason });
            }
        };
        let slice = self.seconds_per_time_slice;
        let bucket = self.seconds_per_time_bucket;
        // 400 years: far more than any retention, and its arithmetic stays far from the number's end.
        rule(
            slice == 0 || (slice >= HOUR && slice % HOUR == 0 && slice <= 400 * 366 * 86_400),
            "seconds_per_time_slice",
            slice.to_string(),
            "use 0 for one all-time slice, or a multiple of 3600 up to 400 years",
        );
        rule(
            bucket >= 1 && (slice == 0 || (bucket <= slice && slice % bucket == 0)),
            "seconds_per_time_bucket",
            bucket.to_string(),
            "use at least 1, and a width that divides seconds_per_time_slice",
        );
        rule(
            (1..=EVENT_BUCKETS_MAX).contains(&self.event_buckets),
            "event_buckets",
            self.event_buckets.to_string(),
            "use 1 to 64",
        );
        if let (Some(close), Some(delete)) = (self.retention.close_after, self.retention.delete_after) {
            rule(
                close < delete,
                "retention.delete_after",
                format!("{}s", delete.as_secs_f64()),
                "use more than retention.close_after, so that reads and exports under way can end",
            );
        }
        rule(
            self.retention.delete_after.is_none() || self.retention.close_after.is_some(),
            "retention.close_after",
            "missing".to_owned(),
            "set it below retention.delete_after: a slice closes before it is dropped",
        );
        rule(
            self.retention == Retention::default() || slice != 0,
            "retention",
            "set".to_owned(),
            "retention drops whole slices, so it needs seconds_per_time_slice above 0",
        );
        rule(
            self.accept_ahead_limit <= Duration::from_secs(366 * 86_400),
            "accept_ahead_limit",
            format!("{}s", self.accept_ahead_limit.as_secs_f64()),
            "use at most 366 days",
        );
        rule(
            self.queue_buffering.coalesce <= Duration::from_secs(60),
            "queue_buffering.coalesce",
            format!("{}s", self.queue_buffering.coalesce.as_secs_f64()),
            "use at most 60s",
        );
        rule(
            (64 << 10..=1 << 30).contains(&self.queue_buffering.buffer_capacity_bytes),
            "queue_buffering.buffer_capacity_bytes",
            self.queue_buffering.buffer_capacity_bytes.to_string(),
            "use 64 KiB to 1 GiB",
        );
        let (write, read) = (self.write_consistency, self.read_consistency);
        rule(
            !write.is_eventual() || self.wide_partition.rollout < Rollout::Split,
            "consistency.write",
            write.as_str().to_owned(),
            "a split could leave out what one replica alone has: use LOCAL_QUORUM, QUORUM or EACH_QUORUM, or set \
             wide_partition.rollout to OFF or DETECT",
        );
        rule(
            read != Consistency::EachQuorum,
            "consistency.read",
            read.as_str().to_owned(),
            "it is for writes: use LOCAL_QUORUM, which sees what EACH_QUORUM acked",
        );
        rule(
            read == Consistency::EachQuorum
                || read.is_eventual()
                || write.is_eventual()
                || write.is_seen_at(read),
            "consistency.read",
            read.as_str().to_owned(),
            "with several data centres it may not see what consistency.write acked: use the same for both, or EACH_QUORUM \
             for writes; or LOCAL_ONE, where reads need not see what was acked",
        );
        for (slo, target, max) in [
            (self.read_slo, "slos.read.target", "slos.read.max"),
            (self.write_slo, "slos.write.target", "slos.write.max"),
        ] {
            rule(!slo.target.is_zero(), target, "0s".to_owned(), "use more than 0s");
            rule(
                slo.target <= slo.max && slo.max <= Duration::from_secs(3_600),
                max,
                format!("{}s", slo.max.as_secs_f64()),
                "use at least the target and at most 1h",
            );
        }
        let wide = &self.wide_partition;
        rule(
            wide.detect_bytes >= 1 << 10,
            "wide_partition.detect_bytes",
            wide.detect_bytes.to_string(),
            "use at least 1 KiB",
        );
        rule(
            wide.target_bytes >= 1 << 10,
            "wide_partition.target_bytes",
            wide.target_bytes.to_string(),
            "use at least 1 KiB",
        );
        rule(
            (2..=1_024).contains(&wide.targets_max),
            "wide_partition.targets_max",
            wide.targets_max.to_string(),
            "use 2 to 1024",
        );
        rule(
            (0.0..=1.0).contains(&wide.compare_ratio),
            "wide_partition.compare_ratio",
            wide.compare_ratio.to_string(),
            "use 0 to 1",
        );
        rule(
            wide.split_bytes_per_second >= 64 << 10,
            "wide_partition.split_bytes_per_second",
            wide.split_bytes_per_second.to_string(),
            "use at least 64 KiB",
        );
        rule(
            self.tuning.density_min_bytes < self.tuning.density_max_bytes,
            "tuning.density_max_bytes",
            self.tuning.density_max_bytes.to_string(),
            "use more than tuning.density_min_bytes",
        );
        if broken.is_empty() { Ok(()) } else { Err(broken) }
    }

    /// What holds besides on a store that can not say which time buckets an id has: a walk through a slice is a
    /// read of every one of them.
    pub fn check_walked(&self) -> Result<(), InvalidSetting> {
        let slice = match self.seconds_per_time_slice {
            0 => (EventTime::MAX.micros() - EventTime::MIN.micros()) / MICROS_PER_SECOND,
            seconds => seconds,
        };
        let bucket = self.seconds_per_time_bucket.max(1);
        if slice / bucket <= TIME_BUCKETS_WALKED_MAX {
            return Ok(());
        }
        Err(InvalidSetting {
            field: "seconds_per_time_bucket",
            value: format!("{bucket} in slices of {}", self.seconds_per_time_slice),
            reason: "on this store a walk reads every time bucket of a slice, so a slice has at most 10000 of them; use \
                     wider buckets, or narrower slices (one all-time slice is 9999 years: let its buckets be of 100, 3153600000)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold() {
        assert_eq!(NamespaceSettings::default().check(), Ok(()));
    }

    #[test]
    fn a_slice_that_is_walked_bucket_by_bucket_has_few_of_them() {
        const YEAR: i64 = 366 * 86_400;
        for (slice, bucket, holds) in [
            (604_800, 3_600, true),
            (604_800, 60, false),
            (360_000, 36, true),
            (3_600, 1, true),
            (0, 3_600, false),
            (0, YEAR, true),
            (0, i64::MAX, true),
        ] {
            let settings = NamespaceSettings {
                seconds_per_time_slice: slice,
                seconds_per_time_bucket: bucket,
                ..NamespaceSettings::default()
            };
            assert_eq!(settings.check(), Ok(()));
            assert_eq!(settings.check_walked().is_ok(), holds, "{slice} {bucket}");
        }
        assert_eq!(NamespaceSettings::default().check_walked(), Ok(()));
        let all_time = |seconds_per_time_bucket| NamespaceSettings {
            seconds_per_time_slice: 0,
            seconds_per_time_bucket,
            ..NamespaceSettings::default()
        };
        // What the error says holds.
        let refused = all_time(60).check_walked().unwrap_err();
        assert!(
            refused
                .reason
                .contains(&format!("at most {TIME_BUCKETS_WALKED_MAX} "))
        );
        assert!(refused.reason.contains("100, 3153600000)"));
        assert_eq!(all_time(3_153_600_000).check_walked(), Ok(()));
    }

    #[test]
    fn broken_settings_are_all_named() {
        let settings = NamespaceSettings {
            seconds_per_time_slice: 100,
            seconds_per_time_bucket: 0,
            event_buckets: 0,
            retention: Retention {
                close_after: None,
                delete_after: Some(Duration::from_secs(1)),
            },
            ..NamespaceSettings::default()
        };
        let fields: Vec<_> = settings
            .check()
            .unwrap_err()
            .into_iter()
            .map(|broken| broken.field)
            .collect();
        assert_eq!(
            fields,
            [
                "seconds_per_time_slice",
                "seconds_per_time_bucket",
                "event_buckets",
                "retention.close_after"
            ]
        );
    }

    #[test]
    fn a_bucket_must_divide_its_slice() {
        let settings = NamespaceSettings {
            seconds_per_time_slice: 7_200,
            seconds_per_time_bucket: 5_000,
            ..NamespaceSettings::default()
        };
        assert_eq!(settings.check().unwrap_err()[0].field, "seconds_per_time_bucket");
    }

    #[test]
    fn stored_settings_roundtrip() {
        let settings = NamespaceSettings::default();
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(
            serde_json::from_str::<NamespaceSettings>(&text).unwrap(),
            settings
        );
    }
}
