//! The floor under every call: the same surface with nothing behind it.
//!
//! ```text
//! read of id `echo`  ─▶ the request's page token comes back
//! read of any id     ─▶ a page that was built at the start, encoded by prost as every answer is
//! write              ─▶ decoded, counted, acknowledged
//! ```
//!
//! Runs in a process of its own, as the server does, and ends when its standard input does.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::task;

use anabranch_proto::timeseries::v1::time_series_service_server::{
    TimeSeriesService, TimeSeriesServiceServer,
};
use anabranch_proto::timeseries::v1::{
    AggregateEventRecordsRequest, AggregateEventRecordsResponse, IngestEventRecordsRequest,
    IngestEventRecordsResponse, ReadEventRecordsRequest, ReadEventRecordsResponse, SearchEventRecordsRequest,
    SearchEventRecordsResponse, WriteEventRecordsRequest, WriteEventRecordsResponse,
    WriteEventRecordsSyncRequest, WriteEventRecordsSyncResponse,
};
use anyhow::{Context, Result};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use prost::Message;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::Service;

use crate::data;

/// The id whose read is an echo.
pub(crate) const ECHO_ID: &str = "echo";
/// The id of the events of null pages.
pub(crate) const NULL_ID: &str = "null";
/// Page sizes that are served.
pub(crate) const PAGE_SIZES: [u64; 2] = [10, 1_000];
const SEED: u64 = 1;

/// Serves until standard input ends. Says where, as the server does, and where the TCP echo is.
pub async fn serve(mut say: impl FnMut(String) -> std::io::Result<()>) -> Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let echo = TcpListener::bind("127.0.0.1:0")?;
    say(format!("listening on http://{}", listener.local_addr()?))?;
    say(format!("echo on {}", echo.local_addr()?))?;
    std::thread::Builder::new()
        .name("echo".to_owned())
        .spawn(move || {
            for stream in echo.incoming().flatten() {
                // The client went away: the next one may come.
                let _ = echo_until_closed(stream);
            }
        })?;
    let parent_is_gone = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .add_service(NullService::new())
        .serve_with_incoming_shutdown(
            TcpListenerStream::new(listener).map(|stream| {
                stream.and_then(|stream| {
                    stream.set_nodelay(true)?;
                    Ok(stream)
                })
            }),
            parent_is_gone.map(|_| ()),
        )
        .await
        .context("the null service ended")
}

fn echo_until_closed(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut message = [0; 200];
    loop {
        stream.read_exact(&mut message)?;
        stream.write_all(&message)?;
    }
}

/// Reads are answered from [`Pages`]; everything else is the generated server's.
#[derive(Clone)]
struct NullService {
    pages: Arc<Pages>,
    writes: TimeSeriesServiceServer<Writes>,
}

struct Pages([(u64, Arc<ReadEventRecordsResponse>); 2]);

impl NullService {
    fn new() -> Self {
        let page = |events| {
            let records = (0..events).map(|at| data::page_event(SEED, NULL_ID, events - 1 - at));
            let page = ReadEventRecordsResponse {
                records: records.collect(),
                next_page_token: "0123456789".repeat(10),
                ..ReadEventRecordsResponse::default()
            };
            (events, Arc::new(page))
        };
        Self {
            pages: Arc::new(Pages(PAGE_SIZES.map(page))),
            writes: TimeSeriesServiceServer::new(Writes),
        }
    }
}

/// Checks a null page as every page is checked.
pub(crate) fn verify(page_size: u64, page: &ReadEventRecordsResponse) -> Result<()> {
    data::verify_page(SEED, NULL_ID, page_size - 1, &page.records)
}

impl NamedService for NullService {
    const NAME: &'static str = <TimeSeriesServiceServer<Writes> as NamedService>::NAME;
}

impl Service<http::Request<Body>> for NullService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> task::Poll<Result<(), Infallible>> {
        task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path().ends_with("/ReadEventRecords") {
            let pages = ReadPages(self.pages.clone());
            async move { Ok(Grpc::new(PageCodec).unary(pages, request).await) }.boxed()
        } else {
            self.writes.call(request)
        }
    }
}

struct ReadPages(Arc<Pages>);

impl UnaryService<ReadEventRecordsRequest> for ReadPages {
    type Response = Arc<ReadEventRecordsResponse>;
    type Future = Ready<Result<Response<Self::Response>, Status>>;

    fn call(&mut self, request: Request<ReadEventRecordsRequest>) -> Self::Future {
        let request = request.into_inner();
        if request.time_series_id == ECHO_ID {
            return ready(Ok(Response::new(Arc::new(ReadEventRecordsResponse {
                next_page_token: request.page_token,
                ..ReadEventRecordsResponse::default()
            }))));
        }
        let size = u64::try_from(request.page_size).unwrap_or(0);
        let page = self.0.0.iter().find(|(events, _)| *events == size);
        ready(match page {
            Some((_, page)) => Ok(Response::new(page.clone())),
            None => Err(Status::invalid_argument("no null page has this size")),
        })
    }
}

/// Encodes a page that others will need again.
#[derive(Clone, Copy)]
struct PageCodec;

impl Codec for PageCodec {
    type Encode = Arc<ReadEventRecordsResponse>;
    type Decode = ReadEventRecordsRequest;
    type Encoder = Self;
    type Decoder = <ProstCodec<(), ReadEventRecordsRequest> as Codec>::Decoder;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<(), ReadEventRecordsRequest>::raw_decoder(BufferSettings::default())
    }
}

impl Encoder for PageCodec {
    type Item = Arc<ReadEventRecordsResponse>;
    type Error = Status;

    fn encode(&mut self, page: Self::Item, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        page.encode(buffer)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

/// Writes to nowhere.
#[derive(Debug)]
struct Writes;

#[tonic::async_trait]
impl TimeSeriesService for Writes {
    async fn write_event_records_sync(
        &self,
        request: Request<WriteEventRecordsSyncRequest>,
    ) -> Result<Response<WriteEventRecordsSyncResponse>, Status> {
        Ok(Response::new(WriteEventRecordsSyncResponse {
            written: count(request.get_ref().events.len()),
            response_context: None,
        }))
    }

    async fn write_event_records(
        &self,
        request: Request<WriteEventRecordsRequest>,
    ) -> Result<Response<WriteEventRecordsResponse>, Status> {
        Ok(Response::new(WriteEventRecordsResponse {
            queued: count(request.get_ref().events.len()),
            response_context: None,
        }))
    }

    type IngestEventRecordsStream =
        futures::stream::BoxStream<'static, Result<IngestEventRecordsResponse, Status>>;

    async fn ingest_event_records(
        &self,
        request: Request<Streaming<IngestEventRecordsRequest>>,
    ) -> Result<Response<Self::IngestEventRecordsStream>, Status> {
        let answers = request.into_inner().map(|batch| {
            batch.map(|batch| IngestEventRecordsResponse {
                batch_id: batch.batch_id,
                written: count(batch.events.len()),
                ..IngestEventRecordsResponse::default()
            })
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn read_event_records(
        &self,
        _: Request<ReadEventRecordsRequest>,
    ) -> Result<Response<ReadEventRecordsResponse>, Status> {
        Err(Status::unimplemented("pages are served before they come here"))
    }

    async fn search_event_records(
        &self,
        _: Request<SearchEventRecordsRequest>,
    ) -> Result<Response<SearchEventRecordsResponse>, Status> {
        Err(Status::unimplemented("the null service does not search"))
    }

    async fn aggregate_event_records(
        &self,
        _: Request<AggregateEventRecordsRequest>,
    ) -> Result<Response<AggregateEventRecordsResponse>, Status> {
        Err(Status::unimplemented("the null service does not aggregate"))
    }
}

fn count(events: usize) -> i32 {
    i32::try_from(events).unwrap_or(i32::MAX)
}
