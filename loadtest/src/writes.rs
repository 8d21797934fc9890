//! Durable writes: closed loops that find the most a server takes, and an open loop that asks what a write then costs.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anabranch_proto::timeseries::v1::{EventRecord, IngestEventRecordsRequest};
use anabranch_runtime::Tasks;
use anyhow::{Result, anyhow, bail};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::client::{self, Client, NAMESPACE, Outcomes};
use crate::clock::{self, now};
use crate::data;
use crate::latency::{Latencies, Percentiles};
use crate::pacer;
use crate::window::{Shape, Window};

/// A stream of batches that are each sent once. Streams of one seed differ by name.
#[derive(Debug)]
pub(crate) struct Source {
    seed: u64,
    name: &'static str,
    next: AtomicU64,
}

impl Source {
    pub(crate) fn new(seed: u64, name: &'static str) -> Arc<Self> {
        Arc::new(Self {
            seed,
            name,
            next: AtomicU64::new(0),
        })
    }

    fn batch(&self, events: u64) -> Vec<EventRecord> {
        let batch = self.next.fetch_add(1, Ordering::Relaxed);
        data::write_batch(self.seed, self.name, batch, events)
    }
}

/// A closed loop of `WriteEventRecordsSync`.
pub(crate) async fn unary(
    tasks: &Tasks,
    clients: &[Client],
    source: &Arc<Source>,
    shape: Shape,
    window: Duration,
) -> Result<Window> {
    let began = now();
    let mut loops = Vec::new();
    for client in clients {
        for _ in 0..shape.in_flight {
            let (mut client, source) = (client.clone(), source.clone());
            loops.push(tasks.spawn("write-loop", async move {
                let mut part = Window::new()?;
                while began.elapsed() < window {
                    let events = source.batch(shape.batch_events);
                    let sent = now();
                    let outcome = client::write(&mut client, events).await.map_err(|s| s.code());
                    part.done(outcome, sent.elapsed(), shape.batch_events);
                    if outcome.is_err() {
                        // As a client would that was asked to come back later.
                        clock::sleep(Duration::from_millis(1)).await;
                    }
                }
                anyhow::Ok(part)
            }));
        }
    }
    let mut parts = Vec::new();
    for part in loops {
        parts.push(part.await??);
    }
    Window::of_parts(&parts, began.elapsed())
}

/// A closed loop of `IngestEventRecords`, one stream a connection.
pub(crate) async fn ingest(
    tasks: &Tasks,
    clients: &[Client],
    source: &Arc<Source>,
    shape: Shape,
    window: Duration,
) -> Result<Window> {
    let began = now();
    let mut streams = Vec::new();
    for client in clients {
        let (client, source) = (client.clone(), source.clone());
        let next = move || (began.elapsed() < window).then(|| source.batch(shape.batch_events));
        streams.push(tasks.spawn(
            "ingest-loop",
            ingest_stream(client, NAMESPACE, next, shape.in_flight),
        ));
    }
    let mut parts = Vec::new();
    for part in streams {
        parts.push(part.await??);
    }
    Window::of_parts(&parts, began.elapsed())
}

/// Sends batches on one stream until there are no more, with `in_flight` of them not yet acknowledged.
pub(crate) async fn ingest_stream(
    mut client: Client,
    namespace: &str,
    mut next: impl FnMut() -> Option<Vec<EventRecord>> + Send,
    in_flight: usize,
) -> Result<Window> {
    let mut part = Window::new()?;
    let (send, batches) = mpsc::channel(in_flight);
    let mut send = Some(send);
    let mut waiting: HashMap<String, (Instant, u64)> = HashMap::new();
    let mut number = 0_u64;
    let mut answers = None;
    let mut batches = Some(batches);
    loop {
        while waiting.len() < in_flight
            && let Some(sender) = &send
        {
            let Some(events) = next() else {
                send = None;
                break;
            };
            let batch_id = number.to_string();
            waiting.insert(batch_id.clone(), (now(), events.len() as u64));
            number += 1;
            let request = IngestEventRecordsRequest {
                namespace: namespace.to_owned(),
                batch_id,
                events,
            };
            if sender.send(request).await.is_err() {
                bail!("the server ended a stream of batches");
            }
        }
        let answers = match &mut answers {
            Some(answers) => answers,
            // Now that there is something to answer.
            none => {
                let Some(batches) = batches.take() else {
                    bail!("a stream was started twice");
                };
                let started = client.ingest_event_records(ReceiverStream::new(batches)).await?;
                none.insert(started.into_inner())
            }
        };
        if waiting.is_empty() && send.is_none() {
            return Ok(part);
        }
        let Some(answer) = answers.message().await? else {
            bail!(
                "a stream of batches ended with {} batches unanswered",
                waiting.len()
            );
        };
        let Some((sent, events)) = waiting.remove(&answer.batch_id) else {
            bail!("batch {} was answered twice", answer.batch_id);
        };
        let outcome = match &answer.status {
            Some(status) => Err(Code::from(status.code)),
            None if u64::try_from(answer.written) == Ok(events) => Ok(()),
            None => Err(Code::DataLoss),
        };
        part.done(outcome, sent.elapsed(), events);
    }
}

/// What an open loop saw.
#[derive(Clone, Debug)]
pub(crate) struct Tail {
    /// From the moment a write was meant to be sent to its answer.
    pub(crate) response: Latencies,
    /// From the moment it was sent.
    pub(crate) service: Latencies,
    /// How late the pacer was.
    pub(crate) lateness: Latencies,
    pub(crate) outcomes: Outcomes,
}

impl Tail {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            response: Latencies::new()?,
            service: Latencies::new()?,
            lateness: Latencies::new()?,
            outcomes: Outcomes::default(),
        })
    }

    pub(crate) fn add(&mut self, other: &Self) -> Result<()> {
        self.response.add(&other.response)?;
        self.service.add(&other.service)?;
        self.lateness.add(&other.lateness)?;
        self.outcomes.add(&other.outcomes);
        Ok(())
    }

    pub(crate) fn summary(&self) -> TailSummary {
        TailSummary {
            response: self.response.summary(),
            service: self.service.summary(),
            lateness: self.lateness.summary(),
            outcomes: self.outcomes,
        }
    }
}

/// What an open loop saw, in a few numbers.
#[derive(Clone, Debug, Serialize)]
pub struct TailSummary {
    /// From the moment a write was meant to be sent to its answer.
    pub response: Percentiles,
    /// From the moment it was sent.
    pub service: Percentiles,
    /// How late the pacer was.
    pub lateness: Percentiles,
    /// What became of the calls.
    pub outcomes: Outcomes,
}

/// An open loop of `WriteEventRecordsSync`: batches are sent when they are due, however many wait.
pub(crate) async fn tail(
    tasks: &Tasks,
    clients: &[Client],
    source: &Arc<Source>,
    batch_events: u64,
    batches_per_second: f64,
    seconds: f64,
) -> Result<Tail> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count of arrivals, below 2^32"
    )]
    let room = (batches_per_second * seconds) as usize + 16;
    let mut senders = Vec::new();
    let mut loops = Vec::new();
    for client in clients {
        // Room for every arrival: the pacer never waits, and none is left out.
        let (send, arrivals) = mpsc::channel(room);
        senders.push(send);
        let (client, source) = (client.clone(), source.clone());
        let call = move || -> BoxFuture<'static, Result<(), Code>> {
            let (mut client, events) = (client.clone(), source.batch(batch_events));
            Box::pin(async move {
                client::write(&mut client, events)
                    .await
                    .map_err(|status| status.code())
            })
        };
        loops.push(tasks.spawn("open-loop", answer_arrivals(call, arrivals)));
    }
    let pacer = pacer::start(batches_per_second, seconds, move |n, intended| {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the rest of a division by a small number"
        )]
        let to = (n % senders.len() as u64) as usize;
        let _ = senders[to].try_send(intended);
        ControlFlow::Continue(())
    })?;
    let mut tail = Tail::new()?;
    for part in loops {
        tail.add(&part.await??)?;
    }
    tail.lateness = pacer.join().map_err(|_| anyhow!("the pacer ended early"))??;
    if tail.outcomes.sent != tail.lateness.summary().n {
        bail!("arrivals were lost between the pacer and the connections");
    }
    Ok(tail)
}

/// Makes a call for each arrival, at once, and measures it from when it was due and from when it was sent.
pub(crate) async fn answer_arrivals(
    mut call: impl FnMut() -> BoxFuture<'static, Result<(), Code>> + Send,
    mut arrivals: mpsc::Receiver<Instant>,
) -> Result<Tail> {
    let mut tail = Tail::new()?;
    let mut calls = FuturesUnordered::new();
    let mut open = true;
    while open || !calls.is_empty() {
        tokio::select! {
            biased;
            arrival = arrivals.recv(), if open => {
                let Some(intended) = arrival else {
                    open = false;
                    continue;
                };
                let made = call();
                calls.push(async move {
                    let sent = now();
                    let outcome = made.await;
                    (intended.elapsed(), sent.elapsed(), outcome)
                });
            }
            Some((response, service, outcome)) = calls.next(), if !calls.is_empty() => {
                tail.outcomes.count(outcome);
                tail.response.record(response);
                tail.service.record(service);
            }
        }
    }
    Ok(tail)
}
