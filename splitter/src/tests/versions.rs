//! Records that workers of this version can not read, beside those that they can.

use anabranch_bus::DetectionBus;
use anabranch_model::namespace::Rollout;
use anabranch_storage::{CasOutcome, RecordKey, RecordStore, SplitSlot};
use bytes::Bytes;

use super::world::{EVENTS, HOUR, World, namespace, partition};

fn key(time_bucket: i64) -> RecordKey {
    RecordKey::Split {
        namespace: namespace(),
        partition: partition(time_bucket),
    }
}

#[tokio::test]
async fn records_of_a_newer_format_are_left_alone_and_the_others_go_on() {
    let world = World::at(12 * HOUR, Rollout::Split).await;
    let unreadable = [
        (
            1,
            "{\"v2\":{\"state\":{\"Freezing\":{\"tier\":1}},\"partition\":null}}",
        ),
        (2, "{\"v1\":{\"partition\""),
    ];
    for (bucket, bytes) in unreadable {
        let bytes = Some(Bytes::from(bytes));
        let put = world.store.compare_and_set(&key(bucket), 0, bytes).await;
        assert_eq!(put.unwrap(), CasOutcome::Applied { version: 1 });
    }
    for bucket in 0..4 {
        world.fill(bucket * HOUR, EVENTS, 10).await;
        world.detect(partition(bucket)).await;
    }
    let (mut planner, mut splitter) = (world.planner(1), world.splitter(2));
    world.settle(&mut planner, &mut splitter).await;
    for bucket in [0, 3] {
        world.proved(bucket).await;
    }
    for (bucket, bytes) in unreadable {
        let stands = RecordStore::get(&*world.store, &key(bucket))
            .await
            .unwrap()
            .unwrap();
        assert_eq!((stands.version, stands.value.unwrap()), (1, Bytes::from(bytes)));
        let slot = world.splits.get(&namespace(), &partition(bucket)).await.unwrap();
        assert!(matches!(slot, SplitSlot::Unreadable(_)));
    }
    assert!(world.bus.receive(10).await.unwrap().is_empty(), "they were acked");
    let told = world.metrics.encode().unwrap();
    for worker in ["planner", "splitter"] {
        for reason in ["NEWER_FORMAT", "DAMAGED"] {
            let line =
                format!("anabranch_{worker}_records_unreadable{{namespace=\"ns\",reason=\"{reason}\"}} 1");
            assert!(told.contains(&line), "{line}: {told}");
        }
    }
    assert!(
        told.contains("anabranch_planner_detections_total{outcome=\"unreadable\"} 2"),
        "{told}"
    );
    assert!(told.contains("anabranch_planner_rounds_failed_total 0"), "{told}");
    assert!(
        told.contains("anabranch_splitter_rounds_failed_total 0"),
        "{told}"
    );
}

#[tokio::test]
async fn a_namespace_that_can_not_be_read_stops_no_other() {
    let world = World::with_a_wide_partition().await;
    let other = RecordKey::Namespace {
        namespace: anabranch_model::NamespaceName::new("another").unwrap(),
    };
    let newer = Bytes::from_static(b"{\"v2\":{}}");
    world.store.compare_and_set(&other, 0, Some(newer)).await.unwrap();
    let (mut planner, mut splitter) = (world.planner(1), world.splitter(2));
    world.settle(&mut planner, &mut splitter).await;
    world.proved(0).await;
}
