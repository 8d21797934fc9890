//! Events made from (seed, id, n), so that a reader knows every byte that it must get.
//!
//! - Payloads never repeat: a store that finds equal ones could look faster than it is.
//! - The first half of a payload is random, the second half is one byte over and over: LZ4 takes about half.
//! - Event n of an id is one step of time after event n-1, so a page without gaps counts down by one.

use anabranch_proto::timeseries::v1::{EventItem, EventRecord};
use anyhow::{Result, bail};
use bytes::Bytes;
use prost_types::Timestamp;

/// 2026-01-01T00:00:00Z: a fixed time, so that a run can be repeated to the byte.
pub(crate) const BASE_MICROS: i64 = 1_767_225_600_000_000;
/// Between two events of an id. A million of them lie within 17 minutes: one time bucket, one partition.
pub(crate) const STEP_MICROS: i64 = 1_000;
/// The one item of each event.
pub(crate) const ITEM_KEY: &str = "v";
/// Payload of a written event.
pub(crate) const WRITE_PAYLOAD_BYTES: usize = 200;
/// Payload of an event of a page; with its time, id and key it is 500 bytes.
pub(crate) const PAGE_PAYLOAD_BYTES: usize = 464;
/// What an event of a page counts for: payload and keys.
pub(crate) const PAGE_EVENT_BYTES: u64 = 500;
/// Ids that writes are spread over, at random.
pub(crate) const WRITE_IDS: u64 = 10_000;

/// One stream of random numbers: `splitmix64`.
struct Mix(u64);

impl Mix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// The number behind (seed, id, n).
fn digest(seed: u64, id: &str, n: u64) -> u64 {
    let mut hash = seed ^ 0xCBF2_9CE4_8422_2325;
    for byte in id.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    }
    Mix(hash ^ n.wrapping_mul(0xD6E8_FEB8_6659_FD93)).next()
}

/// Fills `out` with the payload of event n of an id.
pub(crate) fn fill_payload(seed: u64, id: &str, n: u64, out: &mut [u8]) {
    let digest = digest(seed, id, n);
    let mut mix = Mix(digest);
    let (random, same) = out.split_at_mut(out.len() / 2);
    for chunk in random.chunks_mut(8) {
        chunk.copy_from_slice(&mix.next().to_le_bytes()[..chunk.len()]);
    }
    same.fill(digest.to_le_bytes()[0]);
}

/// The payload of event n of an id.
pub(crate) fn payload(seed: u64, id: &str, n: u64, bytes: usize) -> Bytes {
    let mut out = vec![0; bytes];
    fill_payload(seed, id, n, &mut out);
    Bytes::from(out)
}

/// The id of event n of a stream of writes: one of [`WRITE_IDS`], at random.
pub(crate) fn write_id(stream: &str, n: u64) -> String {
    format!("{stream}{:05}", Mix(n).next() % WRITE_IDS)
}

/// When event n happened.
pub(crate) fn time_micros(n: u64) -> i64 {
    BASE_MICROS.saturating_add(i64::try_from(n).unwrap_or(i64::MAX).saturating_mul(STEP_MICROS))
}

/// When event n of a stream of writes happened: so many may come that a millisecond each would take weeks.
pub(crate) fn write_time_micros(n: u64) -> i64 {
    BASE_MICROS.saturating_add(i64::try_from(n).unwrap_or(i64::MAX).saturating_mul(10))
}

/// The event id of event n.
pub(crate) fn event_id(n: u64) -> String {
    format!("{n:08x}")
}

/// A time of the wire.
pub(crate) fn timestamp(micros: i64) -> Timestamp {
    Timestamp {
        seconds: micros.div_euclid(1_000_000),
        nanos: i32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or(0),
    }
}

/// A record of the wire.
fn record(id: String, n: u64, micros: i64, payload: Bytes) -> EventRecord {
    EventRecord {
        time_series_id: id,
        event_time: Some(timestamp(micros)),
        event_id: event_id(n),
        event_items: vec![EventItem {
            event_item_key: ITEM_KEY.to_owned(),
            event_item_value: payload,
        }],
    }
}

/// Event n of an id that pages are read from.
pub(crate) fn page_event(seed: u64, id: &str, n: u64) -> EventRecord {
    let payload = payload(seed, id, n, PAGE_PAYLOAD_BYTES);
    record(id.to_owned(), n, time_micros(n), payload)
}

/// Event n of a stream of writes.
pub(crate) fn write_event(seed: u64, stream: &str, n: u64) -> EventRecord {
    let id = write_id(stream, n);
    let payload = payload(seed, &id, n, WRITE_PAYLOAD_BYTES);
    record(id, n, write_time_micros(n), payload)
}

/// A batch of a stream of writes.
pub(crate) fn write_batch(seed: u64, stream: &str, batch: u64, events: u64) -> Vec<EventRecord> {
    (batch * events..(batch + 1) * events)
        .map(|n| write_event(seed, stream, n))
        .collect()
}

/// Checks a page of an id, newest first: that it starts with event `newest`, has no gap, and has the right bytes.
pub(crate) fn verify_page(seed: u64, id: &str, newest: u64, records: &[EventRecord]) -> Result<()> {
    let mut expected = [0; PAGE_PAYLOAD_BYTES];
    for (at, record) in records.iter().enumerate() {
        let Some(n) = newest.checked_sub(at as u64) else {
            bail!("id {id} answers more events than were written");
        };
        let micros = record
            .event_time
            .as_ref()
            .map(|t| t.seconds * 1_000_000 + i64::from(t.nanos) / 1_000);
        if record.time_series_id != id || micros != Some(time_micros(n)) || record.event_id != event_id(n) {
            bail!(
                "id {id}: event {n} was due at place {at} of its page, but {} of {} at {micros:?} came",
                record.event_id,
                record.time_series_id
            );
        }
        fill_payload(seed, id, n, &mut expected);
        match record.event_items.as_slice() {
            [item] if item.event_item_key == ITEM_KEY && item.event_item_value == expected[..] => {}
            _ => bail!("id {id}: event {n} came with other bytes than were written"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(newest: u64, events: u64) -> Vec<EventRecord> {
        (0..events).map(|at| page_event(7, "a", newest - at)).collect()
    }

    #[test]
    fn a_right_page_passes_and_every_wrong_one_does_not() {
        verify_page(7, "a", 99, &page(99, 20)).unwrap();
        assert!(verify_page(8, "a", 99, &page(99, 20)).is_err(), "another seed");
        assert!(verify_page(7, "b", 99, &page(99, 20)).is_err(), "another id");
        assert!(
            verify_page(7, "a", 98, &page(99, 20)).is_err(),
            "it starts elsewhere"
        );
        let mut gap = page(99, 20);
        gap.remove(7);
        assert!(verify_page(7, "a", 99, &gap).is_err(), "a gap");
        let mut turned = page(99, 20);
        turned.swap(3, 4);
        assert!(verify_page(7, "a", 99, &turned).is_err(), "another order");
        let mut flipped = page(99, 20);
        let mut bytes = flipped[5].event_items[0].event_item_value.to_vec();
        bytes[100] ^= 1;
        flipped[5].event_items[0].event_item_value = Bytes::from(bytes);
        assert!(verify_page(7, "a", 99, &flipped).is_err(), "a flipped bit");
    }

    #[test]
    fn payloads_never_repeat() {
        let all: std::collections::BTreeSet<Bytes> = (0..10_000).map(|n| payload(7, "a", n, 200)).collect();
        assert_eq!(all.len(), 10_000);
    }
}
