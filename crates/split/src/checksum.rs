//! What proves that two sets of rows are the same rows in the same order.
//!
//! ```text
//! row ─▶ canonical bytes ─▶ XXH3-128 ─┬▶ multiset part: rows, bytes, sum of hashes mod 2^128
//!                                     └▶ ordered part: CRC-32 over the hashes, combined over parts in order
//! ```
//!
//! The two parts fail differently: the sum does not see order, the CRC does; a sum (and not an exclusive or) sees
//! a row that is there twice. Both are a few bytes, so a scan that was stopped goes on from where it was.
//!
//! Canonical bytes of a row, version [`CHECKSUM_VERSION`]: event time (8 bytes), then event id, item key and value,
//! each as its length (8 bytes) and its bytes; integers little-endian. Rows are taken in the store's own order:
//! events newest first, the items of an event ascending.

use anabranch_model::{Event, EventItem, EventKey, TimeSeriesId};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3Default;

use crate::planted::{Bug, planted};

/// Version of the canonical bytes and of both parts.
pub const CHECKSUM_VERSION: u8 = 1;

/// Bytes of a hash in the ordered part.
const HASH_BYTES: u64 = 16;

/// Checksum of a run of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checksum {
    /// Rows: an event has one for each of its items.
    pub rows: u64,
    /// Bytes of the rows as [`row_bytes`] counts them.
    pub bytes: u64,
    /// Sum of the rows' hashes, mod 2^128.
    pub sum: u128,
    /// CRC-32 over the rows' hashes, in order.
    pub crc: u32,
}

impl Checksum {
    /// Takes in the rows of an event.
    pub fn add_event(&mut self, time_series_id: &TimeSeriesId, event: &Event) {
        let mut crc = self.hasher();
        for item in &event.items {
            let hash = row_hash(&event.key, item);
            self.rows += 1;
            self.bytes += row_bytes(time_series_id, &event.key, item);
            self.sum = self.sum.wrapping_add(hash);
            if !planted(Bug::ChecksumWithoutOrder) {
                crc.update(&hash.to_le_bytes());
            }
        }
        self.crc = crc.finalize();
    }

    /// The checksum of these rows followed by those of `next`.
    #[must_use]
    pub fn then(&self, next: &Self) -> Self {
        let mut crc = self.hasher();
        crc.combine(&next.hasher());
        Self {
            rows: self.rows + next.rows,
            bytes: self.bytes + next.bytes,
            sum: self.sum.wrapping_add(next.sum),
            crc: crc.finalize(),
        }
    }

    fn hasher(&self) -> crc32fast::Hasher {
        crc32fast::Hasher::new_with_initial_len(self.crc, self.rows.saturating_mul(HASH_BYTES))
    }
}

/// Bytes of a row: what the embedded store keeps for it before compression, without escapes. Thresholds and sizes of
/// targets are counted in these.
pub fn row_bytes(time_series_id: &TimeSeriesId, key: &EventKey, item: &EventItem) -> u64 {
    // Three texts with two bytes of end each, time bucket, event bucket, time, and the value's format.
    const AROUND: usize = 3 * 2 + 8 + 4 + 8 + 1;
    let texts = time_series_id.as_bytes().len() + key.id.as_bytes().len() + item.key.as_bytes().len();
    (texts + AROUND + item.value.len()) as u64
}

fn row_hash(key: &EventKey, item: &EventItem) -> u128 {
    let mut hash = Xxh3Default::new();
    hash.update(&key.time.micros().to_le_bytes());
    let value: &[u8] = if planted(Bug::ChecksumWithoutValue) {
        &[]
    } else {
        &item.value
    };
    for text in [key.id.as_bytes(), item.key.as_bytes(), value] {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    hash.digest128()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{event, id};
    use proptest::prelude::*;

    fn of(events: &[Event]) -> Checksum {
        let mut sum = Checksum::default();
        for event in events {
            sum.add_event(&id("a"), event);
        }
        sum
    }

    #[test]
    fn the_canonical_bytes_are_a_stored_format() {
        let sum = of(&[event(7, "e", &[("k", "v"), ("l", "")])]);
        assert_eq!((sum.rows, sum.bytes), (2, 2 * (1 + 1 + 1 + 27) + 1));
        let mut bytes = Vec::new();
        bytes.extend(7i64.to_le_bytes());
        for text in ["e", "k", "v"] {
            bytes.extend((text.len() as u64).to_le_bytes());
            bytes.extend(text.as_bytes());
        }
        assert_eq!(
            of(&[event(7, "e", &[("k", "v")])]).sum,
            xxhash_rust::xxh3::xxh3_128(&bytes)
        );
    }

    #[test]
    fn fields_do_not_run_into_each_other() {
        let sums = [
            ("ab", "c", "d"),
            ("a", "bc", "d"),
            ("a", "b", "cd"),
            ("a", "b", "c"),
        ];
        let sums = sums.map(|(id, key, value)| of(&[event(1, id, &[(key, value)])]).sum);
        for (n, sum) in sums.iter().enumerate() {
            assert!(!sums[..n].contains(sum));
        }
    }

    proptest! {
        #[test]
        fn parts_in_order_make_the_whole(rows in proptest::collection::vec((0i64..50, 0u8..4), 0..30), cut in 0usize..31) {
            let events: Vec<Event> = rows
                .iter()
                .map(|(time, n)| event(*time, &format!("e{n}"), &[("k", "v")]))
                .collect();
            let (head, tail) = events.split_at(cut.min(events.len()));
            prop_assert_eq!(of(head).then(&of(tail)), of(&events));
        }

        #[test]
        fn every_change_of_the_rows_shows(n in 2usize..20, at in 0usize..20, how in 0u8..4) {
            let events: Vec<Event> = (0..n).map(|n| event(n as i64, "e", &[("k", "v")])).collect();
            let at = at % n;
            let mut changed = events.clone();
            match how {
                0 => drop(changed.remove(at)),
                1 => changed.insert(at, events[at].clone()),
                2 => changed.swap(at, (at + 1) % n),
                _ => changed[at] = event(at as i64, "e", &[("k", "w")]),
            }
            prop_assert_ne!(of(&changed), of(&events));
        }
    }
}
