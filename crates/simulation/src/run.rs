//! Runs one world from its seed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anabranch_model::NamespaceName;
use anabranch_runtime::Tasks;

use crate::actors::{chaos, damage, operator, reader, writer::Writer};
use crate::audit;
use crate::clock::sleep;
use crate::dice::Dice;
use crate::heal;
use crate::process::begin;
use crate::report::{Failure, Report};
use crate::scenario::Scenario;
use crate::world::World;

/// How a world is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What happens is kept in words.
    pub trace: bool,
}

/// How often the store is looked at past the servers.
const AUDIT_INTERVAL: Duration = Duration::from_secs(600);
/// How long everything may take to come to rest, and how often that is looked at.
const REST_MAX: Duration = Duration::from_secs(3 * 3_600);
const REST_INTERVAL: Duration = Duration::from_secs(300);

/// Parts a world's second stream of choices from its first. It leaves the worlds that tests name as they were.
const LATER: u64 = 11 << 32;

/// Runs the world of a seed.
///
/// # Errors
/// When a check does not hold.
pub fn run(seed: u64, options: Options) -> Result<Report, Failure> {
    let failure = |what: String, trace| Failure { seed, what, trace };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| failure(error.to_string(), Vec::new()))?;
    runtime.block_on(async {
        let dice = Dice::new(seed);
        let scenario = Scenario::draw(&dice, &Dice::new(seed ^ LATER));
        let namespace =
            NamespaceName::new("world").map_err(|error| failure(error.to_string(), Vec::new()))?;
        let begun = begin(&scenario);
        let world = Arc::new(World::new(scenario, namespace, options.trace, &dice, begun));
        world
            .trace
            .note("world", "begins", seed, || format!("{:#?}", world.scenario));
        live(&world, &dice).await;
        let (trace_hash, notes) = world.trace.hash();
        if let Some(what) = world.failure() {
            return Err(failure(what, world.trace.take_lines()));
        }
        let mut counts = *world.counts();
        (counts.acked, counts.unsure, counts.rejected) = world.model.counts();
        Ok(Report {
            seed,
            trace_hash,
            notes,
            counts,
            trace: world.trace.take_lines(),
        })
    })
}

/// From the first process to the last check, or to the first that fails.
async fn live(world: &Arc<World>, dice: &Dice) {
    let tasks = Tasks::new();
    let life = {
        let (world, dice, tasks) = (world.clone(), dice.fork(), tasks.clone());
        tasks.clone().spawn("life", async move {
            for process in &world.processes {
                process.start().await;
            }
            if create(&world, &dice).await {
                world
                    .disk
                    .failing
                    .store(world.scenario.failing, Ordering::Relaxed);
                act(&world, &dice, &tasks).await;
                rest(&world, &dice).await;
            }
        })
    };
    tokio::select! {
        biased;
        () = world.failing() => {}
        ended = life => {
            if ended.is_err() {
                world.fail("the simulation itself has panicked".to_owned());
            }
        }
    }
    tasks.kill();
    for process in &world.processes {
        let panicked = process.panicked();
        if !panicked.is_empty() {
            world.fail(format!("tasks of {} have panicked: {panicked:?}", process.name));
        }
        process.kill();
    }
}

async fn create(world: &World, dice: &Dice) -> bool {
    let server = world.a_server(dice).await;
    let (namespace, settings) = (world.namespace.clone(), world.scenario.settings.clone());
    let created = world
        .ask(&server, |core, _| async move {
            core.admin.create_namespace(&namespace, settings).await
        })
        .await;
    // Every server has to know it.
    sleep(world.scenario.settle()).await;
    match created {
        Some(Ok(_)) => true,
        Some(Err(error)) => {
            world.fail(format!("the namespace could not be made: {error}"));
            false
        }
        None => {
            world.fail("the first server is gone before anything happened".to_owned());
            false
        }
    }
}

async fn act(world: &Arc<World>, dice: &Dice, tasks: &Tasks) {
    let mut acting = Vec::new();
    for number in 0..world.scenario.writers {
        let writer = Writer::new(world.clone(), dice.fork(), number);
        acting.push(tasks.spawn("writer", writer.run()));
    }
    for _ in 0..world.scenario.readers {
        acting.push(tasks.spawn("reader", reader::run(world.clone(), dice.fork())));
    }
    acting.push(tasks.spawn("operator", operator::run(world.clone(), dice.fork())));
    if world.scenario.chaos {
        acting.push(tasks.spawn("chaos", chaos::run(world.clone(), dice.fork())));
    }
    if world.scenario.damage {
        acting.push(tasks.spawn("damage", damage::run(world.clone(), dice.fork())));
    }
    let audited = world.clone();
    acting.push(tasks.spawn("audit", async move {
        while audited.goes_on() {
            sleep(AUDIT_INTERVAL).await;
            audit::audit(&audited).await;
        }
    }));
    for actor in acting {
        if actor.await.is_err() {
            world.fail("an actor has panicked".to_owned());
        }
    }
    world.end();
}

/// No more faults: everything that was begun comes to its end by itself.
async fn rest(world: &World, dice: &Dice) {
    world.disk.failing.store(0, Ordering::Relaxed);
    world.trace.note("world", "rests", 0, String::new);
    for process in &world.processes {
        process.start().await;
    }
    let until = world.trace.now().saturating_add(REST_MAX);
    let mut restless = Vec::new();
    // Twice in a row: what looks finished may only not have been found yet.
    let mut quiet = 0;
    while world.trace.now() < until && quiet < 2 {
        sleep(REST_INTERVAL).await;
        restless = audit::unrest(world).await;
        quiet = if restless.is_empty() { quiet + 1 } else { 0 };
    }
    if !restless.is_empty() {
        world.fail(format!("does not come to rest: {}", restless.join("; ")));
        return;
    }
    audit::audit(world).await;
    audit::at_rest(world).await;
    for _ in world.servers() {
        if !reader::read_all(world, dice).await {
            world.fail("could not be read although nothing fails any more".to_owned());
            return;
        }
    }
    if world.scenario.heals {
        heal::heal(world, dice).await;
    }
}
