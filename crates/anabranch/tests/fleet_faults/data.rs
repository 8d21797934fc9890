//! What is written and read: time series whose events happen as they are written.
//!
//! Instant `i` of a run is `i` steps after its start. Event `n` of a series is the `n % an_instant`th of its instant
//! `n / an_instant` ([`Maker`]), so that which events lie in a stretch of time is arithmetic.

use std::ops::Range;
use std::sync::MutexGuard;
use std::time::{SystemTime, UNIX_EPOCH};

use anabranch_proto::admin::v1 as admin;
use anabranch_proto::timeseries::v1 as wire;

use crate::harness::fates::{Fates, Known, known};
use crate::harness::made::{Maker, check_order};
use crate::harness::{self, timestamp};

/// The series of a namespace, and what is known of them.
#[derive(Debug)]
pub(crate) struct Data {
    pub(crate) namespace: &'static str,
    pub(crate) series: u64,
    pub(crate) detect_bytes: u64,
    pub(crate) maker: Maker,
    known: Known,
}

impl Data {
    /// Many partitions, each of them wide: 30 seconds of a series.
    pub(crate) fn busy(seed: u64) -> Self {
        Self::new("busy", 4, 64 << 10, seed)
    }

    /// Few partitions that never stop growing: what is split of them is extended again and again.
    pub(crate) fn growing(seed: u64) -> Self {
        Self::new("growing", 2, 256 << 10, seed)
    }

    fn new(namespace: &'static str, series: u64, detect_bytes: u64, seed: u64) -> Self {
        Self {
            namespace,
            series,
            detect_bytes,
            maker: Maker {
                seed,
                start_micros: now() / 1_000_000 * 1_000_000,
                step_micros: 100_000,
                an_instant: 2,
                value_bytes_max: 600,
            },
            known: known(series),
        }
    }

    pub(crate) fn settings(&self) -> admin::Namespace {
        let wide = admin::WidePartition {
            detect_bytes: Some(i64::try_from(self.detect_bytes).unwrap()),
            target_bytes: Some(i64::try_from(self.detect_bytes / 2).unwrap()),
            targets_max: Some(1_000),
            ..admin::WidePartition::default()
        };
        let widths = (self.namespace == "busy").then_some((3_600, 30));
        admin::Namespace {
            // Longer than a write may be tried again.
            accept_limit: Some(harness::duration(20)),
            seconds_per_time_slice: widths.map(|(slice, _)| slice),
            seconds_per_time_bucket: widths.map(|(_, bucket)| bucket),
            wide_partition: Some(wide),
            ..harness::namespace(self.namespace)
        }
    }

    /// The first instant that has not come yet.
    pub(crate) fn instant(&self) -> u64 {
        let since = now() - self.maker.start_micros;
        u64::try_from(since / self.maker.step_micros).unwrap() + 1
    }

    /// Instants of so many seconds.
    pub(crate) fn instants(&self, seconds: u64) -> u64 {
        seconds * 1_000_000 / u64::try_from(self.maker.step_micros).unwrap()
    }

    /// The events of some instants.
    pub(crate) fn numbers(&self, instants: &Range<u64>) -> Range<u64> {
        instants.start * self.maker.an_instant..instants.end * self.maker.an_instant
    }

    pub(crate) fn fates(&self, series: u64) -> MutexGuard<'_, Fates> {
        self.known[usize::try_from(series).unwrap()].lock().unwrap()
    }

    /// A read of some instants of a series.
    pub(crate) fn request(
        &self,
        series: u64,
        instants: &Range<u64>,
        ascending: bool,
    ) -> wire::ReadEventRecordsRequest {
        let time = |instant: u64| {
            let steps = i64::try_from(instant).unwrap() * self.maker.step_micros;
            Some(timestamp(self.maker.start_micros + steps))
        };
        let direction = match ascending {
            true => wire::Direction::Ascending,
            false => wire::Direction::Descending,
        };
        wire::ReadEventRecordsRequest {
            namespace: self.namespace.to_owned(),
            time_series_id: self.maker.series(series),
            time_interval: Some(wire::TimeInterval {
                start: time(instants.start),
                end: time(instants.end),
            }),
            direction: direction.into(),
            ..wire::ReadEventRecordsRequest::default()
        }
    }

    /// Holds what a read returned of some instants against what is known: every byte, their order, each once, nothing
    /// that was not sent, and all that had to be there when it began. Returns how many events there were.
    pub(crate) fn check(
        &self,
        series: u64,
        instants: &Range<u64>,
        ascending: bool,
        records: &[wire::EventRecord],
        before: &[u64],
    ) -> Result<u64, String> {
        let context = |why: String| {
            let namespace = self.namespace;
            format!("{namespace}, series {series}, instants {instants:?}, ascending: {ascending}: {why}")
        };
        check_order(records, ascending).map_err(context)?;
        let numbers: Result<Vec<u64>, String> = records
            .iter()
            .map(|record| self.maker.number(series, record))
            .collect();
        let numbers = numbers.map_err(context)?;
        let checked = self.fates(series).check(&numbers, before, self.numbers(instants));
        checked.map(|_| numbers.len() as u64).map_err(context)
    }

    /// Bytes of an event as the store keeps it: ids, keys and values, and 27 bytes around each item (docs/formats.md).
    pub(crate) fn event_bytes(&self, event: &wire::EventRecord) -> u64 {
        let row = |item: &wire::EventItem| {
            let keys = event.time_series_id.len() + event.event_id.len() + item.event_item_key.len();
            keys + item.event_item_value.len() + 27
        };
        event.event_items.iter().map(row).sum::<usize>() as u64
    }
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_micros()).unwrap()
}
