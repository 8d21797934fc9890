//! Sizes: measured as they are, cut by time, named by partition.

use anabranch_model::{EventTime, NamespaceSettings};

use super::*;
use crate::testing::{Server, event, seconds};
use crate::write::WriteRequest;

async fn server() -> Server {
    let server = Server::start().await;
    server.create(NamespaceSettings::default()).await;
    server
}

async fn write(server: &Server, id: &str, events: i64) {
    let records = (0..events).map(|n| {
        let time = EventTime::from_micros(server.now().micros() - n);
        event(id, time, &format!("e{n}"), "value")
    });
    let request = WriteRequest {
        namespace: server.ns(),
        events: records.collect(),
        deadline: None,
    };
    server.core.writer.write_sync(request).await.unwrap();
}

#[tokio::test]
async fn the_widest_partitions_are_named_and_shares_are_counted() {
    let server = server().await;
    for number in 1..=50 {
        write(&server, &format!("id{number:02}"), number).await;
    }
    let admin = &server.core.admin;
    let sizes = admin.partition_sizes(&server.ns(), None, None).await.unwrap();
    assert_eq!((sizes.partitions, sizes.events), (50, 50 * 51 / 2));
    assert_eq!(sizes.partial, None);
    assert_eq!(sizes.widest.len(), WIDEST_MAX);
    let widest: Vec<u64> = sizes.widest.iter().map(|size| size.events).collect();
    assert_eq!(widest, (31..=50).rev().collect::<Vec<_>>());
    assert!(sizes.widest.iter().all(|size| !size.at_least));
    let percentiles = sizes.percentiles.unwrap();
    assert_eq!(percentiles.max, sizes.widest[0].bytes);
    assert!(percentiles.p50 < percentiles.p90 && percentiles.p90 < percentiles.p99);
    let named = admin
        .partition_sizes(&server.ns(), Some(&sizes.slice), None)
        .await
        .unwrap();
    assert_eq!(named, sizes);
}

#[tokio::test]
async fn a_measurement_without_time_says_that_it_is_partial() {
    let server = server().await;
    write(&server, "a", 2 * i64::try_from(PAGE_EVENTS).unwrap()).await;
    write(&server, "b", 1).await;
    let none = Deadline::after(&*server.clock, seconds(0));
    let sizes = server
        .core
        .admin
        .partition_sizes(&server.ns(), None, Some(none))
        .await
        .unwrap();
    assert_eq!(sizes.partial, Some("the time ran out"));
    assert_eq!(sizes.partitions, 1);
    assert!(sizes.widest[0].at_least);
    assert_eq!(sizes.widest[0].events, PAGE_EVENTS as u64);
}

#[tokio::test]
async fn an_empty_slice_has_no_shares() {
    let server = server().await;
    let sizes = server
        .core
        .admin
        .partition_sizes(&server.ns(), None, None)
        .await
        .unwrap();
    assert_eq!((sizes.partitions, sizes.percentiles), (0, None));
}

#[tokio::test]
async fn a_slice_that_is_not_there_is_not_found() {
    let server = server().await;
    let slice = SliceName::new("19991231").unwrap();
    let sizes = server
        .core
        .admin
        .partition_sizes(&server.ns(), Some(&slice), None)
        .await;
    assert_eq!(sizes.unwrap_err().reason, Reason::TimeSliceNotFound);
}

#[test]
fn a_share_is_that_of_the_nearest_rank() {
    let sizes: Vec<u64> = (1..=10).collect();
    let percentiles = percentiles(&sizes).unwrap();
    assert_eq!(
        (percentiles.p50, percentiles.p90, percentiles.p99, percentiles.max),
        (5, 9, 10, 10)
    );
    assert_eq!(super::percentiles(&[]), None);
}
