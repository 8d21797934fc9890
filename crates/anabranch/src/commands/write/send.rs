//! Three ways to hand a batch to the server, with one face: batches in, answers out, in any order.

use std::future::Future;
use std::pin::Pin;

use anabranch_proto::timeseries::v1::time_series_service_client::TimeSeriesServiceClient;
use anabranch_proto::timeseries::v1::{
    IngestEventRecordsRequest, IngestEventRecordsResponse, WriteEventRecordsRequest,
    WriteEventRecordsSyncRequest,
};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::input::batches::Batch;

/// How batches are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// A stream of batches, each acked when durable.
    Stream,
    /// A request a batch, answered when durable.
    Sync,
    /// A request a batch, answered when queued.
    Queued,
}

/// What became of a batch.
#[derive(Debug)]
pub(super) enum Answer {
    /// It is written, or queued.
    Done(u64),
    /// It failed by itself.
    Failed(u64, Status),
    /// The stream ended; nothing is known of the batches that were not answered.
    Lost(Status),
}

type Client = TimeSeriesServiceClient<Channel>;
type Call = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Sends batches.
pub(super) struct Sender {
    mode: Mode,
    client: Client,
    namespace: String,
    in_flight: usize,
    calls: FuturesUnordered<Call>,
    stream: Option<Stream>,
}

struct Stream {
    requests: mpsc::Sender<IngestEventRecordsRequest>,
    answers: Streaming<IngestEventRecordsResponse>,
}

impl Sender {
    pub(super) fn new(mode: Mode, client: Client, namespace: String, in_flight: usize) -> Self {
        Self {
            mode,
            client,
            namespace,
            in_flight,
            calls: FuturesUnordered::new(),
            stream: None,
        }
    }

    /// Hands a batch over. An error means that it was not, and that no other batch will be answered.
    pub(super) async fn send(&mut self, id: u64, batch: &Batch) -> Result<(), Status> {
        match self.mode {
            Mode::Stream => self.send_in_stream(id, batch).await,
            Mode::Sync | Mode::Queued => {
                let call = self.call(id, batch);
                self.calls.push(call);
                Ok(())
            }
        }
    }

    /// The next answer. Only to be asked while batches are under way.
    pub(super) async fn next(&mut self) -> Answer {
        if self.mode != Mode::Stream {
            return match self.calls.next().await {
                Some(answer) => answer,
                None => std::future::pending().await,
            };
        }
        let Some(stream) = &mut self.stream else {
            return Answer::Lost(Status::unavailable("the stream is closed"));
        };
        let status = match stream.answers.message().await {
            Ok(Some(answer)) => return answer_of(answer),
            Ok(None) => Status::unavailable("the server ended the stream"),
            Err(status) => status,
        };
        self.stream = None;
        Answer::Lost(status)
    }

    async fn send_in_stream(&mut self, id: u64, batch: &Batch) -> Result<(), Status> {
        let request = IngestEventRecordsRequest {
            namespace: self.namespace.clone(),
            batch_id: id.to_string(),
            events: batch.events.clone(),
        };
        if let Some(stream) = &self.stream {
            if stream.requests.send(request).await.is_ok() {
                return Ok(());
            }
            // The transport took the request side away: why is what the answer side says.
            return match self.next().await {
                Answer::Lost(status) | Answer::Failed(_, status) => Err(status),
                Answer::Done(_) => Err(Status::unavailable("the stream broke")),
            };
        }
        let (requests, receive) = mpsc::channel(self.in_flight);
        // The first batch is there before the call starts: a server may wait for it before it answers.
        requests
            .try_send(request)
            .map_err(|_| Status::internal("a new stream takes no batch"))?;
        let answers = self
            .client
            .ingest_event_records(ReceiverStream::new(receive))
            .await?
            .into_inner();
        self.stream = Some(Stream { requests, answers });
        Ok(())
    }

    fn call(&self, id: u64, batch: &Batch) -> Call {
        let mut client = self.client.clone();
        let namespace = self.namespace.clone();
        let events = batch.events.clone();
        let queued = self.mode == Mode::Queued;
        Box::pin(async move {
            let answered = if queued {
                let request = WriteEventRecordsRequest { namespace, events };
                client.write_event_records(request).await.map(drop)
            } else {
                let request = WriteEventRecordsSyncRequest { namespace, events };
                client.write_event_records_sync(request).await.map(drop)
            };
            match answered {
                Ok(()) => Answer::Done(id),
                Err(status) => Answer::Failed(id, status),
            }
        })
    }
}

fn answer_of(answer: IngestEventRecordsResponse) -> Answer {
    let Ok(id) = answer.batch_id.parse() else {
        return Answer::Lost(Status::internal(
            "the server answered a batch that was never sent",
        ));
    };
    match answer.status {
        None => Answer::Done(id),
        Some(status) => {
            use prost::Message as _;
            let code = Code::from(status.code);
            let message = status.message.clone();
            Answer::Failed(
                id,
                Status::with_details(code, message, status.encode_to_vec().into()),
            )
        }
    }
}
