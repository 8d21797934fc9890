//! The whole system in one process from one seed: servers, planners, splitters, their store and their topic, under
//! clocks that are wrong, a store that fails, and processes that die or sleep.
//!
//! ```text
//! seed ─▶ Scenario ─▶ World: processes over FaultyStore ─▶ one MemoryStore
//!                       ├─ writers, readers, operators, chaos                  until its time is over
//!                       ├─ audit: every few minutes, past all servers
//!                       ├─ rest: faults off, everything has to converge        ─▶ Report, or Failure with its seed
//!                       └─ heal: what is read and wide has to come to be split, and to be served, in some worlds
//! ```
//!
//! - The components are the real ones; only time, randomness, the store's faults and the topic's are the simulation's.
//! - One seed, one run: tasks run on one thread, time is the runtime's paused time and jumps from timer to timer, and
//!   every choice comes from [`dice`]. [`Report::trace_hash`] shows it.
//! - Worlds are many processes over one store, or one process that owns it, as with an embedded store.
//! - The oracle ([`model`]) is a plain map of what was sent and what its writers were told; [`conduct`] is how processes
//!   treat the store and the topic, which no answer shows.
//!
//! `just sim SEED` prints what happened in one world.

mod actors;
mod audit;
mod bus;
mod clock;
mod conduct;
mod dice;
mod heal;
mod model;
mod process;
mod report;
mod run;
mod scenario;
mod store;
mod trace;
mod world;

pub use report::{Counts, Failure, Report};
pub use run::{Options, run};

#[cfg(test)]
mod tests;
