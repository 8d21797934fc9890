//! Writers and readers that never stop, whatever happens to the servers.
//!
//! A client has a deadline for every request, takes the other server for the next one, and tries again what may pass. What it
//! is not told stays unknown; a wrong answer, or an error that no fault explains, ends the run.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anabranch_proto::timeseries::v1 as wire;
use wire::response_context::ServedFrom;

use crate::data::Data;
use crate::harness::ledger::{Kind, LATE, Ledger, OK, PARTIAL};
use crate::harness::made::Dice;
use crate::harness::{self, Events};

/// What a client gives a request while things fail.
pub(crate) const DEADLINE: Duration = Duration::from_secs(2);
/// A batch holds at most the events of so many seconds: what is older when its turn comes is not sent at all.
const BATCH_SECONDS: u64 = 5;
const WRITE_ATTEMPTS: u32 = 3;
/// A read is given up when one page of it fails so often.
const PAGE_ATTEMPTS: u32 = 30;

/// What all of them share.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) ledger: Ledger,
    pub(crate) stop: AtomicBool,
    pub(crate) acked: AtomicU64,
    pub(crate) walks: AtomicU64,
    pub(crate) walks_given_up: AtomicU64,
    pub(crate) events_read: AtomicU64,
    pub(crate) pages_from_targets: AtomicU64,
}

impl Load {
    pub(crate) fn new() -> Self {
        Self {
            ledger: Ledger::new(),
            stop: AtomicBool::new(false),
            acked: AtomicU64::new(0),
            walks: AtomicU64::new(0),
            walks_given_up: AtomicU64::new(0),
            events_read: AtomicU64::new(0),
            pages_from_targets: AtomicU64::new(0),
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// A client of both servers.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) servers: Vec<Events>,
    /// What it gives a request.
    pub(crate) deadline: Duration,
    pub(crate) load: Arc<Load>,
    pub(crate) dice: Dice,
}

impl Client {
    /// The next server in turn.
    fn server(&mut self) -> Events {
        self.servers.rotate_left(1);
        self.servers[0].clone()
    }

    /// Writes a series as its time comes: each batch durable when it is acked.
    pub(crate) async fn write_sync(mut self, data: Arc<Data>, series: u64) -> Result<(), String> {
        let mut next = data.instant();
        while !self.load.stopped() {
            let (numbers, events) = self.batch(&data, series, &mut next).await;
            for _ in 0..WRITE_ATTEMPTS {
                let request = wire::WriteEventRecordsSyncRequest {
                    namespace: data.namespace.to_owned(),
                    events: events.clone(),
                };
                let mut server = self.server();
                let sent = self.load.ledger.now();
                let answer = server.write_event_records_sync(self.timed(request)).await;
                let Some(answer) = self.answered(sent, Kind::Write, answer)? else {
                    continue;
                };
                if usize::try_from(answer.written) != Ok(events.len()) {
                    return Err(format!("{} of {} events written", answer.written, events.len()));
                }
                self.acked(&data, series, &numbers);
                break;
            }
        }
        Ok(())
    }

    /// The same by the queue: an ack says only that it will be tried.
    pub(crate) async fn write_queued(mut self, data: Arc<Data>, series: u64) -> Result<(), String> {
        let mut next = data.instant();
        while !self.load.stopped() {
            let (_, events) = self.batch(&data, series, &mut next).await;
            let request = wire::WriteEventRecordsRequest {
                namespace: data.namespace.to_owned(),
                events,
            };
            let mut server = self.server();
            let sent = self.load.ledger.now();
            let answer = server.write_event_records(self.timed(request)).await;
            self.answered(sent, Kind::Write, answer)?;
        }
        Ok(())
    }

    /// The same by a stream, which has no deadline: it is opened again when it breaks.
    pub(crate) async fn ingest(mut self, data: Arc<Data>, series: u64) -> Result<(), String> {
        let mut next = data.instant();
        while !self.load.stopped() {
            let (send, receive) = tokio::sync::mpsc::channel(1);
            let batches = tokio_stream::wrappers::ReceiverStream::new(receive);
            // The first batch goes ahead of the call: a server may answer nothing before it has one.
            let mut waiting = self.ingest_batch(&data, series, &mut next, &send).await;
            let mut answers = match self.server().ingest_event_records(batches).await {
                Ok(answers) => answers.into_inner(),
                Err(status) => {
                    outcome(&status)?;
                    continue;
                }
            };
            while let Some((numbers, batch_id)) = waiting.take() {
                let answer = match answers.message().await {
                    Ok(Some(answer)) => answer,
                    Ok(None) => break,
                    Err(status) => {
                        outcome(&status)?;
                        break;
                    }
                };
                if answer.batch_id != batch_id {
                    return Err(format!(
                        "an answer to batch `{}` and not to `{batch_id}`",
                        answer.batch_id
                    ));
                }
                match answer.status {
                    None if answer.written > 0 => self.acked(&data, series, &numbers),
                    None => return Err("a batch of which nothing was written".to_owned()),
                    Some(failed) => {
                        let code = tonic::Code::from(failed.code);
                        if matches!(code, tonic::Code::Internal | tonic::Code::InvalidArgument) {
                            return Err(format!("a batch failed: {failed:?}"));
                        }
                    }
                }
                if !self.load.stopped() {
                    waiting = self.ingest_batch(&data, series, &mut next, &send).await;
                }
            }
        }
        Ok(())
    }

    async fn ingest_batch(
        &mut self,
        data: &Data,
        series: u64,
        next: &mut u64,
        send: &tokio::sync::mpsc::Sender<wire::IngestEventRecordsRequest>,
    ) -> Option<(Vec<u64>, String)> {
        let (numbers, events) = self.batch(data, series, next).await;
        let batch_id = format!("{next}");
        let request = wire::IngestEventRecordsRequest {
            namespace: data.namespace.to_owned(),
            batch_id: batch_id.clone(),
            events,
        };
        let sent = send.send(request).await;
        sent.is_ok().then_some((numbers, batch_id))
    }

    /// Waits until there is something to send. What waited for too long is passed over.
    async fn batch(
        &mut self,
        data: &Data,
        series: u64,
        next: &mut u64,
    ) -> (Vec<u64>, Vec<wire::EventRecord>) {
        let pause = Duration::from_millis(150 + self.dice.below(100));
        tokio::time::sleep(pause).await;
        while data.instant() <= *next {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let to = data.instant();
        let from = (*next).max(to.saturating_sub(data.instants(BATCH_SECONDS)));
        *next = to;
        let numbers: Vec<u64> = data.numbers(&(from..to)).collect();
        let mut fates = data.fates(series);
        numbers.iter().for_each(|n| fates.send(*n));
        let events = numbers.iter().map(|n| data.maker.event(series, *n)).collect();
        (numbers, events)
    }

    fn acked(&self, data: &Data, series: u64, numbers: &[u64]) {
        let mut fates = data.fates(series);
        numbers.iter().for_each(|n| fates.acked(*n));
        self.load.acked.fetch_add(numbers.len() as u64, Ordering::Relaxed);
    }

    /// Reads stretches of series, both ways, in pages of several sizes, and checks each walk.
    pub(crate) async fn read(mut self, all: Vec<Arc<Data>>) -> Result<(), String> {
        while !self.load.stopped() {
            let data = all[usize::from(self.dice.below(4) == 0)].clone();
            let series = self.dice.below(data.series);
            let now = data.instant();
            let (seconds, end) = match self.dice.below(10) {
                // What was just written, and is being split.
                0..6 => (self.dice.below(100), now),
                6..9 => (40, self.dice.below(now + 1)),
                _ => (600, now),
            };
            let instants = end.saturating_sub(data.instants(seconds))..end;
            if instants.is_empty() {
                continue;
            }
            let ascending = self.dice.below(2) == 0;
            let page_size = *self.dice.pick(&[100, 300, 1_000]);
            // Whatever is certain before the walk begins has to be on it.
            let before = data.fates(series).there(data.numbers(&instants));
            let request = data.request(series, &instants, ascending);
            match self.walk(request, page_size).await? {
                Some(records) => {
                    let events = data.check(series, &instants, ascending, &records, &before)?;
                    self.load.events_read.fetch_add(events, Ordering::Relaxed);
                    self.load.walks.fetch_add(1, Ordering::Relaxed);
                }
                None => {
                    self.load.walks_given_up.fetch_add(1, Ordering::Relaxed);
                }
            }
            tokio::time::sleep(Duration::from_millis(self.dice.below(60))).await;
        }
        Ok(())
    }

    /// Every page of a read; `None` when one could not be had.
    pub(crate) async fn walk(
        &mut self,
        request: wire::ReadEventRecordsRequest,
        page_size: i32,
    ) -> Result<Option<Vec<wire::EventRecord>>, String> {
        let mut request = request;
        request.page_size = page_size;
        let mut records = Vec::new();
        let mut failures = 0;
        loop {
            let mut server = self.server();
            let sent = self.load.ledger.now();
            let answer = server.read_event_records(self.timed(request.clone())).await;
            let Some(page) = self.answered(sent, Kind::Read, answer)? else {
                failures += 1;
                if failures == PAGE_ATTEMPTS {
                    return Ok(None);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            failures = 0;
            let context = &page.response_context[0];
            if page.records.len() > usize::try_from(page_size).unwrap() {
                return Err(format!("{} records on a page of {page_size}", page.records.len()));
            }
            if let Some(warning) = context
                .warnings
                .iter()
                .find(|warning| warning.contains("left out"))
            {
                return Err(format!("a page says: {warning}"));
            }
            if context.served_from() != ServedFrom::Original {
                self.load.pages_from_targets.fetch_add(1, Ordering::Relaxed);
            }
            records.extend(page.records);
            if page.next_page_token.is_empty() {
                return Ok(Some(records));
            }
            request.page_token = page.next_page_token;
        }
    }

    fn timed<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.set_timeout(self.deadline);
        request
    }

    /// Notes what became of a request; `None` when it failed in a way that a fault explains.
    fn answered<T: Partial>(
        &self,
        sent: Duration,
        kind: Kind,
        answer: Result<tonic::Response<T>, tonic::Status>,
    ) -> Result<Option<T>, String> {
        let ledger = &self.load.ledger;
        match answer {
            Ok(answer) => {
                let answer = answer.into_inner();
                let outcome = match ledger.now().saturating_sub(sent) <= self.deadline {
                    true if answer.is_partial() => PARTIAL,
                    true => OK,
                    false => LATE,
                };
                ledger.note(sent, kind, outcome);
                Ok(Some(answer))
            }
            Err(status) => {
                ledger.note(sent, kind, outcome(&status)?);
                Ok(None)
            }
        }
    }
}

/// An answer that may be cut by its deadline.
trait Partial {
    fn is_partial(&self) -> bool {
        false
    }
}

impl Partial for wire::ReadEventRecordsResponse {
    fn is_partial(&self) -> bool {
        self.response_context.iter().any(|context| context.partial)
    }
}

impl Partial for wire::WriteEventRecordsSyncResponse {}
impl Partial for wire::WriteEventRecordsResponse {}

/// What an error says that a fault explains. Any other is wrong.
fn outcome(status: &tonic::Status) -> Result<&'static str, String> {
    const EXPLAINED: [&str; 7] = [
        "DEADLINE_EXCEEDED",
        "STORE_UNREACHABLE",
        "STORE_OUTCOME_UNKNOWN",
        "WRITE_PARTLY_FAILED",
        "WRITE_QUEUE_FULL",
        "SERVER_OVERLOADED",
        "STORE_OVERLOADED",
    ];
    let Some(reason) = harness::reason(status) else {
        // Of the client itself: it stops to wait.
        return match status.code() {
            tonic::Code::Cancelled | tonic::Code::DeadlineExceeded => Ok("no answer in time"),
            _ => Err(format!("a request failed: {status:?}")),
        };
    };
    let explained = EXPLAINED.into_iter().find(|explained| *explained == reason);
    explained.ok_or_else(|| format!("a request failed: {status:?}"))
}

/// A stretch of everything so far.
pub(crate) fn everything(data: &Data) -> Range<u64> {
    0..data.instant() + 1
}
