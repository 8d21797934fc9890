//! Writes events of every kind, repeats what was not acked, and reads back at once what was.

use std::sync::Arc;
use std::time::Duration;

use anabranch_model::{
    Event, EventId, EventItem, EventKey, EventRecord, EventTime, ItemKey, TimeInterval, TimeSeriesId,
};
use anabranch_runtime::{Clock, Deadline};
use anabranch_server::errors::{Reason, ServiceError};
use anabranch_server::write::{WriteOutcome, WriteRequest};
use bytes::Bytes;

use crate::actors::reader::find;
use crate::clock::sleep;
use crate::dice::Dice;
use crate::model::Told;
use crate::scenario::REQUEST_MAX;
use crate::world::World;

/// Earlier requests that may be sent again.
const EARLIER_MAX: usize = 6;
/// Writes into a time that is opened or sealed.
const WRITES_INTO: usize = 8;
/// Times that a request of which nobody knows what became is sent again.
const ATTEMPTS_MAX: usize = 6;

pub(crate) struct Writer {
    world: Arc<World>,
    dice: Dice,
    name: String,
    sent: u64,
    /// A moment at which many events happen.
    burst: Option<EventTime>,
    earlier: Vec<Vec<EventRecord>>,
    /// It reads back whatever was acked.
    careful: bool,
}

impl Writer {
    pub(crate) fn new(world: Arc<World>, dice: Dice, number: usize) -> Self {
        Self {
            world,
            dice,
            name: format!("w{number}"),
            sent: 0,
            burst: None,
            earlier: Vec::new(),
            careful: false,
        }
    }

    /// Writes beside events that lie in an interval, and looks for what was acked at once.
    pub(crate) async fn write_into(mut self, interval: TimeInterval) {
        self.careful = true;
        for _ in 0..WRITES_INTO {
            let Some(time) = self.world.model.some_time(&self.dice) else {
                return;
            };
            let id = self.dice.pick(&self.world.scenario.ids).cloned();
            if let (Some(id), true) = (id, interval.contains(time)) {
                let records = self.record(id, time).into_iter().collect();
                self.sent += 1;
                self.write(records).await;
            }
        }
    }

    /// Writes until everything is written.
    pub(crate) async fn run(mut self) {
        let events = self.world.scenario.events;
        let gap = self.world.scenario.length / u32::try_from(events / 6 + 1).unwrap_or(1);
        while self.world.goes_on() && self.sent < events {
            if self.dice.chance(700) {
                sleep(self.dice.duration(Duration::ZERO, gap * 2)).await;
            }
            let again = (!self.earlier.is_empty() && self.dice.chance(100))
                .then(|| self.dice.pick(&self.earlier).cloned())
                .flatten();
            let records = match again {
                Some(records) => records,
                None => self.compose().await,
            };
            self.write(records).await;
        }
    }

    /// Events of one request.
    async fn compose(&mut self) -> Vec<EventRecord> {
        let world = self.world.clone();
        let server = world.a_server(&self.dice).await;
        // Near the limits by the clock of a server that decides on them.
        let now = match server.running() {
            Some(running) => EventTime::from_micros(running.clock.unix_micros()),
            None => world.time(),
        };
        let count = 1 + self.dice.below(10);
        let mut records = Vec::new();
        let Some(id) = self.dice.pick(&world.scenario.ids).cloned() else {
            return records;
        };
        if self.dice.chance(200) {
            self.burst = Some(self.moment(now));
        }
        let together = self.dice.chance(300).then_some(self.burst).flatten();
        // All or nothing at the door: events near a limit come in requests of their own kind.
        let near = self.moment(now);
        for _ in 0..count {
            let time = match together {
                Some(time) => time,
                None => near.saturating_sub(Duration::from_micros(self.dice.below(120_000_000))),
            };
            let id = match self.dice.chance(800) {
                true => id.clone(),
                false => self
                    .dice
                    .pick(&world.scenario.ids)
                    .cloned()
                    .unwrap_or_else(|| id.clone()),
            };
            records.extend(self.record(id, time));
            self.sent += 1;
        }
        records
    }

    fn moment(&self, now: EventTime) -> EventTime {
        let scenario = &self.world.scenario;
        let limit = scenario.settings.accept_limit;
        let back = match self.dice.below(10) {
            _ if limit.is_zero() => self.dice.duration(Duration::ZERO, scenario.history),
            // Late, by a few seconds on either side of what is still taken.
            0 | 1 => limit.saturating_sub(self.dice.duration(Duration::ZERO, Duration::from_secs(150))),
            2 => limit + self.dice.duration(Duration::ZERO, Duration::from_secs(20)),
            3 => return now.saturating_add(self.dice.duration(Duration::ZERO, Duration::from_secs(70))),
            _ => self.dice.duration(Duration::ZERO, Duration::from_secs(20)),
        };
        now.saturating_sub(back)
    }

    fn record(&self, time_series_id: TimeSeriesId, time: EventTime) -> Option<EventRecord> {
        let id = match self.dice.chance(500) {
            true => format!("{}-{}", self.name, self.sent),
            // In an order of its own.
            false => format!("{:03}-{}-{}", self.dice.below(1_000), self.name, self.sent),
        };
        let keys = ["", "k", "k0", "z"]
            .iter()
            .skip(1)
            .take(1 + usize::try_from(self.dice.below(3)).ok()?);
        let items = keys.filter_map(|key| {
            let bytes = match self.dice.below(4) {
                0 => 0,
                1 => self.dice.below(16),
                _ => self.dice.below(self.world.scenario.value_bytes_max),
            };
            let fill = u8::try_from(self.dice.below(256)).unwrap_or(0);
            Some(EventItem {
                key: ItemKey::new(*key).ok()?,
                value: Bytes::from(vec![fill; usize::try_from(bytes).ok()?]),
            })
        });
        Some(EventRecord {
            time_series_id,
            event: Event {
                items: items.collect(),
                key: EventKey {
                    time,
                    id: EventId::new(id).ok()?,
                },
            },
        })
    }

    async fn write(&mut self, records: Vec<EventRecord>) {
        if records.is_empty() {
            return;
        }
        self.world.model.sent(&records);
        for _ in 0..=self.dice.below(ATTEMPTS_MAX as u64) {
            let told = self.attempt(&records).await;
            if told != Told::Unsure {
                break;
            }
            sleep(self.dice.duration(Duration::ZERO, Duration::from_secs(20))).await;
        }
        if self.earlier.len() == EARLIER_MAX {
            self.earlier.remove(0);
        }
        self.earlier.push(records);
    }

    async fn attempt(&self, records: &[EventRecord]) -> Told {
        let world = &self.world;
        let server = world.a_server(&self.dice).await;
        let (namespace, events) = (world.namespace.clone(), records.to_vec());
        let before = world.model.under_way(records);
        let outcome = world
            .ask(&server, |core, clock| async move {
                let deadline = Some(Deadline::after(&*clock, REQUEST_MAX));
                let request = WriteRequest {
                    namespace,
                    events,
                    deadline,
                };
                core.writer.write_sync(request).await
            })
            .await;
        let told = self.judge(&outcome);
        world.trace.note(&self.name, "told", told as u64, || {
            let keys: Vec<String> = records
                .iter()
                .map(|record| {
                    format!(
                        "{} {} {}",
                        record.time_series_id, record.event.key.time, record.event.key.id
                    )
                })
                .collect();
            format!("{told:?} by {}: {keys:?} {outcome:?}", server.name)
        });
        world.model.told(records, &before, told);
        if told == Told::Acked && (self.careful || self.dice.chance(300)) {
            self.read_back(records).await;
        }
        told
    }

    fn judge(&self, outcome: &Option<Result<WriteOutcome, ServiceError>>) -> Told {
        match outcome {
            None => Told::Unsure,
            Some(Ok(_)) => Told::Acked,
            Some(Err(error)) => match error.reason {
                Reason::EventTooOld
                | Reason::EventTooFarAhead
                | Reason::TimeSliceSealed
                | Reason::TimeSliceClosed => Told::Rejected,
                _ => {
                    if !self.world.passes(error) {
                        self.world.fail(format!("a write was answered with {error}"));
                    }
                    Told::Unsure
                }
            },
        }
    }

    /// W1: whoever reads now finds what was acked before.
    async fn read_back(&self, records: &[EventRecord]) {
        for record in records {
            let time = record.event.key.time;
            let interval = TimeInterval {
                start: time,
                end: time.saturating_add(Duration::from_micros(1)),
            };
            if !self.world.is_due(&record.event.key) {
                continue;
            }
            if find(&self.world, &self.dice, &record.time_series_id, interval).await {
                self.world.counts().read_back += 1;
            }
            if !self.dice.chance(300) {
                return;
            }
        }
    }
}
