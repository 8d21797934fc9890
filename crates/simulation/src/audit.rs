//! Looks at what the store holds, past every server: the originals against the oracle, the targets against the originals.
//!
//! - S1: no original ever changes, and nothing that was rejected is ever in one.
//! - S2, S4: what is served on the basis that the slice has now is exactly what its original holds before the boundary.

use std::collections::BTreeSet;

use anabranch_catalog::{LoadedNamespace, load};
use anabranch_model::{
    Consistency, Direction, Event, EventKey, EventTime, PartitionKey, SliceState, TimeInterval, TimeSeriesId,
};
use anabranch_split::{Basis, SplitRecord, SplitState};
use anabranch_storage::{
    EventBounds, EventStore, ListedSplit, ScanRequest, SplitRecords, StoredSplit, TableKind, TableName,
    UnreadableSplit,
};

use crate::world::World;

/// Attempts that one partition can need in the few hours of a world.
const GENERATIONS_MAX: u32 = 60;

/// Checks everything that holds at any moment.
pub(crate) async fn audit(world: &World) {
    world.counts().audits += 1;
    let Some(namespace) = namespace(world).await else {
        return;
    };
    if let Some(wrong) = world.disk.conduct().take_wrong() {
        world.fail(wrong);
    }
    originals(world, &namespace).await;
    for split in splits(world).await {
        let SplitRecord {
            partition,
            generation,
            ..
        } = &*split.record;
        // Every attempt takes a generation, and there are not that many.
        if *generation > GENERATIONS_MAX {
            world.fail(format!("{partition} is at generation {generation} already"));
        }
        served(world, &namespace, &split.record).await;
    }
}

/// What is still to be done by itself, of everything that is to come to rest.
pub(crate) async fn unrest(world: &World) -> Vec<String> {
    let Some(namespace) = namespace(world).await else {
        return Vec::new();
    };
    let mut restless = Vec::new();
    for slice in &namespace.slices {
        if slice.record.slice.opening_since.is_some() {
            restless.push(format!("slice {} is being opened", slice.record.slice.name));
        }
    }
    for split in splits(world).await {
        let SplitRecord {
            partition,
            state,
            retiring,
            serving,
            ..
        } = &*split.record;
        let rests = matches!(
            state,
            SplitState::Completed
                | SplitState::NotWorthIt { .. }
                | SplitState::Parked { .. }
                | SplitState::Quarantined
                | SplitState::Invalidated
                | SplitState::Retired
        );
        if !rests {
            restless.push(format!("{partition} is {}", state.name()));
        }
        if !retiring.is_empty() {
            restless.push(format!("{partition} has targets that are to be removed"));
        }
        let now = basis(&namespace, partition);
        if let (Some(serving), Some(now)) = (serving, now)
            && serving.basis != now
        {
            restless.push(format!(
                "{partition} is served on {:?} and not {now:?}",
                serving.basis
            ));
        }
    }
    restless
}

/// Checks what holds when everything has come to rest.
pub(crate) async fn at_rest(world: &World) {
    let Some(namespace) = namespace(world).await else {
        return;
    };
    let found = splits(world).await;
    let mut wanted: BTreeSet<PartitionKey> = BTreeSet::new();
    for split in &found {
        let record = &split.record;
        let mut counts = world.counts();
        counts.records += 1;
        counts.generations += u64::from(record.generation);
        counts.quarantined += u64::from(record.state == SplitState::Quarantined);
        if let Some(serving) = &record.serving {
            counts.served += 1;
            let slice = namespace
                .slices
                .iter()
                .find(|slice| slice.record.slice.name == record.partition.slice);
            let end = slice.map(|slice| {
                slice
                    .record
                    .slice
                    .bucket_interval(record.partition.time_bucket)
                    .end
            });
            counts.served_in_part += u64::from(end.is_some_and(|end| serving.boundary < end));
            wanted.extend(
                serving
                    .targets
                    .iter()
                    .map(|target| target.partition(&record.partition)),
            );
        }
    }
    for slice in &namespace.slices {
        let table = TableName {
            namespace: world.namespace.clone(),
            kind: TableKind::Wide,
            slice: slice.record.slice.name.clone(),
        };
        let Ok(there) = world.disk.memory.partitions(&table, None, usize::MAX).await else {
            continue;
        };
        for target in there {
            if !wanted.contains(&target) {
                world.fail(format!(
                    "target {target} is of no record that is served, and is still there"
                ));
            }
        }
    }
}

async fn originals(world: &World, namespace: &LoadedNamespace) {
    let mut stored: BTreeSet<(TimeSeriesId, EventKey)> = BTreeSet::new();
    let mut open: Vec<TimeInterval> = Vec::new();
    for slice in &namespace.slices {
        let slice = &slice.record.slice;
        let table = table(world, TableKind::Data, &slice.name);
        // One that is closed may go at any moment.
        if slice.state == SliceState::Open {
            open.push(slice.interval);
        }
        let partitions = world.disk.memory.partitions(&table, None, usize::MAX).await;
        for partition in partitions.unwrap_or_default() {
            for event in scan(world, &table, &partition).await {
                let known = world.model.get(&partition.time_series_id, &event.key);
                let place = slice.partition_of(&partition.time_series_id, &event.key);
                let wrong = match known {
                    None => Some("was never sent"),
                    Some(known) if !known.possible() => Some("was rejected each time"),
                    Some(known) if *known.event != event => Some("is not what was sent"),
                    Some(_) if place != partition => Some("is not where it belongs"),
                    Some(_) => None,
                };
                if let Some(wrong) = wrong {
                    world.fail(format!(
                        "event {} {} in {partition} {wrong}",
                        event.key.time, event.key.id
                    ));
                }
                stored.insert((partition.time_series_id.clone(), event.key));
            }
        }
    }
    for (id, known) in world.model.all() {
        let key = &known.event.key;
        let lives = open.iter().any(|interval| interval.contains(key.time));
        if known.acked && lives && !stored.contains(&(id.clone(), key.clone())) {
            world.fail(format!(
                "acked event {} {} of {id} is not in the store",
                key.time, key.id
            ));
        }
    }
}

async fn served(world: &World, namespace: &LoadedNamespace, record: &SplitRecord) {
    let (Some(serving), partition) = (&record.serving, &record.partition) else {
        return;
    };
    let targets: Vec<PartitionKey> = serving
        .targets
        .iter()
        .map(|target| target.partition(partition))
        .collect();
    // That is for the read to notice that meets it.
    if targets.iter().any(|target| world.is_damaged(target)) {
        return;
    }
    // On another basis nobody reads from it.
    if basis(namespace, partition) != Some(serving.basis) {
        return;
    }
    let (data, wide) = (
        table(world, TableKind::Data, &partition.slice),
        table(world, TableKind::Wide, &partition.slice),
    );
    let original: Vec<Event> = scan(world, &data, partition)
        .await
        .into_iter()
        .filter(|event| event.key.time < serving.boundary)
        .collect();
    let mut copied: Vec<Event> = Vec::new();
    for target in &targets {
        copied.extend(scan(world, &wide, target).await);
        world.counts().targets_compared += 1;
    }
    if original != copied {
        let keys = |events: &[Event]| -> BTreeSet<(EventTime, String)> {
            events
                .iter()
                .map(|event| (event.key.time, event.key.id.to_string()))
                .collect()
        };
        let (of_original, of_copies) = (keys(&original), keys(&copied));
        world.fail(format!(
            "targets of {partition}, generation {}, before {}, are not their original: {} events for {}; missing {:?}, too many {:?}",
            serving.generation,
            serving.boundary,
            copied.len(),
            original.len(),
            of_original.difference(&of_copies).take(3).collect::<Vec<_>>(),
            of_copies.difference(&of_original).take(3).collect::<Vec<_>>(),
        ));
    }
}

/// What a split of a partition has to rest on now; `None` when its slice is not open, or is being opened.
pub(crate) fn basis(namespace: &LoadedNamespace, partition: &PartitionKey) -> Option<Basis> {
    let slice = namespace
        .slices
        .iter()
        .map(|slice| &slice.record.slice)
        .find(|slice| slice.name == partition.slice)?;
    (slice.state == SliceState::Open && slice.opening_since.is_none()).then_some(Basis {
        incarnation: namespace.record.incarnation,
        epoch: slice.epoch,
    })
}

pub(crate) async fn namespace(world: &World) -> Option<LoadedNamespace> {
    match load(&*world.disk.memory, &world.namespace, None).await {
        Ok(loaded) => loaded,
        Err(error) => {
            world.fail(format!("the namespace can not be read: {error}"));
            None
        }
    }
}

pub(crate) async fn splits(world: &World) -> Vec<StoredSplit> {
    let splits = SplitRecords::new(world.disk.memory.clone());
    match splits.list(&world.namespace, None, usize::MAX).await {
        Ok(found) => {
            let read = |listed| match listed {
                ListedSplit::Read(stored) => Some(stored),
                ListedSplit::Unreadable(UnreadableSplit { partition, why, .. }) => {
                    world.fail(format!("split record of {partition} can not be read: {why}"));
                    None
                }
            };
            found.into_iter().filter_map(read).collect()
        }
        Err(error) => {
            world.fail(format!("split records can not be listed: {error}"));
            Vec::new()
        }
    }
}

pub(crate) fn table(world: &World, kind: TableKind, slice: &anabranch_model::SliceName) -> TableName {
    TableName {
        namespace: world.namespace.clone(),
        kind,
        slice: slice.clone(),
    }
}

/// Every event of a partition, oldest first.
pub(crate) async fn scan(world: &World, table: &TableName, partition: &PartitionKey) -> Vec<Event> {
    let request = ScanRequest {
        table: table.clone(),
        partition: partition.clone(),
        bounds: EventBounds::of_interval(TimeInterval::ALL),
        direction: Direction::Ascending,
        events_max: usize::MAX,
        bytes_max: usize::MAX,
        consistency: Consistency::default(),
    };
    match world.disk.memory.scan(&request).await {
        Ok(page) => page.events,
        Err(_) => Vec::new(),
    }
}
