//! Events on their way to the topic: paced, confirmed, counted.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anabranch_bus::kafka::{KafkaError, Outlet};
use anabranch_proto::timeseries::v1::EventRecord;
use anabranch_runtime::{Clock, SystemClock};
use prost::Message;

use super::{failure, hash};
use crate::cli::Replay;
use crate::exit::{Exit, Failure};
use crate::output::progress::Progress;
use crate::units::{a_second, format_count, format_elapsed, format_time};

/// Header with the namespace that an event is from.
const NAMESPACE_HEADER: &str = "anabranch-namespace";
/// Header with the type of the value.
const MESSAGE_HEADER: &str = "anabranch-message";
/// The type of the value.
const MESSAGE: &str = "anabranch.timeseries.v1.EventRecord";
/// Waits below this are not worth it: the pace is kept over more events.
const WAIT_MIN: Duration = Duration::from_millis(2);

/// Sends events to the topic.
pub(super) struct Sender {
    clock: Arc<SystemClock>,
    outlet: Outlet,
    namespace: String,
    /// Events a second; 0 is no limit.
    rate: u64,
    /// How long nothing may be confirmed.
    patience: Duration,
    started: Duration,
    progress: Progress,
    events: u64,
    bytes: u64,
    ids: HashSet<u128>,
}

/// What was sent.
pub(super) struct Sent {
    pub(super) events: u64,
    pub(super) ids: u64,
    pub(super) bytes: u64,
}

impl Sender {
    pub(super) fn new(clock: Arc<SystemClock>, outlet: Outlet, replay: &Replay, progress: Progress) -> Self {
        Self {
            started: clock.elapsed(),
            clock,
            outlet,
            namespace: replay.namespace.clone(),
            rate: replay.rate,
            patience: replay.retry_for,
            progress,
            events: 0,
            bytes: 0,
            ids: HashSet::new(),
        }
    }

    /// Sends events in their order, and returns when all are confirmed.
    pub(super) async fn send(&mut self, records: &[EventRecord]) -> Result<(), Failure> {
        let mut under_way = Vec::with_capacity(records.len());
        for record in records {
            self.keep_pace(under_way.len() as u64).await;
            let value = record.encode_to_vec();
            let headers = [
                (NAMESPACE_HEADER, self.namespace.as_bytes()),
                (MESSAGE_HEADER, MESSAGE.as_bytes()),
            ];
            let confirmed = self
                .outlet
                .send(record.time_series_id.as_bytes(), &value, &headers)
                .map_err(|error| of_event(record, &error))?;
            under_way.push((record, value.len(), confirmed));
        }
        for (record, bytes, confirmed) in under_way {
            tokio::select! {
                biased;
                confirmed = confirmed => confirmed.map_err(|error| of_event(record, &error))?,
                () = self.clock.sleep(self.patience) => return Err(self.nothing_confirmed()),
            }
            self.events += 1;
            self.bytes += bytes as u64;
            self.ids.insert(hash(&record.time_series_id));
        }
        if let Some(last) = records.last() {
            let at = last.event_time.as_ref().map(format_time).unwrap_or_default();
            self.progress.note(format!(
                "{} events of {} ids, {}/s, at {at}",
                format_count(self.events),
                format_count(self.ids.len() as u64),
                format_count(self.rate()),
            ));
        }
        Ok(())
    }

    /// Waits until one more may be sent after those that were, and `under_way` more.
    async fn keep_pace(&self, under_way: u64) {
        if self.rate == 0 {
            return;
        }
        let micros = u128::from(self.events + under_way) * 1_000_000 / u128::from(self.rate);
        let due = self.started + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        let wait = due.saturating_sub(self.clock.elapsed());
        if wait >= WAIT_MIN {
            self.clock.sleep(wait).await;
        }
    }

    fn nothing_confirmed(&self) -> Failure {
        Failure {
            exit: Exit::Unavailable,
            text: format!(
                "error: the brokers have confirmed nothing for {}",
                format_elapsed(self.patience)
            ),
        }
    }

    fn rate(&self) -> u64 {
        a_second(self.events, self.clock.elapsed().saturating_sub(self.started))
    }

    /// Ends it.
    pub(super) async fn finish(self) -> Sent {
        self.progress.finish();
        self.outlet.close().await;
        Sent {
            events: self.events,
            ids: self.ids.len() as u64,
            bytes: self.bytes,
        }
    }
}

/// An event that could not be sent.
fn of_event(record: &EventRecord, error: &KafkaError) -> Failure {
    let mut failure = failure(error);
    failure.text.push_str(&format!(
        "\n  event:  `{}` of `{}` at {}",
        record.event_id,
        record.time_series_id,
        record.event_time.as_ref().map(format_time).unwrap_or_default()
    ));
    if error.is_refusal() {
        failure.exit = Exit::Refused;
        failure
            .text
            .push_str("\n  fix:    let the topic take it: its max.message.bytes, and who may write to it");
    }
    failure
}
