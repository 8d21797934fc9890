//! All of a wide id, page after page, from its original and through its targets.

use std::time::Duration;

use anabranch_proto::timeseries::v1::{ReadEventRecordsRequest, TimeInterval};
use anabranch_runtime::Tasks;
use anyhow::{Result, ensure};
use serde::Serialize;
use tonic::{Code, Request};

use super::fleet::{Server, Side};
use super::pages::{PAGE_EVENTS, Shape, direction};
use crate::client::Client;
use crate::clock::{self, now};
use crate::data;
use crate::window::median;

const SLO: Duration = Duration::from_secs(30);
/// Calls of one walk that may fail because the store did not answer.
const FAILURES_MAX: usize = 10;
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// How long walks took.
#[derive(Clone, Debug, Serialize)]
pub struct Walks {
    /// Walkers, each over its own part of the time, at once.
    pub walkers: u64,
    /// Pages that all of them read.
    pub pages: u64,
    /// Seconds from the original, one number a round.
    pub original_seconds: Vec<f64>,
    /// Seconds through targets.
    pub targets_seconds: Vec<f64>,
    /// Original by targets, round by round, the middle one.
    pub gain: f64,
}

/// Walks the whole id from both sides, in turns.
pub(super) async fn compare(
    tasks: &Tasks,
    servers: &[Server; 2],
    shape: &Shape,
    walkers: u64,
    rounds: usize,
) -> Result<Walks> {
    let mut seconds: [Vec<f64>; 2] = Default::default();
    let mut pages = 0;
    for round in 0..rounds {
        let mut order = Side::BOTH;
        if round % 2 == 1 {
            order.reverse();
        }
        for side in order {
            let began = now();
            pages = walk(tasks, &servers[side.at()], shape, walkers).await?;
            seconds[side.at()].push(began.elapsed().as_secs_f64());
        }
    }
    let [original_seconds, targets_seconds] = seconds;
    let gains: Vec<f64> = original_seconds
        .iter()
        .zip(&targets_seconds)
        .map(|(a, b)| a / b)
        .collect();
    Ok(Walks {
        walkers,
        pages,
        gain: median(&gains),
        original_seconds,
        targets_seconds,
    })
}

/// How many pages it took.
async fn walk(tasks: &Tasks, server: &Server, shape: &Shape, walkers: u64) -> Result<u64> {
    let mut parts = Vec::new();
    for walker in 0..walkers {
        let client = server.clients[usize::try_from(walker)? % server.clients.len()].clone();
        let (from, to) = (
            shape.id.events * walker / walkers,
            shape.id.events * (walker + 1) / walkers,
        );
        parts.push(tasks.spawn("walk", part(client, shape.clone(), from, to)));
    }
    let mut pages = 0;
    for part in parts {
        pages += part.await??;
    }
    Ok(pages)
}

/// Events `from` to `to` - 1, newest first or oldest first, every byte checked.
async fn part(mut client: Client, shape: Shape, from: u64, to: u64) -> Result<u64> {
    let bound = |n: u64| Some(data::timestamp(data::time_micros(n)));
    let (mut low, mut high) = (from, to);
    let (mut pages, mut token) = (0, String::new());
    let mut failures = 0;
    loop {
        let mut request = Request::new(ReadEventRecordsRequest {
            namespace: shape.namespace.clone(),
            time_series_id: shape.id.id.clone(),
            time_interval: Some(TimeInterval {
                start: bound(from),
                end: bound(to),
            }),
            direction: direction(shape.newest_first).into(),
            page_size: i32::try_from(PAGE_EVENTS)?,
            page_token: token.clone(),
            latency_slo: prost_types::Duration::try_from(SLO).ok(),
            ..ReadEventRecordsRequest::default()
        });
        request.set_timeout(SLO);
        let page = match client.read_event_records(request).await {
            Ok(page) => page.into_inner(),
            // As a client would: the time of the walk has it.
            Err(status) if status.code() == Code::Unavailable && failures < FAILURES_MAX => {
                failures += 1;
                clock::sleep(RETRY_AFTER).await;
                continue;
            }
            Err(status) => return Err(status.into()),
        };
        let mut records = page.records;
        let count = records.len() as u64;
        ensure!(
            count <= high - low,
            "id {} answers more events than were written",
            shape.id.id
        );
        if shape.newest_first {
            if count > 0 {
                data::verify_page(shape.seed, &shape.id.id, high - 1, &records)?;
            }
            high -= count;
        } else {
            records.reverse();
            low += count;
            if count > 0 {
                data::verify_page(shape.seed, &shape.id.id, low - 1, &records)?;
            }
        }
        pages += 1;
        token = page.next_page_token;
        if token.is_empty() {
            ensure!(
                low == high,
                "the walk of id {} ended {} events early",
                shape.id.id,
                high - low
            );
            return Ok(pages);
        }
    }
}
