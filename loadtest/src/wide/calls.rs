//! The calls that are measured: answered within a deadline, or not at all.

use std::time::Duration;

use anabranch_proto::timeseries::v1::{EventRecord, ReadEventRecordsRequest, WriteEventRecordsSyncRequest};
use tonic::{Code, Request};

use crate::client::Client;

/// One durable write into any namespace.
pub(crate) async fn write(
    mut client: Client,
    namespace: String,
    events: Vec<EventRecord>,
    deadline: Duration,
) -> Result<(), Code> {
    let mut request = Request::new(WriteEventRecordsSyncRequest { namespace, events });
    request.set_timeout(deadline);
    let written = client.write_event_records_sync(request).await;
    written.map(drop).map_err(|status| status.code())
}

/// The events of one page of any kind.
pub(crate) async fn read(
    mut client: Client,
    mut asked: ReadEventRecordsRequest,
    deadline: Duration,
) -> Result<Vec<EventRecord>, Code> {
    asked.latency_slo = prost_types::Duration::try_from(deadline).ok();
    let mut request = Request::new(asked);
    request.set_timeout(deadline);
    let page = client.read_event_records(request).await;
    page.map(|page| page.into_inner().records)
        .map_err(|status| status.code())
}
