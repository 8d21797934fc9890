//! A stream of batches in, a stream of acks out: the fast way in.
//!
//! Several batches are written at the same time, within a window of batches and bytes; acks leave in
//! the order of the batches. A batch that fails is acked with its error and does not end the stream. A
//! caller that reads acks slowly is read slowly.

use std::future::Future;
use std::pin::Pin;

use anabranch_model::{EventRecord, NamespaceName};
use futures::stream::{FuturesOrdered, Stream, StreamExt};

use super::request::{WriteOutcome, WriteRequest, event_bytes};
use super::writer::Writer;
use crate::errors::ServiceError;

/// Most batches that are written at the same time.
const WINDOW_BATCHES: usize = 16;
/// No batch is taken while those that are being written have this many bytes.
const WINDOW_BYTES: usize = 8 << 20;

/// A batch of a stream.
#[derive(Clone, Debug)]
pub struct IngestBatch {
    /// The caller's name for it.
    pub batch_id: String,
    /// What to write where; the error of a batch that could not even be read is passed through.
    pub write: Result<(NamespaceName, Vec<EventRecord>), ServiceError>,
}

/// What became of a batch.
#[derive(Clone, Debug)]
pub struct IngestAck {
    /// The caller's name for it.
    pub batch_id: String,
    /// The same as for a `write_sync` of the batch.
    pub outcome: Result<WriteOutcome, ServiceError>,
}

/// Writes batches as they come and acks each, in order, when it is durable (W1).
pub fn ingest<S>(writer: Writer, batches: S) -> impl Stream<Item = IngestAck> + Send + 'static
where
    S: Stream<Item = IngestBatch> + Send + Unpin + 'static,
{
    let window = Window {
        writer,
        batches: Some(batches),
        writing: FuturesOrdered::new(),
        writing_bytes: 0,
    };
    futures::stream::unfold(window, |mut window| async move {
        let ack = window.next_ack().await?;
        Some((ack, window))
    })
}

type Writing = Pin<Box<dyn Future<Output = (usize, IngestAck)> + Send>>;

struct Window<S> {
    writer: Writer,
    /// `None` once it has ended.
    batches: Option<S>,
    writing: FuturesOrdered<Writing>,
    writing_bytes: usize,
}

impl<S: Stream<Item = IngestBatch> + Unpin> Window<S> {
    async fn next_ack(&mut self) -> Option<IngestAck> {
        loop {
            let room = self.writing.len() < WINDOW_BATCHES && self.writing_bytes < WINDOW_BYTES;
            match &mut self.batches {
                Some(batches) if room => {
                    tokio::select! {
                        biased;
                        Some(done) = self.writing.next() => return Some(self.acked(done)),
                        batch = batches.next() => match batch {
                            Some(batch) => self.write(batch),
                            None => self.batches = None,
                        },
                    }
                }
                _ => {
                    let done = self.writing.next().await?;
                    return Some(self.acked(done));
                }
            }
        }
    }

    fn acked(&mut self, (bytes, ack): (usize, IngestAck)) -> IngestAck {
        self.writing_bytes -= bytes;
        ack
    }

    fn write(&mut self, batch: IngestBatch) {
        let IngestBatch { batch_id, write } = batch;
        let bytes = write
            .as_ref()
            .map_or(0, |(_, events)| events.iter().map(event_bytes).sum());
        self.writing_bytes += bytes;
        let writer = self.writer.clone();
        self.writing.push_back(Box::pin(async move {
            let outcome = match write {
                Ok((namespace, events)) => {
                    let request = WriteRequest {
                        namespace,
                        events,
                        deadline: None,
                    };
                    writer.write_sync(request).await
                }
                Err(error) => Err(error),
            };
            (bytes, IngestAck { batch_id, outcome })
        }));
    }
}
