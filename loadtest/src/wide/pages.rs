//! Pages at random times of a wide id, from its original and from its targets in turns, every byte of each checked.
//!
//! Both sides of a cell read the same places in the same order, and each page has to be made of the bytes that were
//! written: so the two are equal, byte for byte, page for page.

use std::time::Duration;

use anabranch_proto::timeseries::v1::response_context::ServedFrom;
use anabranch_proto::timeseries::v1::{
    Direction, EventRecord, ReadEventRecordsRequest, ReadEventRecordsResponse, TimeInterval,
};
use anabranch_runtime::Tasks;
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use tonic::{Request, Status};

use super::fleet::{Server, Side};
use crate::client::Client;
use crate::clock::now;
use crate::data;
use crate::machine::cpu_of;
use crate::reads::Wide;
use crate::window::{Series, Window};

/// Events of a page.
pub(super) const PAGE_EVENTS: u64 = 1_000;
/// What a page may take before the service cuts it: no page of a measurement is to be cut.
const SLO: Duration = Duration::from_secs(30);
const DEADLINE: Duration = SLO;

/// Pages of one shape.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) namespace: String,
    pub(super) id: Wide,
    pub(super) newest_first: bool,
    pub(super) readers: usize,
    pub(super) seed: u64,
}

/// One comparison of original and targets.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// Newest first, or oldest first.
    pub newest_first: bool,
    /// How many read at once.
    pub readers: usize,
    /// Pages a second and latency, from the original.
    pub original: Series,
    /// The same through targets.
    pub targets: Series,
    /// Pages a second through targets by those from the original, turn by turn, the middle one.
    pub gain: f64,
}

/// Which event a page begins with: the same for both sides.
fn place(shape: &Shape, round: usize, reader: usize, page: u64) -> u64 {
    let stream = format!("place {round} {reader}");
    let drawn = data::payload(shape.seed, &stream, page, 16);
    let number = u64::from_le_bytes(drawn.first_chunk().copied().unwrap_or_default());
    // As a number of the oldest event of the page.
    number % (shape.id.events - PAGE_EVENTS + 1)
}

/// The request for the page whose oldest event is `oldest`.
fn ask(shape: &Shape, oldest: u64) -> Request<ReadEventRecordsRequest> {
    let bound = |n: u64| Some(data::timestamp(data::time_micros(n)));
    let (start, end) = if shape.newest_first {
        (None, bound(oldest + PAGE_EVENTS))
    } else {
        (bound(oldest), None)
    };
    let mut request = Request::new(ReadEventRecordsRequest {
        namespace: shape.namespace.clone(),
        time_series_id: shape.id.id.clone(),
        time_interval: Some(TimeInterval { start, end }),
        direction: direction(shape.newest_first).into(),
        page_size: i32::try_from(PAGE_EVENTS).unwrap_or(i32::MAX),
        latency_slo: prost_types::Duration::try_from(SLO).ok(),
        ..ReadEventRecordsRequest::default()
    });
    request.set_timeout(DEADLINE);
    request
}

pub(super) fn direction(newest_first: bool) -> Direction {
    if newest_first {
        Direction::Descending
    } else {
        Direction::Ascending
    }
}

/// Whether a page has the events that were written, and came from where it should.
fn check(shape: &Shape, oldest: u64, from: Option<Side>, page: ReadEventRecordsResponse) -> Result<()> {
    let mut records = page.records;
    ensure!(
        records.len() as u64 == PAGE_EVENTS,
        "a page of {PAGE_EVENTS} of id {} came with {} events",
        shape.id.id,
        records.len()
    );
    if !shape.newest_first {
        records.reverse();
    }
    data::verify_page(shape.seed, &shape.id.id, oldest + PAGE_EVENTS - 1, &records)?;
    let context = page
        .response_context
        .first()
        .context("an answer without a context")?;
    let Some(side) = from else {
        return Ok(());
    };
    // A walk may look into buckets next to this one, which are not split and hold nothing.
    let found = match context.served_from() {
        ServedFrom::Original => Side::Original,
        _ => Side::Targets,
    };
    ensure!(
        found == side,
        "a page of id {} was to come from {side:?} and came from {:?}, split filter {:?}",
        shape.id.id,
        context.served_from(),
        context.split_filter()
    );
    Ok(())
}

/// Takes turns between both sides. `Err` when an answer was wrong; calls that failed are counted.
pub(super) async fn compare(
    tasks: &Tasks,
    servers: &[Server; 2],
    shape: &Shape,
    rounds: usize,
    seconds: f64,
) -> Result<Cell> {
    let window = Duration::from_secs_f64(seconds);
    let mut windows: [Vec<Window>; 2] = Default::default();
    // A short turn each warms up, and is not counted.
    for side in Side::BOTH {
        turn(
            tasks,
            servers,
            side,
            shape,
            rounds,
            window.min(Duration::from_secs(1)) / 2,
        )
        .await?;
    }
    for round in 0..rounds {
        let mut order = Side::BOTH;
        if round % 2 == 1 {
            order.reverse();
        }
        for side in order {
            windows[side.at()].push(turn(tasks, servers, side, shape, round, window).await?);
        }
    }
    let [original, targets] = &windows;
    let original = Series::of("original", original)?;
    let targets = Series::of("targets", targets)?;
    Ok(Cell {
        newest_first: shape.newest_first,
        readers: shape.readers,
        gain: targets.ratio_to(&original.per_second),
        original,
        targets,
    })
}

/// A closed loop of readers of one side.
async fn turn(
    tasks: &Tasks,
    servers: &[Server; 2],
    side: Side,
    shape: &Shape,
    round: usize,
    window: Duration,
) -> Result<Window> {
    let server = &servers[side.at()];
    let cpu_before = cpu_of(server.pid());
    let began = now();
    let mut loops = Vec::new();
    for reader in 0..shape.readers {
        let mut client = server.clients[reader % server.clients.len()].clone();
        let shape = shape.clone();
        loops.push(tasks.spawn("read-loop", async move {
            let mut part = Window::new()?;
            let mut page = 0;
            while began.elapsed() < window {
                let oldest = place(&shape, round, reader, page);
                let sent = now();
                let answer = client.read_event_records(ask(&shape, oldest)).await;
                let took = sent.elapsed();
                let outcome = match answer {
                    Ok(answer) => {
                        check(&shape, oldest, Some(side), answer.into_inner())?;
                        Ok(())
                    }
                    Err(status) => Err(status.code()),
                };
                part.done(outcome, took, 1);
                page += 1;
            }
            anyhow::Ok(part)
        }));
    }
    let mut parts = Vec::new();
    for part in loops {
        parts.push(part.await??);
    }
    let mut whole = Window::of_parts(&parts, began.elapsed())?;
    whole.server_cpu = cpu_of(server.pid()).saturating_sub(cpu_before);
    Ok(whole)
}

/// Reads the same places from both sides, one right after the other, and holds the records against each other. How many
/// pages were compared.
pub(super) async fn agree(servers: &[Server; 2], shape: &Shape, pages: u64) -> Result<u64> {
    let [mut original, mut targets] = servers.each_ref().map(|server| server.clients[0].clone());
    for page in 0..pages {
        let oldest = place(shape, usize::MAX, 0, page);
        let from_original = answer(&mut original, shape, oldest).await?;
        let from_targets = answer(&mut targets, shape, oldest).await?;
        ensure!(
            from_original == from_targets,
            "id {}: the page of event {oldest} differs between original and targets",
            shape.id.id
        );
    }
    Ok(pages)
}

async fn answer(client: &mut Client, shape: &Shape, oldest: u64) -> Result<Vec<EventRecord>, Status> {
    let answer = client.read_event_records(ask(shape, oldest)).await?;
    Ok(answer.into_inner().records)
}

/// Reads pages one after the other from one server, as a namespace of the stage COMPARE answers them.
pub(super) async fn read_some(client: &mut Client, shape: &Shape, pages: u64, pause: Duration) -> Result<()> {
    for page in 0..pages {
        let oldest = place(shape, usize::MAX - 1, 0, page);
        let answer = client.read_event_records(ask(shape, oldest)).await?;
        check(shape, oldest, None, answer.into_inner())?;
        crate::clock::sleep(pause).await;
    }
    Ok(())
}

/// Whether each side answers a page, from where it should.
pub(super) async fn both_answer(servers: &[Server; 2], shape: &Shape) -> Result<()> {
    for side in Side::BOTH {
        let mut client = servers[side.at()].clients[0].clone();
        let answer = client.read_event_records(ask(shape, 0)).await?;
        check(shape, 0, Some(side), answer.into_inner())?;
    }
    Ok(())
}

/// How long one page takes that nobody has asked for before.
pub(super) async fn one(client: &mut Client, shape: &Shape, page: u64) -> Result<Duration> {
    let oldest = place(shape, usize::MAX - 2, 0, page);
    let sent = now();
    let answer = client.read_event_records(ask(shape, oldest)).await?;
    let took = sent.elapsed();
    check(shape, oldest, Some(Side::Original), answer.into_inner())?;
    Ok(took)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_read_the_same_places_all_over_the_id() {
        let shape = Shape {
            namespace: "ns".to_owned(),
            id: Wide::of_megabytes(10),
            newest_first: true,
            readers: 1,
            seed: 7,
        };
        let places: Vec<u64> = (0..1_000).map(|page| place(&shape, 0, 0, page)).collect();
        assert_eq!(
            places,
            (0..1_000)
                .map(|page| place(&shape, 0, 0, page))
                .collect::<Vec<_>>()
        );
        let last = shape.id.events - PAGE_EVENTS;
        assert!(places.iter().all(|place| *place <= last));
        let third = |n: u64| {
            places
                .iter()
                .filter(|place| **place * 3 / (last + 1) == n)
                .count()
        };
        assert!((0..3).all(|n| third(n) > 250), "{places:?}");
    }
}
