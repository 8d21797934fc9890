//! The service beside the driver alone, on the same node, tables and shapes of calls, in turns.
//!
//! The driver's side runs in this process: it has neither the hop nor the work of a server, and its rows are read to the
//! last byte as a program would.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anabranch_model::{EventTime, NamespaceName, PartitionKey, SliceName, TimeSeriesId};
use anabranch_proto::admin::v1::Partition;
use anabranch_proto::timeseries::v1::{ReadEventRecordsRequest, TimeInterval};
use anabranch_runtime::Tasks;
use anabranch_storage::cassandra::direct::{Direct, DirectRow};
use anabranch_storage::cassandra::names::KeyspaceName;
use anabranch_storage::cassandra::settings::CassandraSettings;
use anabranch_storage::{TableKind, TableName};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use tonic::Code;

use super::calls;
use super::fleet::{Fleet, Server, Side};
use super::loops::{self, Call, Until};
use super::node::Node;
use crate::data;
use crate::machine::cpu_of;
use crate::reads::Wide;
use crate::window::Series;
use crate::writes::TailSummary;

/// What writes are spread over.
const WRITE_IDS: u64 = 64;
/// The share of what the slower side takes at most, at which latencies are compared.
const LOAD: f64 = 0.5;
/// A namespace that accepts events of any time.
pub(super) const WRITES: &str = "writes";
const DEADLINE: Duration = Duration::from_secs(30);

/// One shape of calls, both ways.
#[derive(Clone, Debug, Serialize)]
pub struct Op {
    /// What a call does.
    pub name: String,
    /// Calls at once in the closed loop.
    pub in_flight: usize,
    /// The most that goes, by the driver alone: calls.
    pub direct: Series,
    /// The same through the service; its processor time is the server's.
    pub service: Series,
    /// Service by driver, turn by turn, the middle one.
    pub throughput_ratio: f64,
    /// Calls a second of the open loop.
    pub open_per_second: f64,
    /// What a call takes then, by the driver alone.
    pub open_direct: TailSummary,
    /// The same through the service.
    pub open_service: TailSummary,
}

/// Shapes of calls.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Page(u64),
    Write(u64),
}

/// Where a page is read directly.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) namespace: String,
    pub(super) id: Wide,
    pub(super) partition: Partition,
}

struct Sides {
    driver: Arc<Direct>,
    writer: Arc<Direct>,
    slice: SliceName,
    place: Arc<Place>,
    partition: PartitionKey,
    seed: u64,
}

pub(super) async fn measure(
    tasks: &Tasks,
    node: &Node,
    fleet: &Fleet,
    place: Place,
    seed: u64,
    rounds: usize,
    seconds: f64,
) -> Result<Vec<Op>> {
    let server = &fleet.servers[Side::Original.at()];
    let mut admin = fleet.admin().await?;
    admin.create(WRITES, super::fleet::UNTHROTTLED).await?;
    // Makes the table.
    write_call(server, seed, 1)(0)
        .await
        .map_err(|code| anyhow::anyhow!("the first write failed: {code}"))?;
    let slice = SliceName::new(admin.oldest_slice(WRITES).await?.as_str())?;
    let points = node.contact_points.split(',').map(str::to_owned).collect();
    let settings = CassandraSettings::new(points, KeyspaceName::new(&fleet.keyspace)?);
    let table = |namespace: &str, slice: &SliceName| {
        anyhow::Ok(TableName {
            namespace: NamespaceName::new(namespace)?,
            kind: TableKind::Data,
            slice: slice.clone(),
        })
    };
    let partition = PartitionKey {
        slice: SliceName::new(place.partition.time_slice.as_str())?,
        time_series_id: TimeSeriesId::new(place.id.id.as_str())?,
        time_bucket: place.partition.time_bucket,
        event_bucket: u32::try_from(place.partition.event_bucket)?,
    };
    let sides = Sides {
        driver: Arc::new(Direct::open(&settings, &table(&place.namespace, &partition.slice)?).await?),
        writer: Arc::new(Direct::open(&settings, &table(WRITES, &slice)?).await?),
        slice,
        place: Arc::new(place),
        partition,
        seed,
    };
    let mut ops = Vec::new();
    for (kind, in_flight) in [
        (Kind::Page(1_000), 16),
        (Kind::Page(10), 32),
        (Kind::Write(100), 16),
        (Kind::Write(1), 64),
    ] {
        ops.push(
            sides
                .compare(tasks, server, kind, in_flight, rounds, seconds)
                .await?,
        );
    }
    Ok(ops)
}

impl Sides {
    async fn compare(
        &self,
        tasks: &Tasks,
        server: &Server,
        kind: Kind,
        in_flight: usize,
        rounds: usize,
        seconds: f64,
    ) -> Result<Op> {
        let window = Duration::from_secs_f64(seconds);
        let (driver, service) = match kind {
            Kind::Page(events) => (self.read_directly(events), self.read(server, events)),
            Kind::Write(events) => (self.write_directly(events), write_call(server, self.seed, events)),
        };
        // Numbers that no turn before has had: every write is a new one.
        let next = [
            Arc::<AtomicU64>::default(),
            Arc::<AtomicU64>::new(AtomicU64::new(1)),
        ];
        for (call, next) in [&driver, &service].into_iter().zip(&next) {
            loops::closed(tasks, call, next, in_flight, window / 2).await?;
        }
        let mut windows = [Vec::new(), Vec::new()];
        for round in 0..rounds {
            let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
            for side in order {
                let call = if side == 0 { &driver } else { &service };
                let cpu_before = cpu_of(server.pid());
                let mut done = loops::closed(tasks, call, &next[side], in_flight, window).await?;
                done.server_cpu = cpu_of(server.pid()).saturating_sub(cpu_before);
                windows[side].push(done);
            }
        }
        let [direct, through] = &windows;
        let (direct, through) = (Series::of("driver", direct)?, Series::of("service", through)?);
        ensure!(
            direct.outcomes.all_ok() && through.outcomes.all_ok(),
            "calls failed: driver {:?}, service {:?}",
            direct.outcomes,
            through.outcomes
        );
        let rate = LOAD * direct.per_second_median.min(through.per_second_median);
        let rate = rate.max(1.0);
        let mut open = Vec::new();
        for (call, next) in [driver, service].into_iter().zip(&next) {
            open.push(
                loops::open(tasks, call, next.clone(), rate, Until::After(window * 2))
                    .await?
                    .summary(),
            );
        }
        let (open_service, open_direct) =
            (open.pop().context("two sides")?, open.pop().context("two sides")?);
        Ok(Op {
            name: match kind {
                Kind::Page(events) => format!("page of {events} at a random time"),
                Kind::Write(1) => "write of 1 event".to_owned(),
                Kind::Write(events) => format!("write of {events} events of one partition"),
            },
            in_flight,
            throughput_ratio: through.ratio_to(&direct.per_second),
            direct,
            service: through,
            open_per_second: rate,
            open_direct,
            open_service,
        })
    }

    /// Where page `n` ends: before that event.
    fn end(place: &Place, seed: u64, n: u64, events: u64) -> u64 {
        let drawn = data::payload(seed, "direct", n, 16);
        let number = u64::from_le_bytes(drawn.first_chunk().copied().unwrap_or_default());
        events + number % (place.id.events - events)
    }

    fn read_directly(&self, events: u64) -> Call {
        let (driver, place, seed) = (self.driver.clone(), self.place.clone(), self.seed);
        let partition = Arc::new(self.partition.clone());
        Arc::new(move |n| {
            let (driver, partition) = (driver.clone(), partition.clone());
            let before = data::time_micros(Self::end(&place, seed, n, events));
            Box::pin(async move {
                let rows = i32::try_from(events).unwrap_or(i32::MAX);
                let page = driver
                    .page(&partition, before, rows)
                    .await
                    .map_err(|_| Code::Unavailable)?;
                if page.0 as u64 == events {
                    Ok(())
                } else {
                    Err(Code::DataLoss)
                }
            })
        })
    }

    fn read(&self, server: &Server, events: u64) -> Call {
        let (clients, place, seed) = (server.clients.clone(), self.place.clone(), self.seed);
        Arc::new(move |n| {
            let client = clients[usize::try_from(n).unwrap_or(0) % clients.len()].clone();
            let end = Self::end(&place, seed, n, events);
            let request = ReadEventRecordsRequest {
                namespace: place.namespace.clone(),
                time_series_id: place.id.id.clone(),
                time_interval: Some(TimeInterval {
                    start: None,
                    end: Some(data::timestamp(data::time_micros(end))),
                }),
                page_size: i32::try_from(events).unwrap_or(i32::MAX),
                ..ReadEventRecordsRequest::default()
            };
            Box::pin(async move {
                let records = calls::read(client, request, DEADLINE).await?;
                if records.len() as u64 == events {
                    Ok(())
                } else {
                    Err(Code::DataLoss)
                }
            })
        })
    }

    fn write_directly(&self, events: u64) -> Call {
        let (driver, slice, seed) = (self.writer.clone(), self.slice.clone(), self.seed);
        Arc::new(move |n| {
            let (driver, slice) = (driver.clone(), slice.clone());
            Box::pin(async move {
                let records = written(seed, "direct", n, events);
                let id = records
                    .first()
                    .map(|record| record.time_series_id.clone())
                    .unwrap_or_default();
                let partition = PartitionKey {
                    slice,
                    time_series_id: TimeSeriesId::new(id.as_str()).map_err(|_| Code::Internal)?,
                    time_bucket: 0,
                    event_bucket: 0,
                };
                let rows: Vec<DirectRow<'_>> = records
                    .iter()
                    .flat_map(|record| {
                        let time = record.event_time.as_ref().map_or(0, |time| {
                            EventTime::from_micros(time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000)
                                .micros()
                        });
                        record.event_items.iter().map(move |item| {
                            (
                                time,
                                record.event_id.as_str(),
                                item.event_item_key.as_str(),
                                &item.event_item_value[..],
                            )
                        })
                    })
                    .collect();
                driver
                    .append(&partition, &rows)
                    .await
                    .map_err(|_| Code::Unavailable)
            })
        })
    }
}

fn write_call(server: &Server, seed: u64, events: u64) -> Call {
    let clients = server.clients.clone();
    Arc::new(move |n| {
        let client = clients[usize::try_from(n).unwrap_or(0) % clients.len()].clone();
        let events = written(seed, "service", n, events);
        Box::pin(calls::write(client, WRITES.to_owned(), events, DEADLINE))
    })
}

/// The events of write `n`, of one partition.
fn written(seed: u64, side: &str, n: u64, events: u64) -> Vec<anabranch_proto::timeseries::v1::EventRecord> {
    let id = format!("{side}-{events}-{:02}", n % WRITE_IDS);
    let first = n / WRITE_IDS * events;
    (first..first + events)
        .map(|event| data::page_event(seed, &id, event))
        .collect()
}
