//! A stream of batches as the wire carries it: batches in until the caller, an error or the server ends them; then
//! the acks of what was taken; then, if it was not the caller who ended it, why.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use anabranch_model::NamespaceName;
use anabranch_proto::timeseries::v1 as pb;
use futures::{Stream, StreamExt, stream};
use prost::Message;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::errors::{self, Reason, ServiceError};
use crate::wire::{context, events, fields};
use crate::write::{IngestAck, IngestBatch, Writer, ingest};

/// Longest name of a batch.
const BATCH_ID_BYTES_MAX: usize = 256;

/// The answers of a stream.
pub(super) type Acks = Pin<Box<dyn Stream<Item = Result<pb::IngestEventRecordsResponse, Status>> + Send>>;

/// Writes the batches of a stream and acks each.
pub(super) fn acks(
    writer: Writer,
    batches: Streaming<pb::IngestEventRecordsRequest>,
    draining: CancellationToken,
) -> Acks {
    let why_ended: Arc<Mutex<Option<Status>>> = Arc::default();
    let incoming = Incoming {
        batches,
        draining,
        namespace: None,
        why_ended: why_ended.clone(),
    };
    let taken = Box::pin(stream::unfold(incoming, |mut incoming| async move {
        let batch = incoming.next().await?;
        Some((batch, incoming))
    }));
    let last = stream::once(async move { why_ended.lock().unwrap_or_else(PoisonError::into_inner).take() });
    let acked = ingest(writer, taken).map(|ack| Ok(answer(ack)));
    Box::pin(acked.chain(last.filter_map(|why| async move { why.map(Err) })))
}

struct Incoming {
    batches: Streaming<pb::IngestEventRecordsRequest>,
    draining: CancellationToken,
    /// Of the batch before, for batches that leave it out.
    namespace: Option<NamespaceName>,
    why_ended: Arc<Mutex<Option<Status>>>,
}

impl Incoming {
    async fn next(&mut self) -> Option<IngestBatch> {
        let message = tokio::select! {
            biased;
            () = self.draining.cancelled() => {
                let problem = "server is shutting down and takes no more batches";
                Err(ServiceError::new(Reason::ServerDraining, problem).into())
            }
            message = self.batches.message() => message,
        };
        match message {
            Ok(message) => Some(self.batch(message?)),
            Err(status) => {
                let path = "anabranch.timeseries.v1.TimeSeriesService/IngestEventRecords";
                let why = errors::dress(status, path);
                *self.why_ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
                None
            }
        }
    }

    fn batch(&mut self, message: pb::IngestEventRecordsRequest) -> IngestBatch {
        let namespace = match (&self.namespace, message.namespace.as_str()) {
            (Some(before), "") => Ok(before.clone()),
            (_, name) => fields::namespace("namespace", name),
        };
        if let Ok(namespace) = &namespace {
            self.namespace = Some(namespace.clone());
        }
        let (batch_id, named) = batch_id(message.batch_id);
        IngestBatch {
            batch_id,
            write: named
                .and(namespace)
                .and_then(|namespace| Ok((namespace, events::records(message.events)?))),
        }
    }
}

/// Checks a batch's name, which goes back with its answer; one that is too long goes back as far as it may be.
fn batch_id(mut batch_id: String) -> (String, Result<(), ServiceError>) {
    let bytes = batch_id.len();
    if bytes <= BATCH_ID_BYTES_MAX {
        return (batch_id, Ok(()));
    }
    batch_id.truncate(batch_id.floor_char_boundary(BATCH_ID_BYTES_MAX));
    let problem = format!("has {bytes} bytes, at most {BATCH_ID_BYTES_MAX} are allowed");
    let error = ServiceError::of_field(Reason::FieldTooLarge, "batch_id", problem);
    (batch_id, Err(error))
}

fn answer(ack: IngestAck) -> pb::IngestEventRecordsResponse {
    let batch_id = ack.batch_id;
    match ack.outcome {
        Ok(outcome) => pb::IngestEventRecordsResponse {
            batch_id,
            written: fields::wire_i32(outcome.written),
            status: None,
            response_context: Some(context::of_write(outcome.context)),
        },
        Err(error) => pb::IngestEventRecordsResponse {
            batch_id,
            written: 0,
            status: Some(rpc_status(&error)),
            response_context: None,
        },
    }
}

/// An error as a message: what unary calls carry in their trailers.
fn rpc_status(error: &ServiceError) -> tonic_types::Status {
    let status = error.to_status();
    tonic_types::Status::decode(status.details()).unwrap_or_else(|_| tonic_types::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}
