//! Takes events out of targets, or changes them, as a disk or a hand might: what is being written must not complete so, and what is served
//! must be noticed by the read that meets it.

use std::sync::Arc;
use std::time::Duration;

use anabranch_model::{Consistency, Direction, Event, PartitionKey, TimeInterval};
use anabranch_split::{SplitState, Target};
use anabranch_storage::{
    EventBounds, EventStore, ListedSplit, PartitionAppend, ScanRequest, SplitRecords, TableKind, TableName,
};

use crate::clock::sleep;
use crate::dice::Dice;
use crate::world::World;

/// Goes on until the world ends.
pub(crate) async fn run(world: Arc<World>, dice: Dice) {
    while world.goes_on() {
        sleep(dice.duration(Duration::from_secs(5), Duration::from_secs(400))).await;
        let splits = SplitRecords::new(world.disk.memory.clone());
        let Ok(found) = splits.list(&world.namespace, None, 1_000).await else {
            return;
        };
        let mut targets: Vec<(PartitionKey, bool)> = Vec::new();
        for split in found.into_iter().filter_map(ListedSplit::read) {
            let record = &split.record;
            let of = |target: &Target| target.partition(&record.partition);
            if let SplitState::Splitting { plan, .. } = &record.state {
                targets.extend(plan.targets.iter().map(|target| (of(target), false)));
            }
            let served = record.serving.iter().flat_map(|serving| &serving.targets);
            targets.extend(served.map(|target| (of(target), true)));
        }
        if let Some((target, served)) = dice.pick(&targets) {
            take_out(&world, &dice, target, *served).await;
        }
    }
}

async fn take_out(world: &World, dice: &Dice, target: &PartitionKey, served: bool) {
    let (store, table) = (
        &world.disk.memory,
        TableName {
            namespace: world.namespace.clone(),
            kind: TableKind::Wide,
            slice: target.slice.clone(),
        },
    );
    let request = ScanRequest {
        table: table.clone(),
        partition: target.clone(),
        bounds: EventBounds::of_interval(TimeInterval::ALL),
        direction: Direction::Ascending,
        events_max: usize::MAX,
        bytes_max: usize::MAX,
        consistency: Consistency::default(),
    };
    let Ok(page) = store.scan(&request).await else {
        return;
    };
    let mut events = page.events;
    if events.is_empty() {
        return;
    }
    // A read sees that a served target is gone, but of one that it reads in parts not that something in its middle is.
    let gone = if served {
        events.drain(..).len() as u64
    } else {
        spoil(dice, &mut events)
    };
    if store.delete_partition(&table, target).await.is_err() {
        return;
    }
    if !events.is_empty() {
        let part = PartitionAppend {
            table,
            partition: target.clone(),
            events,
            consistency: Consistency::default(),
        };
        // The table was there a moment ago, and nothing else runs in between.
        let _ = store.append(vec![part]).await;
    }
    world.trace.note("damage", "takes", gone, || {
        format!("an event out of {target}, served {served}")
    });
    world.counts().damaged += 1;
    if served {
        world.damaged(target);
    }
}

/// Takes one of these events out, or changes a byte of it. Which one that was.
pub(crate) fn spoil(dice: &Dice, events: &mut Vec<Event>) -> u64 {
    let which = dice.below(events.len() as u64);
    let at = usize::try_from(which).unwrap_or(0);
    let changes = dice.chance(500);
    let Some(event) = events.get_mut(at) else {
        return which;
    };
    let item = event.items.iter_mut().find(|item| !item.value.is_empty());
    match item.filter(|_| changes) {
        Some(item) => {
            let mut value = item.value.to_vec();
            value[0] ^= 1;
            item.value = value.into();
        }
        None => drop(events.remove(at)),
    }
    which
}
