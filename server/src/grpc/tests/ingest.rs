use anabranch_proto::timeseries::v1 as pb;
use futures::stream;

use super::harness::Server;

fn batch(namespace: &str, batch_id: &str, events: Vec<pb::EventRecord>) -> pb::IngestEventRecordsRequest {
    pb::IngestEventRecordsRequest {
        namespace: namespace.into(),
        batch_id: batch_id.into(),
        events,
    }
}

fn event(event_id: &str) -> pb::EventRecord {
    pb::EventRecord {
        time_series_id: "a".into(),
        event_time: Some(prost_types::Timestamp {
            seconds: 1_000,
            nanos: 0,
        }),
        event_id: event_id.into(),
        event_items: vec![pb::EventItem {
            event_item_key: "k".into(),
            event_item_value: "v".into(),
        }],
    }
}

#[tokio::test]
async fn batches_are_acked_by_id_and_one_that_fails_does_not_end_the_stream() {
    let server = Server::start().await;
    server.create("demo").await;
    let mut client = server.events().await;
    let batches = vec![
        batch("demo", "1", vec![event("x"), event("y")]),
        batch("", "2", vec![event("")]),
        batch("", "3", vec![event("z")]),
    ];
    let mut acks = client
        .ingest_event_records(stream::iter(batches))
        .await
        .unwrap()
        .into_inner();
    let mut found = Vec::new();
    while let Some(ack) = acks.message().await.unwrap() {
        let reason = ack.status.as_ref().map(|status| status.message.clone());
        found.push((ack.batch_id, ack.written, reason));
    }
    assert_eq!(found[0], ("1".into(), 2, None));
    assert_eq!((found[1].0.as_str(), found[1].1), ("2", 0));
    assert!(
        found[1].2.as_ref().unwrap().contains("events[0].event_id"),
        "{found:?}"
    );
    assert_eq!(found[2], ("3".into(), 1, None));

    let read = pb::ReadEventRecordsRequest {
        namespace: "demo".into(),
        time_series_id: "a".into(),
        ..Default::default()
    };
    let page = client.read_event_records(read).await.unwrap().into_inner();
    let ids: Vec<_> = page
        .records
        .iter()
        .map(|record| record.event_id.as_str())
        .collect();
    assert_eq!(ids, ["z", "y", "x"]);
    drop((client, acks));
    server.stop().await;
}

#[tokio::test]
async fn drain_ends_streams_with_a_reason() {
    let server = Server::start().await;
    server.create("demo").await;
    let mut client = server.events().await;
    let first = batch("demo", "1", vec![event("x")]);
    let endless = futures::StreamExt::chain(stream::iter([first]), stream::pending());
    let mut acks = client.ingest_event_records(endless).await.unwrap().into_inner();
    assert_eq!(acks.message().await.unwrap().unwrap().written, 1);
    server.draining.cancel();
    let status = acks.message().await.unwrap_err();
    let reason = crate::errors::reason_of(&status).unwrap();
    assert_eq!(reason.name(), "SERVER_DRAINING");
    drop((client, acks));
    server.stop().await;
}
