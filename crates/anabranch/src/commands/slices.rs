//! `slices`: the time slices of a namespace.

use anabranch_proto::admin::v1::{ListTimeSlicesRequest, TimeSlice};

use super::{Session, print_sheet};
use crate::client::Client;
use crate::exit::Failure;
use crate::messages;
use crate::output::Sheet;
use crate::units::format_time;

pub(super) async fn run(session: &Session, namespace: &str) -> Result<(), Failure> {
    let slices = fetch(&mut session.client().await?, namespace).await?;
    print(session, &slices)
}

/// Every time slice of a namespace, oldest first.
pub(super) async fn fetch(client: &mut Client, namespace: &str) -> Result<Vec<TimeSlice>, Failure> {
    let mut slices = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListTimeSlicesRequest {
            namespace: namespace.to_owned(),
            page_size: 1_000,
            page_token,
        };
        let answer = client.admin.list_time_slices(request).await?.into_inner();
        slices.extend(answer.time_slices);
        if answer.next_page_token.is_empty() {
            return Ok(slices);
        }
        page_token = answer.next_page_token;
    }
}

/// Prints slices.
pub(super) fn print(session: &Session, slices: &[TimeSlice]) -> Result<(), Failure> {
    let mut sheet = Sheet::new(&[
        "name",
        "start",
        "end",
        "state",
        "epoch",
        "sealed_before",
        "time_bucket",
        "event_buckets",
    ]);
    let time = |time: Option<&prost_types::Timestamp>| time.map_or_else(|| "-".to_owned(), format_time);
    for slice in slices {
        let interval = slice.interval.as_ref();
        let settings = slice.settings.unwrap_or_default();
        let cells = vec![
            slice.name.clone(),
            time(interval.and_then(|interval| interval.start.as_ref())),
            time(interval.and_then(|interval| interval.end.as_ref())),
            slice.state().as_str_name().to_owned(),
            slice.epoch.to_string(),
            time(slice.sealed_before.as_ref()),
            format!("{}s", settings.seconds_per_time_bucket),
            settings.event_buckets.to_string(),
        ];
        sheet.row(
            cells,
            messages::to_json("anabranch.admin.v1.TimeSlice", slice, false),
        );
    }
    print_sheet(session, &sheet)
}
