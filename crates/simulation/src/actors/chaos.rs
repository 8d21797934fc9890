//! Kills processes, stops them for longer than their leases, sets their clocks, and lets the store fail for a while.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::clock::sleep;
use crate::dice::Dice;
use crate::world::World;

const MINUTE: Duration = Duration::from_secs(60);

/// Goes on until the world ends.
pub(crate) async fn run(world: Arc<World>, dice: Dice) {
    while world.goes_on() {
        sleep(dice.duration(Duration::from_secs(10), MINUTE * 12)).await;
        let Some(process) = dice.pick(&world.processes) else {
            return;
        };
        match dice.below(10) {
            0..4 => {
                process.kill();
                world.counts().kills += 1;
                if dice.chance(500) {
                    sleep(dice.duration(Duration::ZERO, MINUTE * 5)).await;
                }
                process.start().await;
            }
            4..7 => {
                if let Some(running) = process.running() {
                    let length = dice.duration(Duration::from_secs(1), MINUTE * 8);
                    world.trace.note(&process.name, "paused", length.as_secs(), || {
                        format!("{length:?}")
                    });
                    running.clock.pause(length);
                    world.counts().pauses += 1;
                }
            }
            7 => {
                if let Some(running) = process.running() {
                    let skew = i64::try_from(world.scenario.skew.as_micros()).unwrap_or(0);
                    let skew = dice.within(-skew, skew);
                    world
                        .trace
                        .note(&process.name, "clock", skew.unsigned_abs(), || format!("{skew}"));
                    running.clock.jump_to(skew);
                }
            }
            _ => {
                let storm = 50 + u32::try_from(dice.below(400)).unwrap_or(0);
                world.trace.note("store", "storm", u64::from(storm), String::new);
                world.disk.failing.store(storm, Ordering::Relaxed);
                sleep(dice.duration(Duration::from_secs(5), MINUTE * 3)).await;
                world
                    .disk
                    .failing
                    .store(world.scenario.failing, Ordering::Relaxed);
            }
        }
    }
}
