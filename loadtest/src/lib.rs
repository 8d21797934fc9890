//! Load tests of a server, with the floors of the same machine measured in the same run.
//!
//! ```text
//! bench ─┬─▶ the server      a child process, as a user starts it
//!        ├─▶ the null service a child process with the same surface and nothing behind it
//!        ├─▶ the raw engine  in this process, in a folder of its own
//!        └─▶ disk, loopback  what the machine can do
//! ```
//!
//! - A value stands beside its floor, and a goal is judged by their ratio.
//! - Every page is checked before its time counts: order, no gaps, every byte.
//! - A closed loop finds the most that a server takes; an open loop, paced by a thread, what a call then costs.
//! - What was refused or failed is printed; nothing that was late is left out.

mod child;
mod client;
mod clock;
mod data;
mod floors;
mod judge;
mod latency;
mod machine;
pub mod null;
mod options;
mod pacer;
mod raw;
mod reads;
mod report;
mod run;
mod split;
#[cfg(feature = "cluster")]
pub mod wide;
mod window;
mod writes;

pub use client::Outcomes;
pub use latency::Percentiles;
pub use machine::{Machine, Neighbours};
pub use options::Options;
pub use reads::{Pages, Wide};
pub use report::{Floors, Goal, Line, Report, ServerMemory, Tail, Walk};
pub use run::run;
pub use split::{SplitReport, run as run_split};
pub use window::{Series, Shape};
pub use writes::TailSummary;
