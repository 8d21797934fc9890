//! Calls, as a user's program makes them, and what became of them.

use anabranch_proto::admin::v1::admin_service_client::AdminServiceClient;
use anabranch_proto::admin::v1::{CreateNamespaceRequest, Namespace};
use anabranch_proto::timeseries::v1::time_series_service_client::TimeSeriesServiceClient;
use anabranch_proto::timeseries::v1::{
    EventRecord, ReadEventRecordsRequest, ReadEventRecordsResponse, WriteEventRecordsSyncRequest,
};
use anyhow::{Context, Result, bail};
use serde::Serialize;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// The namespace that everything is written to.
pub(crate) const NAMESPACE: &str = "bench";
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A connection.
pub(crate) type Client = TimeSeriesServiceClient<Channel>;

/// Connects: each call of this is a connection of its own.
pub(crate) async fn connect(url: &str) -> Result<Client> {
    Ok(TimeSeriesServiceClient::new(channel(url).await?).max_decoding_message_size(ANSWER_BYTES_MAX))
}

pub(crate) async fn channel(url: &str) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(url.to_owned())?
        .tcp_nodelay(true)
        .initial_connection_window_size(8 << 20)
        .initial_stream_window_size(4 << 20);
    endpoint
        .connect()
        .await
        .with_context(|| format!("can not connect to {url}"))
}

/// Makes the namespace: defaults, but events of any time are taken.
pub(crate) async fn create_namespace(url: &str) -> Result<()> {
    let namespace = Namespace {
        name: NAMESPACE.to_owned(),
        accept_limit: Some(prost_types::Duration::default()),
        ..Namespace::default()
    };
    AdminServiceClient::new(channel(url).await?)
        .create_namespace(CreateNamespaceRequest {
            namespace: Some(namespace),
        })
        .await
        .context("can not make a namespace")?;
    Ok(())
}

/// What became of the calls of a window. Whoever prints a rate prints these first if any is not zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcomes {
    /// Sent.
    pub sent: u64,
    /// Answered as asked.
    pub ok: u64,
    /// Refused because the server had too much to do.
    pub shed: u64,
    /// Not answered in time.
    pub deadline: u64,
    /// Failed in any other way.
    pub failed: u64,
}

impl Outcomes {
    pub(crate) fn count(&mut self, outcome: Result<(), Code>) {
        self.sent += 1;
        match outcome {
            Ok(()) => self.ok += 1,
            Err(Code::ResourceExhausted) => self.shed += 1,
            Err(Code::DeadlineExceeded) => self.deadline += 1,
            Err(_) => self.failed += 1,
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.ok += other.ok;
        self.shed += other.shed;
        self.deadline += other.deadline;
        self.failed += other.failed;
    }

    /// True when every call was answered as asked.
    pub(crate) fn all_ok(&self) -> bool {
        self.sent == self.ok
    }
}

/// One durable write.
pub(crate) async fn write(client: &mut Client, events: Vec<EventRecord>) -> Result<(), Status> {
    let expected = i32::try_from(events.len()).unwrap_or(i32::MAX);
    let answer = client
        .write_event_records_sync(WriteEventRecordsSyncRequest {
            namespace: NAMESPACE.to_owned(),
            events,
        })
        .await?;
    if answer.get_ref().written == expected {
        Ok(())
    } else {
        Err(Status::data_loss("fewer events were written than were sent"))
    }
}

/// One page, newest first.
pub(crate) async fn read(
    client: &mut Client,
    id: &str,
    page_size: u64,
    token: String,
) -> Result<ReadEventRecordsResponse> {
    let answer = client
        .read_event_records(ReadEventRecordsRequest {
            namespace: NAMESPACE.to_owned(),
            time_series_id: id.to_owned(),
            page_size: i32::try_from(page_size)?,
            page_token: token,
            ..ReadEventRecordsRequest::default()
        })
        .await
        .with_context(|| format!("can not read a page of id {id}"))?
        .into_inner();
    if let Some(context) = answer.response_context.iter().find(|context| context.partial) {
        bail!("a page of id {id} is partial: {}", context.partial_reason);
    }
    Ok(answer)
}
