//! What operators do: seal and open, raise and lower limits, invalidate splits and send them round again.

use std::sync::Arc;
use std::time::Duration;

use anabranch_model::{EventTime, NamespaceSettings, TimeInterval};
use anabranch_split::{SplitReason, Step};
use anabranch_storage::{ListedSplit, Moved, SplitRecords, StoredSplit};

use crate::actors::writer::Writer;
use crate::clock::sleep;
use crate::dice::Dice;
use crate::scenario::Scenario;
use crate::world::World;

/// Numbers of writers from which on they are operators.
const OPERATORS: usize = 1_000;
const MINUTE: Duration = Duration::from_secs(60);

/// Goes on until the world ends.
pub(crate) async fn run(world: Arc<World>, dice: Dice) {
    let Scenario {
        exact,
        alone,
        operators,
        ..
    } = world.scenario;
    // Where nothing is waited for, a split is made in no time.
    let pause_max = if alone { MINUTE * 5 } else { MINUTE * 15 };
    while world.goes_on() {
        sleep(dice.duration(Duration::from_secs(10), pause_max)).await;
        match dice.below(10) {
            0..2 => move_a_split(&world, &dice).await,
            2..4 if exact => unseal(&world, &dice).await,
            2..4 => move_a_split(&world, &dice).await,
            4..7 if operators => seal(&world, &dice).await,
            7 if operators => unseal(&world, &dice).await,
            8 if operators => change_limit(&world, &dice).await,
            _ => {}
        }
    }
}

/// A time up to which there may be something, or right at an event.
fn some_time(world: &World, dice: &Dice) -> EventTime {
    let of_an_event = match world.scenario.exact && dice.chance(700) {
        true => world.model.some_time(dice),
        false => None,
    };
    of_an_event.unwrap_or_else(|| {
        let reach = world.scenario.history + world.trace.now();
        world.time().saturating_sub(dice.duration(Duration::ZERO, reach))
    })
}

async fn seal(world: &Arc<World>, dice: &Dice) {
    let before = some_time(world, dice);
    let (server, namespace) = (world.a_server(dice).await, world.namespace.clone());
    let sealing = world.ask(&server, |core, _| async move {
        core.admin
            .seal_time_slices(&namespace, Some(before))
            .await
            .map(drop)
    });
    let outcome = match world.scenario.exact {
        true => {
            // It comes in between writes of what it seals.
            let interval = TimeInterval {
                end: before,
                ..TimeInterval::ALL
            };
            let after = dice.duration(Duration::ZERO, Duration::from_secs(2));
            let sealing = async {
                sleep(after).await;
                sealing.await
            };
            tokio::join!(sealing, write_into(world, dice, interval)).0
        }
        false => sealing.await,
    };
    note(world, "seal", before, outcome);
}

async fn write_into(world: &Arc<World>, dice: &Dice, interval: TimeInterval) {
    let number = {
        let mut counts = world.counts();
        counts.operator_writes += 1;
        OPERATORS + usize::try_from(counts.operator_writes).unwrap_or(0)
    };
    let writer = Writer::new(world.clone(), dice.fork(), number);
    writer.write_into(interval).await;
}

async fn unseal(world: &Arc<World>, dice: &Dice) {
    let after = some_time(world, dice);
    let (server, namespace) = (world.a_server(dice).await, world.namespace.clone());
    let outcome = world
        .ask(&server, |core, _| async move {
            core.admin
                .unseal_time_slices(&namespace, Some(after))
                .await
                .map(drop)
        })
        .await;
    let opened = matches!(outcome, Some(Ok(())));
    note(world, "unseal", after, outcome);
    if opened && world.scenario.exact {
        // Whoever opens a time has something to write into it.
        let interval = TimeInterval {
            start: after,
            ..TimeInterval::ALL
        };
        write_into(world, dice, interval).await;
    }
}

async fn change_limit(world: &World, dice: &Dice) {
    let accept_limit = match dice.below(4) {
        0 => Duration::ZERO,
        _ => dice.duration(MINUTE, MINUTE * 40),
    };
    let (server, namespace) = (world.a_server(dice).await, world.namespace.clone());
    let outcome = world
        .ask(&server, |core, _| async move {
            let change = |settings: &NamespaceSettings| {
                Ok(NamespaceSettings {
                    accept_limit,
                    ..settings.clone()
                })
            };
            core.admin.update_namespace(&namespace, change).await.map(drop)
        })
        .await;
    let limit = EventTime::from_micros(i64::try_from(accept_limit.as_micros()).unwrap_or(0));
    note(world, "limit", limit, outcome);
}

fn note(
    world: &World,
    what: &str,
    time: EventTime,
    outcome: Option<Result<(), anabranch_server::errors::ServiceError>>,
) {
    world
        .trace
        .note("operator", what, time.micros().unsigned_abs(), || {
            format!("{time} {outcome:?}")
        });
    match outcome {
        Some(Ok(())) => world.counts().admin += 1,
        Some(Err(error)) if !world.passes(&error) => world.fail(format!("{what} was answered with {error}")),
        _ => {}
    }
}

/// Invalidates a split, or sends it round again.
async fn move_a_split(world: &World, dice: &Dice) {
    // By hand in the store: what an operator's tool would do, without its faults.
    let splits = SplitRecords::new(world.disk.memory.clone());
    let Ok(found) = splits.list(&world.namespace, None, 1_000).await else {
        return;
    };
    let found: Vec<StoredSplit> = found.into_iter().filter_map(ListedSplit::read).collect();
    let Some(split) = dice.pick(&found) else {
        return;
    };
    let step = match dice.chance(500) {
        true => Step::Invalidate {
            reason: SplitReason::Operator,
        },
        false => Step::Retry,
    };
    let words = format!("{step:?} {}", split.record.partition);
    let moved = splits.step(&world.namespace, split, step, world.time()).await;
    if let Ok(Moved::To(_)) = moved {
        world.trace.note("operator", "moves", split.version, || words);
        world.counts().operated += 1;
    }
}
