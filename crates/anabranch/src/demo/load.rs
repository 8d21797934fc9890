//! Puts the data into the store, once.
//!
//! An id of its own says what was started and what was finished. A load that was interrupted is started
//! again with the same seed and the same time: what was written before is written once more to the same
//! place, which changes nothing.

use anabranch_proto::admin::v1::namespace::FieldType;
use anabranch_proto::admin::v1::{
    CreateNamespaceRequest, Namespace, SealTimeSlicesRequest, UnsealTimeSlicesRequest, WidePartition,
};
use anabranch_proto::timeseries::v1::{
    EventItem, EventRecord, IngestEventRecordsRequest, ReadEventRecordsRequest, WriteEventRecordsSyncRequest,
};
use anabranch_runtime::Clock;
use prost_types::Timestamp;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::NAMESPACE;
use super::data::{self, Size};
use crate::client::Client;
use crate::commands::Session;
use crate::exit::Failure;
use crate::output::print_line;
use crate::output::progress::Progress;
use crate::units::{counted, format_count, format_elapsed};

/// The id that says what was loaded.
const RECORD_ID: &str = "demo:load";
const BATCH_EVENTS: usize = 1_000;
const BATCHES_AHEAD: usize = 16;

/// Loads the data unless it is there.
pub(super) async fn ensure(session: &Session, client: &Client, size: Size) -> Result<(), Failure> {
    create_namespace(client).await?;
    let record = Record::read(client, size).await?;
    let end_micros = match record.started {
        Some(end_micros) if record.finished => {
            print_line(&format!(
                "namespace `{NAMESPACE}` holds the data already: {} ids, loaded up to {}",
                format_count(size.profiles() + 3),
                crate::units::format_time(&at(end_micros))
            ))?;
            return Ok(());
        }
        Some(end_micros) => {
            print_line("a load was interrupted: starting it again; what is there is not written twice")?;
            end_micros
        }
        None => {
            // Whole seconds, and a little back: nothing lies ahead of the server's clock.
            let now = session.clock.unix_micros() / 1_000_000 * 1_000_000 - 5_000_000;
            Record::write(client, size, "started", now).await?;
            now
        }
    };
    unseal(client).await?;
    load(session, client, size, end_micros).await?;
    Record::write(client, size, "finished", end_micros).await?;
    seal(client, end_micros).await
}

/// What is loaded does not change any more, and only what can not change is split.
async fn seal(client: &Client, end_micros: i64) -> Result<(), Failure> {
    let request = SealTimeSlicesRequest {
        namespace: NAMESPACE.to_owned(),
        before: Some(at(end_micros)),
    };
    client.admin.clone().seal_time_slices(request).await?;
    Ok(())
}

/// A load of another size adds to the same week.
async fn unseal(client: &Client) -> Result<(), Failure> {
    let request = UnsealTimeSlicesRequest {
        namespace: NAMESPACE.to_owned(),
        after: None,
    };
    client.admin.clone().unseal_time_slices(request).await?;
    Ok(())
}

async fn create_namespace(client: &Client) -> Result<(), Failure> {
    let integers = ["bitrate_kbps", "position_ms", "title"];
    let namespace = Namespace {
        name: NAMESPACE.to_owned(),
        wide_partition: Some(WidePartition {
            detect_bytes: Some(8 << 20),
            target_bytes: Some(2 << 20),
            split_bytes_per_second: Some(200 << 20),
            ..WidePartition::default()
        }),
        // The data is a week old at its oldest.
        accept_limit: Some(prost_types::Duration::default()),
        field_mapping: integers
            .map(|key| (key.to_owned(), i32::from(FieldType::Integer)))
            .into(),
        ..Namespace::default()
    };
    let request = CreateNamespaceRequest {
        namespace: Some(namespace),
    };
    match client.admin.clone().create_namespace(request).await {
        Ok(_) => Ok(()),
        Err(status) if status.code() == Code::AlreadyExists => Ok(()),
        Err(status) => Err(status.into()),
    }
}

/// What is known of earlier loads of this size.
#[derive(Debug, Default)]
struct Record {
    /// The time that the data ends at.
    started: Option<i64>,
    finished: bool,
}

impl Record {
    async fn read(client: &Client, size: Size) -> Result<Self, Failure> {
        let request = ReadEventRecordsRequest {
            namespace: NAMESPACE.to_owned(),
            time_series_id: RECORD_ID.to_owned(),
            ..ReadEventRecordsRequest::default()
        };
        let answer = client.events.clone().read_event_records(request).await?;
        let mut record = Self::default();
        for event in answer.into_inner().records {
            let of_this_size = event
                .event_items
                .iter()
                .any(|item| item.event_item_key == "data" && item.event_item_value == size.name().as_bytes());
            if let (true, Some(time)) = (of_this_size, event.event_time) {
                record.started.get_or_insert(time.seconds * 1_000_000);
                record.finished |= event.event_id.starts_with("finished");
            }
        }
        Ok(record)
    }

    async fn write(client: &Client, size: Size, what: &str, end_micros: i64) -> Result<(), Failure> {
        let item = |key: &str, value: String| EventItem {
            event_item_key: key.to_owned(),
            event_item_value: value.into(),
        };
        let event = EventRecord {
            time_series_id: RECORD_ID.to_owned(),
            event_time: Some(at(end_micros)),
            event_id: format!("{what} {}", size.name()),
            event_items: vec![item("data", size.name())],
        };
        let request = WriteEventRecordsSyncRequest {
            namespace: NAMESPACE.to_owned(),
            events: vec![event],
        };
        client.events.clone().write_event_records_sync(request).await?;
        Ok(())
    }
}

async fn load(session: &Session, client: &Client, size: Size, end_micros: i64) -> Result<(), Failure> {
    let started = session.clock.elapsed();
    let total = data::total(size);
    let progress = Progress::steps(total);
    progress.note(format!("events into `{NAMESPACE}`"));
    let (send, batches) = mpsc::channel(BATCHES_AHEAD);
    let maker = std::thread::Builder::new()
        .name("demo-data".to_owned())
        .spawn(move || make(size, end_micros, &send))
        .map_err(|error| Failure::internal(format_args!("can not start making data: {error}")))?;
    let mut answers = client
        .events
        .clone()
        .ingest_event_records(ReceiverStream::new(batches))
        .await?
        .into_inner();
    let mut written = 0;
    while let Some(answer) = answers.message().await? {
        if let Some(status) = answer.status {
            return Err(Status::new(Code::from(status.code), status.message).into());
        }
        written += u64::try_from(answer.written).unwrap_or(0);
        progress.set(written);
    }
    progress.finish();
    // It ended with its last batch.
    let _ = maker.join();
    if written < total {
        return Err(Failure::internal(format_args!(
            "only {written} of {total} events were written; run the demo again"
        )));
    }
    let elapsed = session.clock.elapsed().saturating_sub(started);
    print_line(&format!(
        "loaded namespace `{NAMESPACE}`: {} of {} ids in {} ({} events/s, durable); 3 ids are far too wide: {}",
        counted(total, "event"),
        format_count(size.profiles() + 3),
        format_elapsed(elapsed),
        format_count(u64::try_from(u128::from(total) * 1_000 / elapsed.as_millis().max(1)).unwrap_or(0)),
        data::wide_ids().join(", ")
    ))
}

fn make(size: Size, end_micros: i64, send: &mpsc::Sender<IngestEventRecordsRequest>) {
    let mut events = data::events(size, end_micros).peekable();
    for batch in 0_u64.. {
        if events.peek().is_none() {
            return;
        }
        let request = IngestEventRecordsRequest {
            namespace: NAMESPACE.to_owned(),
            batch_id: batch.to_string(),
            events: events.by_ref().take(BATCH_EVENTS).collect(),
        };
        if send.blocking_send(request).is_err() {
            return;
        }
    }
}

fn at(micros: i64) -> Timestamp {
    Timestamp {
        seconds: micros.div_euclid(1_000_000),
        nanos: 0,
    }
}
