//! Writes events: batches of whole events of one partition, bounded in bytes, several under way at once.
//!
//! - An event's rows are one mutation: a replica has all of them or none.
//! - W1: a part is answered for when every batch of it is on as many replicas as the consistency says.
//! - W2: a row is its key, and every attempt at a batch carries the same write time.
//! - A part of which one batch is there and another not is *unknown*, as is one whose batch was not answered for.
//! - S4: an append ends. A batch whose turn comes too late to be through by [`CassandraSettings::append_max`] is not sent.

use std::time::Duration;

use anabranch_model::{Event, PartitionKey};
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use scylla::statement::Consistency;

use super::CassandraStore;
use super::events_cql::EventStatement;
use super::policy::Purpose;
use super::record_place::event_bucket;
use crate::error::{ErrorKind, StoreError};
use crate::events::{AppendFailure, PartitionAppend, TableName};

/// A batch ends with the event that reaches this many bytes. It is one mutation, so that the server's limits of
/// batches do not count it, but its replicas copy it whole.
const BATCH_BYTES: usize = 64 << 10;
/// Rows of a batch at most, but for those of its last event.
const BATCH_ROWS: usize = 1_024;
/// Batches of one append under way at once.
const BATCHES_IN_FLIGHT: usize = 32;
/// Bytes of a row beside its texts and its value.
const ROW_OVERHEAD_BYTES: usize = 64;

type InsertRow<'a> = (&'a str, i64, i32, i64, &'a str, &'a str, &'a Bytes);

/// Whole events of one part.
struct BatchOf<'a> {
    part: usize,
    table: &'a TableName,
    partition: &'a PartitionKey,
    events: &'a [Event],
    consistency: Consistency,
}

impl CassandraStore {
    pub(super) async fn append_parts(&self, parts: Vec<PartitionAppend>) -> Result<(), AppendFailure> {
        let at = self.cluster.write_time();
        // A batch waits for its turn and is sent, and either may take a statement's whole time.
        let last_start = self.clock.elapsed() + self.append_max.saturating_sub(self.cluster.batch_max());
        let batches = parts.iter().enumerate().flat_map(|(part, append)| {
            batches(&append.partition, &append.events).map(move |events| BatchOf {
                part,
                table: &append.table,
                partition: &append.partition,
                events,
                consistency: self.levels.append(append.consistency),
            })
        });
        let writes: Vec<_> = batches
            .map(|batch| async move { (batch.part, self.write_events(batch, at, last_start).await) })
            .collect();
        let written: Vec<(usize, Result<(), StoreError>)> = stream::iter(writes)
            .buffer_unordered(BATCHES_IN_FLIGHT)
            .collect()
            .await;
        let failed = failures(parts.len(), written);
        if failed.is_empty() {
            Ok(())
        } else {
            Err(AppendFailure { failed })
        }
    }

    async fn write_events(
        &self,
        batch: BatchOf<'_>,
        at: i64,
        last_start: Duration,
    ) -> Result<(), StoreError> {
        let purpose = Purpose::WriteEvents;
        let bucket = event_bucket(batch.partition)?;
        let rows: Vec<InsertRow<'_>> = batch
            .events
            .iter()
            .flat_map(|event| {
                event.items.iter().map(move |item| {
                    (
                        batch.partition.time_series_id.as_str(),
                        batch.partition.time_bucket,
                        bucket,
                        event.key.time.micros(),
                        event.key.id.as_str(),
                        item.key.as_str(),
                        &item.value,
                    )
                })
            })
            .collect();
        let table = self.event_table(batch.table);
        let insert = match self.event_statement(&table, EventStatement::Insert).await {
            Ok(insert) => insert,
            // Nothing was sent yet.
            Err(error) => return Err(self.explain(purpose, batch.table, error).await),
        };
        if self.clock.elapsed() > last_start {
            return Err(StoreError::Overloaded);
        }
        match self
            .cluster
            .write_batch(insert, batch.consistency, rows.len(), rows, at)
            .await
        {
            Ok(()) => Ok(()),
            Err(failed) if failed.nothing => Err(self.explain(purpose, batch.table, failed.error).await),
            Err(failed) => Err(failed.into_error(purpose)),
        }
    }
}

/// Cuts a part's events into batches.
fn batches<'a>(partition: &'a PartitionKey, events: &'a [Event]) -> impl Iterator<Item = &'a [Event]> {
    let mut rest = events;
    std::iter::from_fn(move || {
        let (mut bytes, mut rows) = (0, 0);
        let ends = rest.iter().position(|event| {
            let of_row = partition.time_series_id.as_bytes().len()
                + event.key.id.as_bytes().len()
                + ROW_OVERHEAD_BYTES;
            bytes += event.content_bytes() + event.items.len() * of_row;
            rows += event.items.len();
            bytes >= BATCH_BYTES || rows >= BATCH_ROWS
        });
        let (batch, after) = rest.split_at_checked(ends.map_or(rest.len(), |last| last + 1))?;
        rest = after;
        (!batch.is_empty()).then_some(batch)
    })
}

/// The parts that failed, with what is to be said of each.
fn failures(parts: usize, written: Vec<(usize, Result<(), StoreError>)>) -> Vec<(usize, StoreError)> {
    let mut done = vec![false; parts];
    let mut first: Vec<Option<StoreError>> = (0..parts).map(|_| None).collect();
    for (part, result) in written {
        match result {
            Ok(()) => {
                if let Some(done) = done.get_mut(part) {
                    *done = true;
                }
            }
            Err(error) => {
                if let Some(slot) = first.get_mut(part)
                    // What is unknown of one batch is unknown of the part.
                    && (slot.is_none() || error.kind() == ErrorKind::Unknown)
                {
                    *slot = Some(error);
                }
            }
        }
    }
    first
        .into_iter()
        .zip(done)
        .enumerate()
        .filter_map(|(part, (error, some_done))| {
            let error = error?;
            // Some of it is there, and the rest is not.
            let error = if some_done && error.kind() != ErrorKind::Unknown {
                StoreError::Unknown {
                    doing: Purpose::WriteEvents.doing(),
                    source: error.into(),
                }
            } else {
                error
            };
            Some((part, error))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use anabranch_model::{EventId, EventItem, EventKey, EventTime, ItemKey, SliceName, TimeSeriesId};

    use super::*;

    fn partition() -> PartitionKey {
        PartitionKey {
            slice: SliceName::new("all").unwrap(),
            time_series_id: TimeSeriesId::new("id").unwrap(),
            time_bucket: 0,
            event_bucket: 0,
        }
    }

    fn event(n: i64, items: usize, bytes: usize) -> Event {
        Event {
            key: EventKey {
                time: EventTime::from_micros(n),
                id: EventId::new("e").unwrap(),
            },
            items: (0..items)
                .map(|n| EventItem {
                    key: ItemKey::new(format!("{n}")).unwrap(),
                    value: Bytes::from(vec![0; bytes]),
                })
                .collect(),
        }
    }

    #[test]
    fn batches_hold_whole_events_and_are_bounded() {
        let partition = partition();
        let events: Vec<Event> = (0..500)
            .map(|n| event(n, 1 + usize::try_from(n).unwrap() % 3, 900))
            .collect();
        let cut: Vec<&[Event]> = batches(&partition, &events).collect();
        assert!(cut.len() > 10, "{}", cut.len());
        assert_eq!(cut.concat(), events);
        let bytes = |events: &[Event]| events.iter().map(Event::content_bytes).sum::<usize>();
        assert!(cut.iter().all(|batch| bytes(batch) < BATCH_BYTES + 3_000));
        let large = [event(0, 1_000, 4_000), event(1, 1, 1)];
        assert_eq!(batches(&partition, &large).count(), 2);
        let small: Vec<Event> = (0..3_000).map(|n| event(n, 1, 0)).collect();
        assert!(batches(&partition, &small).all(|batch| batch.len() <= BATCH_ROWS));
        assert_eq!(batches(&partition, &[]).count(), 0);
    }

    #[test]
    fn a_part_that_is_there_in_part_is_unknown() {
        let certain = || StoreError::Overloaded;
        let unknown = || StoreError::Unknown {
            doing: "writing",
            source: "no answer".into(),
        };
        let written = vec![
            (0, Ok(())),
            (1, Err(certain())),
            (1, Err(certain())),
            (2, Ok(())),
            (2, Err(certain())),
            (3, Err(certain())),
            (3, Err(unknown())),
        ];
        let kinds: Vec<(usize, ErrorKind)> = failures(5, written)
            .into_iter()
            .map(|(part, error)| (part, error.kind()))
            .collect();
        assert_eq!(
            kinds,
            [
                (1, ErrorKind::Overloaded),
                (2, ErrorKind::Unknown),
                (3, ErrorKind::Unknown)
            ]
        );
    }
}
