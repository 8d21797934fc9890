//! Planners and splitters, which are killed at random and replaced.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::harness::Server;
use crate::harness::fleet::Fleet;
use crate::harness::made::Dice;

/// Two of each: whoever is left takes over.
const ROLES: [&str; 4] = ["planner", "planner", "splitter", "splitter"];

/// One process a role.
pub(crate) struct Crew(Mutex<Vec<Server>>);

impl Crew {
    pub(crate) fn start(fleet: &Fleet) -> Result<Self, String> {
        let workers: Result<Vec<Server>, String> = ROLES.iter().map(|role| fleet.try_start(role)).collect();
        Ok(Self(Mutex::new(workers?)))
    }

    /// Kills one after the other until it is told to stop. One that is killed is replaced at once, whatever is the matter
    /// with the servers. Returns how many were killed.
    pub(crate) fn kill_at_random(&self, fleet: &Fleet, stop: &AtomicBool, dice: Dice) -> Result<u64, String> {
        let mut dice = dice;
        for kills in 0.. {
            for _ in 0..8 + dice.below(12) {
                if stop.load(Ordering::Relaxed) {
                    return Ok(kills);
                }
                std::thread::sleep(Duration::from_secs(1));
            }
            let mut workers = self.0.lock().unwrap();
            let victim = usize::try_from(dice.below(workers.len() as u64)).unwrap();
            workers.remove(victim).kill();
            workers.insert(victim, fleet.try_start(ROLES[victim])?);
        }
        unreachable!("it is told to stop")
    }

    /// They stop when they are told.
    pub(crate) fn stop(self) -> Result<(), String> {
        for worker in self.0.into_inner().unwrap() {
            let status = worker.stop();
            if !status.success() {
                return Err(format!("a worker that was asked to stop ended with {status}"));
            }
        }
        Ok(())
    }
}
