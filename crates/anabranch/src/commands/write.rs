//! `write`: events from a file into a namespace.
//!
//! ```text
//! input ─batches─▶ upload ─▶ send (stream │ sync │ queued) ─answers─▶ upload ─▶ report, checkpoint
//! ```
//!
//! A batch is kept until it is acked, and sent again when its connection is lost or the server is busy:
//! writing is idempotent (W2). An event that can not be written is named by its line.

mod report;
mod send;
mod upload;

use super::Session;
use crate::cli::{OnError, Write};
use crate::exit::Failure;
use crate::input::batches::{self, Cut};
use crate::input::resume::Checkpoint;
use report::Report;
use send::{Mode, Sender};
use upload::{Limits, Upload};

pub(super) async fn run(session: &Session, write: Write) -> Result<(), Failure> {
    let checkpoint = write
        .checkpoint
        .as_deref()
        .map(|path| Checkpoint::open(path, &write.file, &write.namespace))
        .transpose()
        .map_err(Failure::usage)?;
    let from_line = match &checkpoint {
        Some(checkpoint) => checkpoint.line() + 1,
        None => write.from_line,
    };
    let client = session.client().await?;
    let input = batches::open(&write.file).map_err(Failure::usage)?;
    let mode = match (write.sync, write.queued) {
        (true, _) => Mode::Sync,
        (_, true) => Mode::Queued,
        _ => Mode::Stream,
    };
    let skip = write.on_error == OnError::Skip;
    let report = Report::new(session.clock.clone(), &input, mode, skip, from_line);
    let cut = Cut {
        events_max: usize::try_from(write.batch).unwrap_or(usize::MAX),
        from_line,
        stop_at_wrong: !skip,
    };
    let receive = batches::read(input, cut)
        .map_err(|error| Failure::internal(format_args!("can not start reading: {error}")))?;
    let in_flight = usize::try_from(write.in_flight).unwrap_or(usize::MAX);
    let upload = Upload::new(
        session.clock.clone(),
        Sender::new(mode, client.events, write.namespace, in_flight),
        Limits {
            in_flight,
            retry_for: write.retry_for,
            skip,
        },
        report,
        checkpoint,
    );
    upload.run(receive).await
}
