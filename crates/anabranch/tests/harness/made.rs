//! Events that can be checked without being remembered.
//!
//! Event `n` of a time series is a function of (seed, series, n), and `n` can be read off its `event_id`. So a checker
//! that meets an event makes it again and compares every byte; all that it keeps is one byte of state an event.

use anabranch_proto::timeseries::v1 as wire;
use bytes::Bytes;

/// A small generator of numbers: the same from the same seed, everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A number in [0, 1).
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    pub(crate) fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

/// One number of several.
pub(crate) fn mix(of: &[u64]) -> u64 {
    of.iter().fold(0x5851_f42d_4c95_7f2d, |state, part| {
        Dice::new(state ^ part).next()
    })
}

/// How the events of a run are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Maker {
    pub(crate) seed: u64,
    /// Time of event 0.
    pub(crate) start_micros: i64,
    /// Time from one instant to the next.
    pub(crate) step_micros: i64,
    /// Events of one series at the same instant.
    pub(crate) an_instant: u64,
    /// The longest value.
    pub(crate) value_bytes_max: u64,
}

impl Maker {
    pub(crate) fn series(&self, series: u64) -> String {
        format!("series:{series}")
    }

    /// Event `n` of a series.
    pub(crate) fn event(&self, series: u64, n: u64) -> wire::EventRecord {
        let mut dice = Dice::new(mix(&[self.seed, series, n]));
        // The first digits are random, so that events of one instant do not sort as they were made.
        let event_id = format!("{:04x}-{n:x}", dice.below(1 << 16));
        let items = 1 + dice.below(4);
        let event_items = (0..items)
            .map(|item| {
                let length = match dice.below(16) {
                    0 => 0,
                    1 => self.value_bytes_max,
                    _ => dice.below(self.value_bytes_max.min(120) + 1),
                };
                wire::EventItem {
                    event_item_key: format!("k{item}-{}", dice.below(8)),
                    event_item_value: Bytes::from(dice.bytes(usize::try_from(length).unwrap())),
                }
            })
            .collect();
        let instant = i64::try_from(n / self.an_instant).unwrap();
        wire::EventRecord {
            time_series_id: self.series(series),
            event_time: Some(super::timestamp(self.start_micros + instant * self.step_micros)),
            event_id,
            event_items,
        }
    }

    /// Which event of its series this one is, if it is one at all: every byte has to be right.
    pub(crate) fn number(&self, series: u64, event: &wire::EventRecord) -> Result<u64, String> {
        let wrong = |what: &str| Err(format!("{what}: {event:?}"));
        let Some((_, digits)) = event.event_id.split_once('-') else {
            return wrong("an event that was never written");
        };
        let Ok(n) = u64::from_str_radix(digits, 16) else {
            return wrong("an event that was never written");
        };
        if *event == self.event(series, n) {
            Ok(n)
        } else {
            wrong("an event with wrong bytes")
        }
    }
}

/// Checks that records are in strict event order: no two of one key, none out of place.
pub(crate) fn check_order(records: &[wire::EventRecord], ascending: bool) -> Result<(), String> {
    for pair in records.windows(2) {
        let (before, after) = (super::event_key(&pair[0]), super::event_key(&pair[1]));
        let right = if ascending { before < after } else { before > after };
        if !right {
            return Err(format!("out of order: {before:?} before {after:?}"));
        }
    }
    Ok(())
}
