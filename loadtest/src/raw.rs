//! The floor under every write and page: the same rows through the engine itself, in this process.

use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use anabranch_model::{EventId, EventKey, EventTime, ItemKey, PartitionKey, SliceName, TimeSeriesId};
use anabranch_storage::embedded::engine::{Engine, EngineError, EngineOptions, Row, TableId};
use anabranch_storage::embedded::rows;
use anabranch_storage::keys;
use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;

use crate::clock::now;
use crate::data;
use crate::latency::Latencies;
use crate::window::{Shape, Window};

/// An engine of its own, in a second folder.
#[derive(Debug)]
pub(crate) struct Raw {
    engine: Engine,
    table: TableId,
    next_batch: AtomicU64,
}

impl Raw {
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let (engine, _) = Engine::open(folder, EngineOptions::default())?;
        let table = engine.create_table("bench")?;
        Ok(Self {
            engine,
            table,
            next_batch: AtomicU64::new(0),
        })
    }

    /// A closed loop of the batches that the services get, for as long as `window`.
    pub(crate) fn ingest(&self, seed: u64, shape: Shape, window: Duration) -> Result<Window> {
        let began = now();
        let parts = thread::scope(|scope| {
            let submitters: Vec<_> = (0..shape.connections)
                .map(|_| scope.spawn(|| self.submit(seed, shape, window)))
                .collect();
            submitters
                .into_iter()
                .map(|submitter| submitter.join().map_err(|_| anyhow!("a submitter ended early"))?)
                .collect::<Result<Vec<Window>>>()
        })?;
        Window::of_parts(&parts, began.elapsed())
    }

    fn submit(&self, seed: u64, shape: Shape, window: Duration) -> Result<Window> {
        let mut part = Window::new()?;
        let (send, answers) = sync_channel(shape.in_flight);
        let mut in_flight = 0;
        let began = now();
        loop {
            let more = began.elapsed() < window;
            if more && in_flight < shape.in_flight {
                let batch = self.next_batch.fetch_add(1, Ordering::Relaxed);
                let rows = self.batch(seed, batch, shape.batch_events)?;
                let (send, sent) = (send.clone(), now());
                self.engine.write(rows, move |result| {
                    // There is room for every answer that may be due.
                    let _ = send.try_send((sent, result));
                });
                in_flight += 1;
            } else if in_flight > 0 {
                let (sent, result) = answers.recv()?;
                in_flight -= 1;
                result?;
                part.done(Ok(()), sent.elapsed(), shape.batch_events);
            } else {
                return Ok(part);
            }
        }
    }

    fn batch(&self, seed: u64, batch: u64, events: u64) -> Result<Vec<Row>> {
        let numbers = batch * events..(batch + 1) * events;
        numbers
            .map(|n| {
                let id = data::write_id("r", n);
                let payload = data::payload(seed, &id, n, data::WRITE_PAYLOAD_BYTES);
                self.row(&id, n, data::write_time_micros(n), &payload)
            })
            .collect()
    }

    fn row(&self, id: &str, n: u64, micros: i64, payload: &Bytes) -> Result<Row> {
        let mut key = prefix(id)?;
        let event = EventKey {
            time: EventTime::from_micros(micros),
            id: EventId::new(data::event_id(n))?,
        };
        keys::put_event(&mut key, &event);
        keys::put_item_key(&mut key, &ItemKey::new(data::ITEM_KEY)?);
        Ok(Row::put(self.table, key, rows::encode(payload)))
    }

    /// Writes the events of a wide id.
    pub(crate) fn load(&self, seed: u64, id: &str, events: u64) -> Result<()> {
        let mut pending = std::collections::VecDeque::new();
        let mut n = 0;
        while n < events {
            let until = (n + 500).min(events);
            let rows = (n..until)
                .map(|n| {
                    let payload = data::payload(seed, id, n, data::PAGE_PAYLOAD_BYTES);
                    self.row(id, n, data::time_micros(n), &payload)
                })
                .collect::<Result<Vec<_>>>()?;
            n = until;
            let (send, answer) = sync_channel::<Result<(), EngineError>>(1);
            self.engine.write(rows, move |result| {
                let _ = send.try_send(result);
            });
            pending.push_back(answer);
            if pending.len() > 8
                && let Some(oldest) = pending.pop_front()
            {
                oldest.recv()??;
            }
        }
        for answer in pending {
            answer.recv()??;
        }
        Ok(())
    }

    /// Scans the newest events of an id, over and over.
    pub(crate) fn newest_pages(&self, id: &str, events: usize, pages: usize) -> Result<Latencies> {
        let mut latencies = Latencies::new()?;
        for page in 0..pages + pages / 10 {
            let began = now();
            let (found, _) = self.scan(id, events)?;
            // The first tenth warms up.
            if page >= pages / 10 {
                latencies.record(began.elapsed());
            }
            ensure!(found == events as u64, "the engine lost rows of id {id}");
        }
        Ok(latencies)
    }

    /// Scans all events of an id: how long it took.
    pub(crate) fn whole(&self, id: &str, events: u64) -> Result<Duration> {
        let began = now();
        let (found, _) = self.scan(id, usize::MAX)?;
        ensure!(found == events, "the engine lost rows of id {id}");
        Ok(began.elapsed())
    }

    /// Scans all events of an id, writes them to a second table in batches as they come, and scans that: how long each
    /// of the three took.
    pub(crate) fn copy(&self, id: &str, events: u64) -> Result<[Duration; 3]> {
        const BATCH_ROWS: usize = 500;
        let scan = self.whole(id, events)?;
        let prefix = prefix(id)?;
        let end = keys::prefix_end(&prefix).context("no key is above these")?;
        let bounds = (Bound::Included(&*prefix), Bound::Excluded(&*end));
        let table = self.engine.create_table("copy")?;
        let began = now();
        let write = |rows: Vec<Row>| -> Result<()> {
            let (send, answer) = sync_channel::<Result<(), EngineError>>(1);
            self.engine.write(rows, move |result| {
                let _ = send.try_send(result);
            });
            Ok(answer.recv()??)
        };
        let mut rows = Vec::with_capacity(BATCH_ROWS);
        for row in self.engine.snapshot(self.table)?.range(bounds.0, bounds.1) {
            let (key, value) = row?;
            rows.push(Row::put(table, key, value));
            if rows.len() == BATCH_ROWS {
                write(std::mem::take(&mut rows))?;
            }
        }
        write(rows)?;
        // The first scan is part of it, and counted there.
        let written = began.elapsed().saturating_sub(scan);
        let began = now();
        let copied = self.engine.snapshot(table)?.range(bounds.0, bounds.1).count() as u64;
        ensure!(copied == events, "the engine copied {copied} of {events} rows");
        Ok([scan, written, began.elapsed()])
    }

    fn scan(&self, id: &str, events_max: usize) -> Result<(u64, u64)> {
        let prefix = prefix(id)?;
        let end = keys::prefix_end(&prefix).context("no key is above these")?;
        let snapshot = self.engine.snapshot(self.table)?;
        let (mut events, mut bytes) = (0, 0);
        let bounds = (Bound::Included(&*prefix), Bound::Excluded(&*end));
        for row in snapshot.range(bounds.0, bounds.1).take(events_max) {
            let (key, value) = row?;
            events += 1;
            bytes += (key.len() + value.len()) as u64;
        }
        Ok((events, bytes))
    }
}

/// Bytes of the row of a written event, for a bare log.
pub(crate) fn write_row_bytes(raw: &Raw, seed: u64) -> Result<usize> {
    let rows = raw.batch(seed, 0, 1)?;
    Ok(rows.iter().map(Row::bytes).sum())
}

fn prefix(id: &str) -> Result<Vec<u8>> {
    Ok(keys::partition_prefix(&PartitionKey {
        // The slice is the table, not a part of the key.
        slice: SliceName::new("20260101")?,
        time_series_id: TimeSeriesId::new(id)?,
        time_bucket: 0,
        event_bucket: 0,
    }))
}
