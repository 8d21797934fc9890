#![expect(clippy::panic, reason = "a suite of checks panics when a check fails")]
//! The contract of a bus, as code: every bus passes every check here.
//!
//! A check takes a fresh topic with nothing in it; a bus's test calls [`run`] with a way to make one. Nothing here
//! depends on the order in which detections come.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anabranch_model::{NamespaceName, PartitionKey, SliceName, TimeSeriesId};
use anabranch_runtime::{Clock, SystemClock};
use async_trait::async_trait;

use crate::{Delivery, Detection, DetectionBus};

/// Calls of `receive` in which everything that waits has to come: a bus over a network may answer a few times with
/// nothing before it does.
const RECEIVES_MAX: usize = 500;

/// When what was published can be received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// With the next call.
    AtOnce,
    /// Within some calls.
    Later,
}

/// A topic, empty at first. One bus at a time is open on it.
#[async_trait]
pub trait Topic {
    /// A bus on the topic.
    async fn open(&mut self) -> Arc<dyn DetectionBus>;
    /// Ends the bus that was opened last, as a process does that is told to stop.
    async fn close(&mut self);
}

/// Runs every check, each on a fresh topic.
///
/// # Panics
/// When the bus breaks the contract.
pub async fn run<T: Topic, F: Future<Output = T>>(arrival: Arrival, make: impl Fn() -> F) {
    macro_rules! check {
        ($check:expr) => {
            let mut topic = make().await;
            let bus = topic.open().await;
            $check(&*bus).await;
            drop(bus);
            topic.close().await;
        };
    }
    check!(what_is_published_is_delivered_until_it_is_acked);
    check!(|bus| detections_of_a_partition_are_one(bus, arrival));
    check!(an_ack_of_an_older_detection_keeps_the_newer);
    check!(an_ack_may_be_repeated);
    check!(a_partition_can_be_detected_again_after_its_ack);
    check!(what_nobody_acks_does_not_stand_in_the_way);
    check!(whoever_waits_is_woken);
    check!(partitions_do_not_mix);
    check!(nothing_is_recalled_from_an_only_receiver);
    what_is_not_acked_outlives_its_receiver(make().await).await;
}

/// A detection of a partition of one id.
///
/// # Panics
/// When the id can not be one.
pub fn detection(id: &str, bytes: u64) -> Detection {
    Detection {
        namespace: named(NamespaceName::new("ns")),
        partition: PartitionKey {
            slice: named(SliceName::new("20260101")),
            time_series_id: named(TimeSeriesId::new(id)),
            time_bucket: 3,
            event_bucket: 1,
        },
        bytes,
        immutable: true,
    }
}

fn named<T, E: std::fmt::Debug>(made: Result<T, E>) -> T {
    made.unwrap_or_else(|error| panic!("test name is refused: {error:?}"))
}

async fn publish(bus: &dyn DetectionBus, detection: &Detection) {
    bus.publish(detection)
        .await
        .unwrap_or_else(|error| panic!("publish: {error}"));
}

async fn receive(bus: &dyn DetectionBus, detections_max: usize) -> Vec<Delivery> {
    let found = bus
        .receive(detections_max)
        .await
        .unwrap_or_else(|error| panic!("receive: {error}"));
    assert!(
        found.len() <= detections_max,
        "no more are delivered than were asked for"
    );
    let partitions: BTreeSet<_> = found.iter().map(subject).collect();
    assert_eq!(partitions.len(), found.len(), "one a partition: {found:?}");
    found
}

fn subject(delivery: &Delivery) -> (NamespaceName, PartitionKey) {
    let Detection {
        namespace, partition, ..
    } = &delivery.detection;
    (namespace.clone(), partition.clone())
}

async fn ack(bus: &dyn DetectionBus, delivery: &Delivery) {
    bus.ack(delivery)
        .await
        .unwrap_or_else(|error| panic!("ack: {error}"));
}

/// Receives until as many partitions were delivered; the newest delivery of each.
async fn partitions(bus: &dyn DetectionBus, at_once: usize, expected: usize) -> Vec<Delivery> {
    let mut found = BTreeMap::new();
    for _ in 0..RECEIVES_MAX {
        let before = found.len();
        for delivery in receive(bus, at_once).await {
            found.insert(subject(&delivery), delivery);
        }
        if found.len() >= expected {
            break;
        }
        if found.len() == before {
            // What is not acked comes at once; the rest may be on its way.
            pause().await;
        }
    }
    assert_eq!(found.len(), expected, "partitions delivered");
    found.into_values().collect()
}

async fn pause() {
    SystemClock::new().sleep(Duration::from_millis(20)).await;
}

async fn one(bus: &dyn DetectionBus) -> Delivery {
    let mut found = partitions(bus, 10, 1).await;
    found
        .pop()
        .unwrap_or_else(|| panic!("there is one, as was counted"))
}

async fn nothing_waits(bus: &dyn DetectionBus) {
    assert_eq!(receive(bus, 10).await, [], "what was acked does not come again");
}

async fn what_is_published_is_delivered_until_it_is_acked(bus: &dyn DetectionBus) {
    nothing_waits(bus).await;
    let published = detection("a", 7);
    publish(bus, &published).await;
    for _ in 0..3 {
        assert_eq!(one(bus).await.detection, published);
    }
    ack(bus, &one(bus).await).await;
    nothing_waits(bus).await;
}

async fn detections_of_a_partition_are_one(bus: &dyn DetectionBus, arrival: Arrival) {
    for bytes in [5, 9, 7] {
        publish(bus, &detection("a", bytes)).await;
    }
    if arrival == Arrival::AtOnce {
        assert_eq!(receive(bus, 10).await.len(), 1, "one a partition");
        assert_eq!(one(bus).await.detection.bytes, 9, "the one that read most");
    }
    ack(bus, &with_bytes(bus, 9).await).await;
    if arrival == Arrival::Later {
        // The last one may have come after the ack.
        for delivery in receive(bus, 10).await {
            assert_eq!(delivery.detection.bytes, 7, "what was acked does not come again");
            ack(bus, &delivery).await;
        }
    }
    nothing_waits(bus).await;
}

/// Receives until the one partition that waits is said to have this many bytes.
async fn with_bytes(bus: &dyn DetectionBus, bytes: u64) -> Delivery {
    for _ in 0..RECEIVES_MAX {
        let found = one(bus).await;
        if found.detection.bytes == bytes {
            return found;
        }
        pause().await;
    }
    panic!("no detection of {bytes} bytes comes");
}

async fn an_ack_of_an_older_detection_keeps_the_newer(bus: &dyn DetectionBus) {
    publish(bus, &detection("a", 5)).await;
    let older = one(bus).await;
    publish(bus, &detection("a", 6)).await;
    ack(bus, &older).await;
    let newer = one(bus).await;
    assert_eq!(newer.detection.bytes, 6);
    ack(bus, &newer).await;
    nothing_waits(bus).await;
}

async fn an_ack_may_be_repeated(bus: &dyn DetectionBus) {
    publish(bus, &detection("a", 5)).await;
    let delivery = one(bus).await;
    ack(bus, &delivery).await;
    ack(bus, &delivery).await;
    publish(bus, &detection("a", 5)).await;
    ack(bus, &delivery).await;
    assert_eq!(
        one(bus).await.detection,
        detection("a", 5),
        "an old ack does not take what came after it"
    );
}

async fn a_partition_can_be_detected_again_after_its_ack(bus: &dyn DetectionBus) {
    for bytes in [9, 9, 3] {
        publish(bus, &detection("a", bytes)).await;
        let delivery = one(bus).await;
        assert_eq!(delivery.detection.bytes, bytes);
        ack(bus, &delivery).await;
    }
    nothing_waits(bus).await;
}

async fn what_nobody_acks_does_not_stand_in_the_way(bus: &dyn DetectionBus) {
    for number in 0..7 {
        publish(bus, &detection(&format!("id{number}"), 5)).await;
    }
    for _ in 0..3 {
        partitions(bus, 2, 7).await;
    }
    for delivery in partitions(bus, 3, 7).await {
        ack(bus, &delivery).await;
    }
    nothing_waits(bus).await;
}

async fn whoever_waits_is_woken(bus: &dyn DetectionBus) {
    // The first call returns: something may have been left by an earlier process.
    bus.arrived().await;
    publish(bus, &detection("a", 5)).await;
    bus.arrived().await;
    let later = async {
        publish(bus, &detection("b", 5)).await;
    };
    tokio::join!(bus.arrived(), later);
    partitions(bus, 10, 2).await;
}

async fn partitions_do_not_mix(bus: &dyn DetectionBus) {
    let of = |namespace: &str, slice: &str, time_bucket: i64, event_bucket: u32| {
        let mut of = detection("a\0b", 5);
        of.namespace = named(NamespaceName::new(namespace));
        of.partition.slice = named(SliceName::new(slice));
        of.partition.time_bucket = time_bucket;
        of.partition.event_bucket = event_bucket;
        of
    };
    let all = [
        of("ns", "20260101", 0, 0),
        of("ns", "20260101", 0, 1),
        of("ns", "20260101", -1, 0),
        of("ns", "20260102", 0, 0),
        of("other", "20260101", 0, 0),
    ];
    for detection in &all {
        publish(bus, detection).await;
    }
    let mut found: Vec<Delivery> = partitions(bus, 10, all.len()).await;
    let first = found.remove(0);
    ack(bus, &first).await;
    let left = partitions(bus, 10, found.len()).await;
    let left: Vec<Detection> = left.into_iter().map(|delivery| delivery.detection).collect();
    for detection in &all {
        assert_eq!(
            left.contains(detection),
            *detection != first.detection,
            "{detection:?}"
        );
    }
}

async fn nothing_is_recalled_from_an_only_receiver(bus: &dyn DetectionBus) {
    publish(bus, &detection("a", 5)).await;
    let delivery = one(bus).await;
    tokio::select! {
        biased;
        () = bus.recalled() => panic!("there is nobody to recall it for"),
        () = std::future::ready(()) => {}
    }
    ack(bus, &delivery).await;
    nothing_waits(bus).await;
}

async fn what_is_not_acked_outlives_its_receiver(mut topic: impl Topic) {
    let bus = topic.open().await;
    for id in ["a", "b", "c"] {
        publish(&*bus, &detection(id, 5)).await;
    }
    for delivery in partitions(&*bus, 10, 3).await {
        if delivery.detection != detection("b", 5) {
            ack(&*bus, &delivery).await;
        }
    }
    drop(bus);
    topic.close().await;
    let bus = topic.open().await;
    let delivery = one(&*bus).await;
    assert_eq!(delivery.detection, detection("b", 5));
    ack(&*bus, &delivery).await;
    nothing_waits(&*bus).await;
    drop(bus);
    topic.close().await;
}
