//! What every component is given instead of taking it from the machine: time, randomness, tasks,
//! shutdown, telemetry.
//!
//! Passing these in is what lets one seed replay the whole system. `clippy.toml` bans the raw calls
//! and names the replacement here.

pub mod clock;
mod errors;
mod foreground;
mod own_pages;
pub mod randomness;
pub mod tasks;
pub mod telemetry;

pub use clock::{Clock, Deadline, ManualClock, SystemClock};
pub use errors::error_chain;
pub use foreground::Foreground;
pub use own_pages::OwnPages;
pub use randomness::Randomness;
pub use tasks::Tasks;
