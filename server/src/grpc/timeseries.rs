//! `anabranch.timeseries.v1.TimeSeriesService`.

use std::sync::Arc;

use anabranch_proto::timeseries::v1 as pb;
use anabranch_proto::timeseries::v1::time_series_service_server::TimeSeriesService;
use anabranch_runtime::Deadline;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{deadline_of, ingest};
use crate::core::Core;
use crate::errors::ServiceError;
use crate::wire::{aggregate, context, events, fields, read};
use crate::write::WriteRequest;

/// The service over a core.
#[derive(Clone, Debug)]
pub struct TimeSeriesEdge {
    core: Arc<Core>,
    draining: CancellationToken,
}

impl TimeSeriesEdge {
    /// The service over a core; streams end when `draining` is cancelled.
    pub fn new(core: Arc<Core>, draining: CancellationToken) -> Self {
        Self { core, draining }
    }
}

fn write(
    namespace: &str,
    events: Vec<pb::EventRecord>,
    deadline: Option<Deadline>,
) -> Result<WriteRequest, ServiceError> {
    Ok(WriteRequest {
        namespace: fields::namespace("namespace", namespace)?,
        events: events::records(events)?,
        deadline,
    })
}

#[tonic::async_trait]
impl TimeSeriesService for TimeSeriesEdge {
    async fn write_event_records_sync(
        &self,
        request: Request<pb::WriteEventRecordsSyncRequest>,
    ) -> Result<Response<pb::WriteEventRecordsSyncResponse>, Status> {
        let deadline = deadline_of(&request);
        let request = request.into_inner();
        let write = write(&request.namespace, request.events, deadline)?;
        let outcome = self.core.writer.write_sync(write).await?;
        Ok(Response::new(pb::WriteEventRecordsSyncResponse {
            written: fields::wire_i32(outcome.written),
            response_context: Some(context::of_write(outcome.context)),
        }))
    }

    async fn write_event_records(
        &self,
        request: Request<pb::WriteEventRecordsRequest>,
    ) -> Result<Response<pb::WriteEventRecordsResponse>, Status> {
        let deadline = deadline_of(&request);
        let request = request.into_inner();
        let write = write(&request.namespace, request.events, deadline)?;
        let outcome = self.core.queue.enqueue(write).await?;
        Ok(Response::new(pb::WriteEventRecordsResponse {
            queued: fields::wire_i32(outcome.queued),
            response_context: Some(context::of_write(outcome.context)),
        }))
    }

    type IngestEventRecordsStream = ingest::Acks;

    async fn ingest_event_records(
        &self,
        request: Request<Streaming<pb::IngestEventRecordsRequest>>,
    ) -> Result<Response<Self::IngestEventRecordsStream>, Status> {
        let acks = ingest::acks(
            self.core.writer.clone(),
            request.into_inner(),
            self.draining.clone(),
        );
        Ok(Response::new(acks))
    }

    async fn read_event_records(
        &self,
        request: Request<pb::ReadEventRecordsRequest>,
    ) -> Result<Response<pb::ReadEventRecordsResponse>, Status> {
        let deadline = deadline_of(&request);
        let (request, mask) = read::read(request.into_inner(), deadline)?;
        let view = self.core.namespaces.view_for_read(&request.namespace).await?;
        let page = self.core.reader.read(&view, request).await?;
        Ok(Response::new(read::read_page(page, mask)))
    }

    async fn search_event_records(
        &self,
        request: Request<pb::SearchEventRecordsRequest>,
    ) -> Result<Response<pb::SearchEventRecordsResponse>, Status> {
        let deadline = deadline_of(&request);
        let (request, mask) = read::search(request.into_inner(), deadline)?;
        let view = self.core.namespaces.view_for_read(&request.namespace).await?;
        let page = self.core.reader.search(&view, request).await?;
        Ok(Response::new(read::search_page(page, mask)))
    }

    async fn aggregate_event_records(
        &self,
        request: Request<pb::AggregateEventRecordsRequest>,
    ) -> Result<Response<pb::AggregateEventRecordsResponse>, Status> {
        let deadline = deadline_of(&request);
        let request = aggregate::request(request.into_inner(), deadline)?;
        let kind = request.aggregation.kind;
        let view = self.core.namespaces.view_for_read(&request.namespace).await?;
        let page = self.core.reader.aggregate(&view, request).await?;
        Ok(Response::new(aggregate::page(page, kind)))
    }
}
