//! How processes behave towards store and topic: what no answer shows, and what would only cost time if it were wrong.
//!
//! - The marker of a shard moves after a record of it, never before: who sees the marker sees the record.
//! - A detection is acked only when its record is there, or when it is about nothing.
//! - S2, R2: as long as nothing damages targets, none is ever found to differ, be it by its splitter or by a read that is
//!   made both ways. (That one is called damaged may also be the store's doing: a table that is gone with its slice.)

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anabranch_bus::Detection;
use anabranch_catalog::ground;
use anabranch_model::SliceName;
use anabranch_model::namespace::Rollout;
use anabranch_split::SplitReason;
use anabranch_storage::memory::MemoryStore;
use anabranch_storage::{RecordKey, SplitRecords, SplitSlot, split_shard};

/// Reasons that only damage explains.
const DAMAGE: [SplitReason; 2] = [SplitReason::ChecksumMismatch, SplitReason::CompareMismatch];

/// What was seen of all processes.
#[derive(Debug, Default)]
pub(crate) struct Conduct {
    /// Targets lose events.
    damage: bool,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// By process and shard, how many records it stored, less the times that it moved the marker.
    unmarked: BTreeMap<(Arc<str>, SliceName, u8), i64>,
    /// The first thing that was wrong.
    wrong: Option<String>,
}

impl Conduct {
    pub(crate) fn new(damage: bool) -> Self {
        Self {
            damage,
            seen: Mutex::default(),
        }
    }

    /// The first thing that was wrong, once.
    pub(crate) fn take_wrong(&self) -> Option<String> {
        self.seen().wrong.take()
    }

    /// A process is about to store something.
    pub(crate) fn asks(&self, who: &Arc<str>, key: &RecordKey, value: Option<&[u8]>) {
        let (RecordKey::SplitMarker { slice, shard, .. }, Some(_)) = (key, value) else {
            return;
        };
        let mut seen = self.seen();
        let unmarked = seen.unmarked.entry((who.clone(), slice.clone(), *shard));
        let unmarked = unmarked.or_default();
        *unmarked -= 1;
        if *unmarked < 0 {
            seen.wrong(format!(
                "{who} moves the marker of {slice}/{shard} before its record"
            ));
        }
    }

    /// A process has stored something.
    pub(crate) fn stored(&self, who: &Arc<str>, key: &RecordKey, value: Option<&[u8]>) {
        let (RecordKey::Split { partition, .. }, Some(value)) = (key, value) else {
            return;
        };
        let mut seen = self.seen();
        let shard = split_shard(&partition.time_series_id);
        let unmarked = (who.clone(), partition.slice.clone(), shard);
        *seen.unmarked.entry(unmarked).or_default() += 1;
        if let Some(reason) = reason(value).filter(|_| !self.damage) {
            let reason = reason.as_str();
            seen.wrong(format!(
                "{partition} is {reason} although nothing damages targets"
            ));
        }
    }

    /// A process is about to ack a detection.
    pub(crate) async fn acks(&self, memory: &Arc<MemoryStore>, detection: &Detection) {
        let Detection {
            namespace, partition, ..
        } = detection;
        let slot = SplitRecords::new(memory.clone()).get(namespace, partition).await;
        let ground = ground(&**memory, namespace, &partition.slice).await;
        if let (Ok(SplitSlot::Free { .. }), Ok(Some(ground))) = (slot, ground)
            && ground.settings.wide_partition.rollout != Rollout::Off
        {
            self.seen().wrong(format!(
                "a detection of {partition} is acked, and nothing is stored"
            ));
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn wrong(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }
}

/// The reason that a stored record names, if it is one of [`DAMAGE`]. Of its text: to decode each would take as long as
/// all the rest of a world.
fn reason(value: &[u8]) -> Option<SplitReason> {
    let text = std::str::from_utf8(value).ok()?;
    let (_, rest) = text.split_once("\"reason\":\"")?;
    DAMAGE.into_iter().find(|reason| {
        rest.strip_prefix(reason.as_str())
            .is_some_and(|rest| rest.starts_with('"'))
    })
}

#[cfg(test)]
mod tests {
    use anabranch_model::{EventTime, PartitionKey, TimeSeriesId};
    use anabranch_split::SplitRecord;

    use super::*;

    #[test]
    fn the_reason_of_a_stored_record_is_seen() {
        let partition = PartitionKey {
            slice: SliceName::new("20260101").unwrap(),
            time_series_id: TimeSeriesId::new("\"reason\":\"CHECKSUM_MISMATCH\"").unwrap(),
            time_bucket: 1,
            event_bucket: 0,
        };
        let mut record = SplitRecord::detected(partition, 1, EventTime::from_micros(0));
        for (stored, seen) in [
            (None, None),
            (Some(SplitReason::StoreFailed), None),
            (
                Some(SplitReason::ChecksumMismatch),
                Some(SplitReason::ChecksumMismatch),
            ),
        ] {
            record.reason = stored;
            assert_eq!(reason(&record.encode().unwrap()), seen);
        }
    }
}
