//! What splitting a wide partition is worth on a real Cassandra, through the service, before and after.
//!
//! ```text
//! for each format: a node ─▶ load: compacted, scattered ─▶ first answer ─▶ seal ─▶ read ─▶ planner, splitter
//!                  ─▶ pages from the original and from targets, in turns, regime by regime ─▶ table
//! ```
//!
//! - The fleet is the program itself: two servers, a planner, a splitter, on one store. One server diverts reads of split
//!   partitions and one does not; that is the switch between the two sides.
//! - Each side has its turn of a second or two, over and over: a machine that becomes slower does so for both.
//! - Every byte of every page is checked, so what is compared is equal.
//! - What could not be measured is in the report, with the reason.

mod calls;
mod cloud;
mod delay;
mod direct;
mod fleet;
mod goals;
mod heal;
mod load;
mod loops;
mod node;
mod options;
mod ordinary;
mod pages;
mod report;
mod run;
mod walk;

pub use cloud::Limits;
pub use direct::Op;
pub use heal::SplitSeen;
pub use options::{Format, Options, Regime, Source};
pub use ordinary::Felt;
pub use pages::Cell;
pub use report::{FirstAnswer, Measured, OfFormat, OfRegime, WideReport};
pub use run::run;
pub use walk::Walks;
