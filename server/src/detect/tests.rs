//! Detections: once a while, never blocking, never lost for good.

use anabranch_catalog::freeze::SKEW_MARGIN;
use anabranch_model::namespace::WidePartition;
use anabranch_model::{NamespaceSettings, TimeSeriesId};

use super::*;
use crate::testing::{NOON, Server, seconds};

fn settings(detect_bytes: u64) -> NamespaceSettings {
    let defaults = NamespaceSettings::default();
    NamespaceSettings {
        wide_partition: WidePartition {
            detect_bytes,
            ..defaults.wide_partition
        },
        ..defaults
    }
}

async fn view(server: &Server) -> Arc<NamespaceView> {
    server.create(settings(2_000)).await;
    server.core.namespaces.view(&server.ns()).await.unwrap()
}

fn partition(view: &NamespaceView, n: usize) -> PartitionKey {
    let slice = view.slice_of(EventTime::from_micros(NOON)).unwrap();
    PartitionKey {
        slice: slice.name.clone(),
        time_series_id: TimeSeriesId::new(format!("id{n}")).unwrap(),
        time_bucket: slice.time_bucket(EventTime::from_micros(NOON)),
        event_bucket: 0,
    }
}

fn detector(server: &Server, settings: DetectSettings) -> Detector {
    Detector::start(
        Arc::new(server.bus.clone()),
        server.clock.clone(),
        &server._tasks,
        &Metrics::default(),
        settings,
    )
}

#[tokio::test]
async fn a_partition_is_published_once_until_its_suppression_expires() {
    let server = Server::start().await;
    let view = view(&server).await;
    let detector = detector(&server, DetectSettings::default());
    detector.offer(&view, &partition(&view, 1), 2_000);
    server.settle().await;
    assert_eq!(server.detections().await.len(), 0, "not past the threshold");
    for _ in 0..5 {
        detector.offer(&view, &partition(&view, 1), 2_001);
    }
    detector.offer(&view, &partition(&view, 2), 9_000);
    server.settle().await;
    let published = server.detections().await;
    assert_eq!(published.len(), 2);
    assert_eq!((published[0].bytes, published[0].immutable), (2_001, false));
    assert_eq!(detector.0.counted.suppressed.get(), 4);
    server.clock.advance(seconds(60));
    detector.offer(&view, &partition(&view, 1), 2_002);
    server.settle().await;
    assert_eq!(server.detections().await.len(), 1);
}

#[tokio::test]
async fn nothing_is_offered_where_healing_is_off() {
    let server = Server::start().await;
    let view = view(&server).await;
    let detector = detector(&server, DetectSettings::default());
    let mut off = NamespaceView::clone(&view);
    off.settings.wide_partition.rollout = Rollout::Off;
    detector.offer(&off, &partition(&view, 1), 1 << 30);
    off.settings.wide_partition.rollout = Rollout::Detect;
    detector.offer(&off, &partition(&view, 2), 1 << 30);
    server.settle().await;
    assert_eq!(server.detections().await.len(), 1);
}

#[tokio::test]
async fn a_full_channel_drops_and_does_not_suppress() {
    let server = Server::start().await;
    let view = view(&server).await;
    let detector = detector(
        &server,
        DetectSettings {
            waiting_max: 2,
            ..DetectSettings::default()
        },
    );
    // Nothing runs in between, so nothing is taken from the channel, and nothing waits for it.
    for n in 0..5 {
        detector.offer(&view, &partition(&view, n), 1 << 20);
    }
    assert_eq!(detector.0.counted.dropped.get(), 3);
    server.settle().await;
    assert_eq!(server.detections().await.len(), 2);
    detector.offer(&view, &partition(&view, 4), 1 << 20);
    server.settle().await;
    assert_eq!(
        server.detections().await.len(),
        1,
        "what was dropped is offered again"
    );
}

#[tokio::test]
async fn a_detection_that_can_not_be_published_is_tried_again_and_then_forgotten() {
    let server = Server::start().await;
    let view = view(&server).await;
    let detector = detector(&server, DetectSettings::default());
    server.faults.records_down(true);
    detector.offer(&view, &partition(&view, 1), 1 << 20);
    for _ in 0..4 {
        server.advance(seconds(1)).await;
    }
    assert_eq!(detector.0.counted.failed.get(), 1);
    server.faults.records_down(false);
    detector.offer(&view, &partition(&view, 1), 1 << 20);
    server.settle().await;
    assert_eq!(server.detections().await.len(), 1);
}

#[tokio::test]
async fn a_bucket_that_no_write_reaches_is_said_to_be_immutable() {
    let server = Server::start().await;
    let view = view(&server).await;
    let partition = partition(&view, 1);
    let slice = view.slice_of(EventTime::from_micros(NOON)).unwrap();
    let end = slice.bucket_interval(partition.time_bucket).end;
    let closed = end
        .saturating_add(view.settings.accept_limit)
        .saturating_add(SKEW_MARGIN);
    let before = EventTime::from_micros(closed.micros() - 1);
    assert!(!immutable(&view, &partition, before));
    assert!(immutable(&view, &partition, closed));
    let mut sealed = NamespaceView::clone(&view);
    sealed.settings.accept_limit = Duration::ZERO;
    assert!(!immutable(&sealed, &partition, closed));
    sealed.sealed_before = Some(end);
    assert!(immutable(&sealed, &partition, before));
}
