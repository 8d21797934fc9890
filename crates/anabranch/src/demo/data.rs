//! The demo's data: what a streaming service writes down about playback, from one seed.
//!
//! - Ordinary ids are profiles. How many events one has follows a heavy tail: most have a handful, a few
//!   have thousands.
//! - Three ids are far too wide: a set-top box that reports every few milliseconds, a crawler, and an
//!   account shared by half the world. Each puts tens of megabytes into few partitions.
//! - One seed and one time make the same events byte for byte, so that an interrupted load is simply
//!   started again.

use anabranch_proto::timeseries::v1::{EventItem, EventRecord};
use bytes::Bytes;
use prost_types::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const SEED: u64 = 0x616e_6162_7261_6e63;
const HOUR: i64 = 3_600_000_000;
const WEEK: i64 = 7 * 24 * HOUR;

/// The ids that are far too wide: name, events, hours that they are spread over, bytes of their report.
const WIDE: [(&str, u64, i64, usize); 3] = [
    ("device:whale", 130_000, 20, 220),
    ("bot:feed", 90_000, 60, 200),
    ("acct:17", 70_000, 20, 240),
];

/// How much data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Size {
    profiles: u64,
    scale: f64,
}

impl Size {
    /// A share of the usual size.
    pub(super) fn of(scale: f64) -> Self {
        Self {
            profiles: scaled(35_000, scale),
            scale,
        }
    }

    /// Ordinary ids.
    pub(super) fn profiles(self) -> u64 {
        self.profiles
    }

    /// Its name in the record of what was loaded.
    pub(super) fn name(self) -> String {
        format!("v1 scale {}", self.scale)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of a small number"
)]
fn scaled(count: u64, scale: f64) -> u64 {
    ((count as f64 * scale) as u64).max(20)
}

/// The names of the wide ids.
pub(super) fn wide_ids() -> [&'static str; 3] {
    WIDE.map(|(id, ..)| id)
}

/// The name of an ordinary id.
pub(super) fn profile(number: u64) -> String {
    format!("profile:{number}")
}

/// How many events an ordinary id has: a heavy tail with a mean near 7.
fn profile_events(random: &mut StdRng) -> u64 {
    let u: f64 = random.random_range(0.0005..1.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and 4,500"
    )]
    let events = (2.2 / u.powf(0.95)) as u64;
    events.clamp(1, 3_000)
}

/// How many events there will be.
pub(super) fn total(size: Size) -> u64 {
    let wide: u64 = WIDE
        .iter()
        .map(|(_, events, ..)| scaled(*events, size.scale))
        .sum();
    let profiles: u64 = (0..size.profiles)
        .map(|number| profile_events(&mut random_of(number)))
        .sum();
    wide + profiles
}

fn random_of(stream: u64) -> StdRng {
    StdRng::seed_from_u64(SEED ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Every event, ending shortly before a time.
pub(super) fn events(size: Size, end_micros: i64) -> impl Iterator<Item = EventRecord> {
    let profiles = (0..size.profiles).flat_map(move |number| profile_of(number, end_micros));
    let wide = WIDE
        .iter()
        .enumerate()
        .flat_map(move |(at, wide)| wide_of(at as u64, *wide, size, end_micros));
    profiles.chain(wide)
}

const KINDS: [&str; 8] = ["play", "play", "pause", "resume", "seek", "stop", "rate", "error"];
const DEVICES: [&str; 5] = ["tv", "phone", "tablet", "browser", "console"];
const COUNTRIES: [&str; 8] = ["BR", "DE", "FR", "IN", "JP", "KR", "MX", "US"];

/// The sessions of one profile.
fn profile_of(number: u64, end_micros: i64) -> impl Iterator<Item = EventRecord> {
    let mut random = random_of(number);
    let events = profile_events(&mut random);
    let country = *pick(&mut random, &COUNTRIES);
    let device = *pick(&mut random, &DEVICES);
    let mut title = 80_000_000 + random.random_range(0..9_000_u32);
    (0..events).map(move |at| {
        if random.random_ratio(1, 4) {
            title = 80_000_000 + random.random_range(0..9_000_u32);
        }
        let time = end_micros - random.random_range(0..WEEK);
        let kind = *pick(&mut random, &KINDS);
        EventRecord {
            time_series_id: profile(number),
            event_time: Some(timestamp(time)),
            event_id: format!("{at:04x}{:08x}", random.random::<u32>()),
            event_items: vec![
                item("country", country.to_owned()),
                item("device", device.to_owned()),
                item("kind", kind.to_owned()),
                item("position_ms", random.random_range(0..7_200_000_u32).to_string()),
                item("title", title.to_string()),
            ],
        }
    })
}

/// The reports of one wide id: evenly over its hours, so that its partitions are wide and not many.
fn wide_of(
    at: u64,
    (id, events, hours, report_bytes): (&'static str, u64, i64, usize),
    size: Size,
    end_micros: i64,
) -> impl Iterator<Item = EventRecord> {
    let mut random = random_of(u64::MAX - at);
    let events = scaled(events, size.scale);
    let step = hours * HOUR / i64::try_from(events).unwrap_or(i64::MAX).max(1);
    (0..events).map(move |at| {
        let back = i64::try_from(at).unwrap_or(0) * step + random.random_range(0..step.max(1));
        let kind = if random.random_ratio(1, 500) {
            "error"
        } else {
            "heartbeat"
        };
        EventRecord {
            time_series_id: id.to_owned(),
            event_time: Some(timestamp(end_micros - back)),
            event_id: format!("{at:06x}{:06x}", random.random_range(0..0x100_0000_u32)),
            event_items: vec![
                item("bitrate_kbps", random.random_range(235..16_000_u32).to_string()),
                item("kind", kind.to_owned()),
                item("position_ms", (at * 250).to_string()),
                item("report", report(&mut random, report_bytes)),
            ],
        }
    })
}

/// Text as a player reports it: long, and not the same twice.
fn report(random: &mut StdRng, bytes: usize) -> String {
    const WORDS: [&str; 8] = ["buf", "cdn", "drop", "fps", "rtt", "seg", "tls", "vmaf"];
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        let word = pick(random, &WORDS);
        text.push_str(&format!("{word}={};", random.random_range(0..100_000_u32)));
    }
    text
}

fn pick<'a, T>(random: &mut StdRng, from: &'a [T]) -> &'a T {
    &from[random.random_range(0..from.len())]
}

fn item(key: &str, value: String) -> EventItem {
    EventItem {
        event_item_key: key.to_owned(),
        event_item_value: Bytes::from(value),
    }
}

fn timestamp(micros: i64) -> Timestamp {
    Timestamp {
        seconds: micros.div_euclid(1_000_000),
        nanos: i32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use std::collections::BTreeMap;

    const END: i64 = 1_774_656_000_000_000;

    #[test]
    fn one_seed_makes_the_same_events() {
        let size = Size::of(0.002);
        assert!(events(size, END).eq(events(size, END)));
        assert_eq!(events(size, END).count() as u64, total(size));
    }

    #[test]
    fn every_event_is_in_the_week_before_the_end() {
        for event in events(Size::of(0.002), END) {
            let micros = event.event_time.unwrap().seconds * 1_000_000;
            assert!((END - WEEK - 1_000_000..=END).contains(&micros));
        }
    }

    #[test]
    fn most_ids_are_narrow_and_three_are_wide() {
        let mut bytes: BTreeMap<String, usize> = BTreeMap::new();
        for event in events(Size::of(0.05), END) {
            *bytes.entry(event.time_series_id.clone()).or_default() += event.encoded_len();
        }
        let mut sizes: Vec<_> = bytes.into_iter().map(|(id, bytes)| (bytes, id)).collect();
        sizes.sort();
        let widest: Vec<_> = sizes.iter().rev().take(3).map(|(_, id)| id.as_str()).collect();
        let mut wide = wide_ids();
        wide.sort_by_key(|id| widest.iter().position(|widest| widest == id));
        assert_eq!(widest, wide);
        // Half of all ids have less than a kilobyte; the wide ones have a megabyte at this scale.
        assert!(sizes[sizes.len() / 2].0 < 1_500, "{}", sizes[sizes.len() / 2].0);
        assert!(sizes[sizes.len() - 3].0 > 1_000_000);
    }
}
