//! Targets: the smaller partitions that a split writes, and where they lie.

use anabranch_model::{EventKey, PartitionKey};
use serde::{Deserialize, Serialize};

use crate::checksum::Checksum;
use crate::planted::{Bug, planted};

/// Target buckets that one generation of one event bucket may use.
pub const TARGETS_A_GENERATION: u32 = 1_024;

/// One target: a contiguous run of a partition's events in a partition of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The generation that wrote it.
    pub generation: u32,
    /// Its event bucket in the slice's wide table.
    pub event_bucket: u32,
    /// Its first event in event order.
    pub oldest: EventKey,
    /// Its last event in event order.
    pub newest: EventKey,
    /// What it has to hold.
    pub checksum: Checksum,
}

impl Target {
    /// The partition in the wide table.
    pub fn partition(&self, original: &PartitionKey) -> PartitionKey {
        PartitionKey {
            event_bucket: self.event_bucket,
            ..original.clone()
        }
    }
}

/// The event bucket of a generation's target in the wide table: no two event buckets of a time bucket and no two
/// generations share one. `None` past what the column can hold (an `int`, 31 bits).
///
/// ```text
/// (generation * event_buckets + source event bucket) * 1024 + index
/// ```
pub fn target_bucket(
    generation: u32,
    event_buckets: u32,
    source_event_bucket: u32,
    index: u32,
) -> Option<u32> {
    if source_event_bucket >= event_buckets || index >= TARGETS_A_GENERATION {
        return None;
    }
    let generation = if planted(Bug::TargetsSharedByGenerations) {
        0
    } else {
        generation
    };
    let place = u64::from(generation) * u64::from(event_buckets) + u64::from(source_event_bucket);
    let bucket = place * u64::from(TARGETS_A_GENERATION) + u64::from(index);
    i32::try_from(bucket)
        .ok()
        .and_then(|bucket| u32::try_from(bucket).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_two_targets_share_a_bucket(
            a in (0u32..30_000, 0u32..64, 0u32..1_024), b in (0u32..30_000, 0u32..64, 0u32..1_024),
        ) {
            let bucket = |(generation, source, index)| target_bucket(generation, 64, source, index);
            prop_assert_eq!(a == b, bucket(a) == bucket(b));
        }
    }

    #[test]
    fn buckets_end_where_the_column_does() {
        assert_eq!(target_bucket(2, 1, 0, 3), Some(2_051));
        assert_eq!(target_bucket(32_767, 64, 63, 1_023), Some((1 << 31) - 1));
        assert_eq!(target_bucket(32_768, 64, 0, 0), None);
        assert_eq!(target_bucket(0, 1, 1, 0), None);
        assert_eq!(target_bucket(0, 1, 0, 1_024), None);
    }
}
