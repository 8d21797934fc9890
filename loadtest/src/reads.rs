//! Pages: is the newest one as near in a wide id as in a small one, and how near is that to a page of nothing.
//!
//! Every page is checked (see `data`) before its time counts. Pages of the contenders take turns.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::client::{self, Client, NAMESPACE};
use crate::clock::now;
use crate::data::{self, PAGE_EVENT_BYTES};
use crate::latency::{Latencies, Percentiles};
use crate::machine::cpu_of;
use crate::null;
use crate::writes;

const LOAD_BATCH_EVENTS: u64 = 500;
const LOAD_IN_FLIGHT: usize = 8;
/// Pages of one contender before it is the next one's turn.
const TURN_PAGES: usize = 50;

/// An id with events 0 to `events` - 1.
#[derive(Clone, Debug, Serialize)]
pub struct Wide {
    /// The id.
    pub id: String,
    /// Its events.
    pub events: u64,
}

impl Wide {
    pub(crate) fn of_megabytes(megabytes: u64) -> Self {
        Self {
            id: format!("wide-{megabytes}mb"),
            events: megabytes * 1_000_000 / PAGE_EVENT_BYTES,
        }
    }
}

/// Writes the events of an id, oldest first, as a stream of batches. How long it took.
pub(crate) async fn load(client: &Client, seed: u64, wide: &Wide) -> Result<Duration> {
    let began = now();
    let mut n = 0;
    let next = || {
        let until = (n + LOAD_BATCH_EVENTS).min(wide.events);
        let batch = (n..until).map(|n| data::page_event(seed, &wide.id, n)).collect();
        let more = n < until;
        n = until;
        more.then_some(batch)
    };
    let window = writes::ingest_stream(client.clone(), NAMESPACE, next, LOAD_IN_FLIGHT).await?;
    ensure!(
        window.outcomes.all_ok() && window.events == wide.events,
        "loading id {} failed: {:?}",
        wide.id,
        window.outcomes
    );
    Ok(began.elapsed())
}

/// Who answers a page.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answerer<'a> {
    /// The null service.
    Null,
    /// The server, from an id.
    Server(&'a Wide),
}

/// Pages of one size from one place.
#[derive(Clone, Debug, Serialize)]
pub struct Pages {
    /// Where from.
    pub name: String,
    /// Events a page.
    pub page_size: u64,
    /// How long a page took, to the last decoded event.
    pub latency: Percentiles,
    /// Processor time of the answering process for each page, in microseconds.
    pub server_cpu_micros: f64,
}

/// A process that answers pages.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) client: Client,
    pub(crate) pid: u32,
}

/// Reads the newest page from each place, in turns, one in flight.
pub(crate) async fn newest_pages(
    server: &mut Desk,
    null: &mut Desk,
    seed: u64,
    from: &[Answerer<'_>],
    page_size: u64,
    pages: usize,
) -> Result<Vec<Pages>> {
    let mut latencies = vec![Latencies::new()?; from.len()];
    let mut cpu = vec![Duration::ZERO; from.len()];
    let turns = pages.div_ceil(TURN_PAGES);
    // The first two turns warm up.
    for turn in 0..turns + 2 {
        for (at, answerer) in from.iter().enumerate() {
            let desk = match answerer {
                Answerer::Null => &mut *null,
                Answerer::Server(_) => &mut *server,
            };
            let cpu_before = cpu_of(desk.pid);
            for _ in 0..TURN_PAGES {
                let took = newest_page(&mut desk.client, seed, *answerer, page_size).await?;
                if turn >= 2 {
                    latencies[at].record(took);
                }
            }
            if turn >= 2 {
                cpu[at] += cpu_of(desk.pid).saturating_sub(cpu_before);
            }
        }
    }
    let measured = (turns * TURN_PAGES) as f64;
    let named = from.iter().zip(latencies.iter().zip(&cpu));
    Ok(named
        .map(|(answerer, (latencies, cpu))| Pages {
            name: match answerer {
                Answerer::Null => "null".to_owned(),
                Answerer::Server(wide) => wide.id.clone(),
            },
            page_size,
            latency: latencies.summary(),
            server_cpu_micros: cpu.as_secs_f64() * 1e6 / measured,
        })
        .collect())
}

async fn newest_page(
    client: &mut Client,
    seed: u64,
    answerer: Answerer<'_>,
    page_size: u64,
) -> Result<Duration> {
    let id = match answerer {
        Answerer::Null => null::NULL_ID,
        Answerer::Server(wide) => &wide.id,
    };
    let began = now();
    let page = client::read(client, id, page_size, String::new()).await?;
    let took = began.elapsed();
    ensure!(
        page.records.len() as u64 == page_size,
        "a page of {page_size} of id {id} came with {} events",
        page.records.len()
    );
    match answerer {
        Answerer::Null => null::verify(page_size, &page)?,
        Answerer::Server(wide) => data::verify_page(seed, id, wide.events - 1, &page.records)?,
    }
    Ok(took)
}

/// An empty call to the null service, over and over: 200 bytes there and back.
pub(crate) async fn echo(null: &mut Desk, window: Duration) -> Result<Latencies> {
    let mut latencies = Latencies::new()?;
    let message = "e".repeat(200);
    let start = now();
    while start.elapsed() < window {
        let began = now();
        client::read(&mut null.client, null::ECHO_ID, 1, message.clone()).await?;
        latencies.record(began.elapsed());
    }
    Ok(latencies)
}

/// Reads an id to its end, page by page. With `verify`, every byte is checked, which the time then includes.
pub(crate) async fn walk(
    client: &mut Client,
    seed: u64,
    wide: &Wide,
    page_size: u64,
    verify: bool,
) -> Result<Duration> {
    let began = now();
    let (mut left, mut token) = (wide.events, String::new());
    loop {
        let page = client::read(client, &wide.id, page_size, token).await?;
        ensure!(
            page.records.len() as u64 <= left,
            "id {} answers more events than were written",
            wide.id
        );
        if verify && let Some(newest) = left.checked_sub(1) {
            data::verify_page(seed, &wide.id, newest, &page.records)?;
        }
        left -= page.records.len() as u64;
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    ensure!(left == 0, "the walk of id {} ended {left} events early", wide.id);
    Ok(began.elapsed())
}

/// As many null pages as a walk of `events` events has.
pub(crate) async fn null_walk(null: &mut Desk, events: u64, page_size: u64) -> Result<Duration> {
    let began = now();
    for _ in 0..events / page_size {
        client::read(&mut null.client, null::NULL_ID, page_size, String::new()).await?;
    }
    Ok(began.elapsed())
}
