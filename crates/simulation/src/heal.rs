//! Liveness: when nothing fails any more, what is read and wide comes to be split, and what is split to be served.
//!
//! - A detection may be lost, so it is read again and again, as users would; what is asked for must have come by then.
//! - Nothing is asked of what may still be mutable by the slowest clock that the world has had.

use std::time::Duration;

use anabranch_catalog::{Ground, LoadedNamespace};
use anabranch_model::namespace::Rollout;
use anabranch_model::{EventTime, PartitionKey, TimeInterval};
use anabranch_split::{SplitRecord, SplitState};
use anabranch_storage::{EventStore, StoredSplit, TableKind};

use crate::actors::reader::{is_diverted, read_all};
use crate::audit::{namespace, scan, splits, table, unrest};
use crate::clock::sleep;
use crate::dice::Dice;
use crate::world::World;

/// Long enough for a detection to be offered again and for a freeze to settle, and for what is parked to be due.
const ROUND: Duration = Duration::from_secs(700);
const ROUNDS_MAX: usize = 10;
/// Long enough for every server's filter and cache to know of a split.
const KNOWN: Duration = Duration::from_secs(300);
/// What is due or immutable for so long must have been seen to.
const SEEN_TO: Duration = Duration::from_secs(900);

/// Reads until everything wide is split, and checks that it is.
pub(crate) async fn heal(world: &World, dice: &Dice) {
    let mut left = Vec::new();
    for _ in 0..ROUNDS_MAX {
        if !read_all(world, dice).await {
            world.fail("could not be read although nothing fails any more".to_owned());
            return;
        }
        sleep(ROUND).await;
        let Some(of) = namespace(world).await else {
            return;
        };
        if of.record.settings.wide_partition.rollout < Rollout::Split {
            return;
        }
        left = unhealed(world, &of).await;
        if left.is_empty() {
            world.counts().healed += 1;
            return used(world).await;
        }
    }
    world.fail(format!("does not heal: {}", left.join("; ")));
}

/// What is wide and not split.
async fn unhealed(world: &World, of: &LoadedNamespace) -> Vec<String> {
    // What changes again and again is what keeps it from its end.
    let mut left = unrest(world).await;
    let slowest = world.time().saturating_sub(world.scenario.skew);
    let seen_to = slowest.saturating_sub(SEEN_TO);
    let records = splits(world).await;
    for (slice, ground) in Ground::of_slices(of) {
        let Some(immutable) = ground.justified(seen_to) else {
            continue;
        };
        let data = table(world, TableKind::Data, &slice);
        let partitions = world.disk.memory.partitions(&data, None, usize::MAX).await;
        for partition in partitions.unwrap_or_default() {
            let mut of_it = records.iter().map(|split| &*split.record);
            let record = of_it.find(|record| record.partition == partition);
            let before = immutable.min(ground.slice.bucket_interval(partition.time_bucket).end);
            let from = match record.map(|record| (&record.state, &record.serving)) {
                None => EventTime::from_micros(i64::MIN),
                Some((SplitState::Completed, Some(serving))) => serving.boundary,
                Some((SplitState::Parked { due }, _)) if *due < seen_to => {
                    left.push(format!("{partition} is parked since it was due at {due}"));
                    continue;
                }
                // Somebody has decided about it, and will again.
                Some(_) => continue,
            };
            let bytes = bytes_within(world, &partition, from, before).await;
            let wide = &ground.settings.wide_partition;
            if bytes > wide.detect_bytes.max(wide.target_bytes.saturating_mul(2)) {
                let found = record.map_or("never detected", |_| "only split before that");
                left.push(format!(
                    "{partition} has {bytes} bytes from {from} on and is {found}"
                ));
            }
        }
    }
    left
}

/// Bytes of the events of a partition within these times; less than any worker counts.
async fn bytes_within(world: &World, partition: &PartitionKey, from: EventTime, before: EventTime) -> u64 {
    let data = table(world, TableKind::Data, &partition.slice);
    let events = scan(world, &data, partition).await;
    let inside = events
        .iter()
        .filter(|event| from <= event.key.time && event.key.time < before);
    inside.map(|event| event.content_bytes() as u64).sum()
}

/// Every server reads from the targets that there are, also from the newest.
async fn used(world: &World) {
    let earlier = splits(world).await;
    sleep(KNOWN).await;
    let Some(of) = namespace(world).await else {
        return;
    };
    // Damage is met by reads, which then go to the original.
    if of.record.settings.wide_partition.rollout != Rollout::Serve || world.scenario.damage {
        return;
    }
    let grounds = Ground::of_slices(&of);
    for split in splits(world).await {
        let SplitRecord {
            partition, serving, ..
        } = &*split.record;
        let stands = |earlier: &&StoredSplit| {
            earlier.record.partition == *partition && earlier.record.serving == *serving
        };
        let basis = grounds.get(&partition.slice).map(|ground| ground.basis);
        let Some(serving) = serving.as_ref().filter(|serving| basis == Some(serving.basis)) else {
            continue;
        };
        let (Some(newest), Some(_)) = (serving.targets.last(), earlier.iter().find(stands)) else {
            continue;
        };
        let interval = TimeInterval {
            start: newest.oldest.time,
            end: newest.newest.time.saturating_add(Duration::from_micros(1)),
        };
        for server in world.servers() {
            if !is_diverted(world, server, &partition.time_series_id, interval).await {
                let (name, generation) = (&server.name, serving.generation);
                world.fail(format!(
                    "{name} does not read generation {generation} of {partition}"
                ));
            }
        }
    }
}
