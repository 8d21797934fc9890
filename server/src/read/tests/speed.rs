//! What a page costs over the store's own scan. Run by hand: `cargo test --release … -- --ignored`.

use std::sync::Arc;
use std::time::Duration;

use anabranch_model::layout::slice_at;
use anabranch_model::{Consistency, Direction, PartitionSettings, TimeInterval, TimeSlice};
use anabranch_runtime::telemetry::Metrics;
use anabranch_runtime::{Clock, SystemClock};
use anabranch_storage::{EventBounds, PartitionAppend, ScanRequest, TableKind, TableName};

use super::support::{World, record, time};
use crate::read::{PageTokens, ReadLimits, Reader};

#[tokio::test]
#[ignore = "a measurement"]
async fn a_page_costs_little_over_the_scan_under_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = anabranch_storage::open::embedded(dir.path(), &Metrics::default()).unwrap();
    let mut world = World::all_time((86_400 * 365, 1)).await;
    let (name, interval) = slice_at(time(0), 0).unwrap();
    let settings = PartitionSettings {
        seconds_per_time_bucket: 86_400 * 365,
        event_buckets: 1,
    };
    let slice = TimeSlice::cut(name.clone(), interval, settings);
    world.view.slices = Arc::new(vec![slice.clone()]);
    let table = TableName {
        namespace: world.view.name.clone(),
        kind: TableKind::Data,
        slice: name,
    };
    store.events.create_table(&table).await.unwrap();
    let value = "x".repeat(480);
    let partition = slice.partition_of(&super::support::series("a"), &record("a", 0, "e", &[]).event.key);
    for chunk in 0..20 {
        let events = (0..1_000)
            .map(|n| record("a", chunk * 1_000 + n, "event-0123", &[("key", &value)]).event)
            .collect();
        let part = PartitionAppend {
            table: table.clone(),
            partition: partition.clone(),
            events,
            consistency: Consistency::default(),
        };
        store.events.append(vec![part]).await.unwrap();
    }
    let clock = SystemClock::new();
    let tokens = PageTokens::new(&[7; 32]);
    let reader = Reader::new(
        store.events.clone(),
        clock.clone(),
        tokens,
        &Metrics::default(),
        ReadLimits::default(),
    );
    let scan = ScanRequest {
        table,
        partition,
        bounds: EventBounds::of_interval(TimeInterval::ALL),
        direction: Direction::Descending,
        events_max: 1_001,
        bytes_max: 4 << 20,
        consistency: Consistency::default(),
    };
    for _ in 0..3 {
        let rounds = 300;
        let started = clock.elapsed();
        for _ in 0..rounds {
            assert_eq!(store.events.scan(&scan).await.unwrap().events.len(), 1_001);
        }
        let scans: Duration = (clock.elapsed() - started) / rounds;
        let started = clock.elapsed();
        for _ in 0..rounds {
            let page = reader.read(&world.view, world.read_of("a")).await.unwrap();
            assert_eq!(page.records.len(), 1_000);
        }
        let reads = (clock.elapsed() - started) / rounds;
        println!("scan {scans:?}, read {reads:?}");
    }
}
