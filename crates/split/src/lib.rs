//! Splitting wide partitions: what is decided, without any I/O.
//!
//! ```text
//! survey (rows ─▶ candidate cuts) ─▶ strategy ─▶ plan (targets, checksums) ─▶ state: the record moves on
//! ```
//!
//! - S1: nothing here can change an original; there is no such step.
//! - S2, S3, S5: kept by the one transition function, [`record::SplitRecord::after`].
//! - Everything is a function of values: no clock, no randomness, no store.
//!
//! Reading, writing and waiting are the planner's and the splitter's.

pub mod checksum;
pub mod lease;
pub mod pace;
pub mod planted;
pub mod record;
pub mod state;
pub mod step;
pub mod strategy;
pub mod survey;
pub mod target;

pub use checksum::{CHECKSUM_VERSION, Checksum};
pub use lease::{Lease, LeaseWatch};
pub use pace::Pace;
pub use record::{
    Basis, Copied, Gain, RECORD_FORMAT, Retiring, RetryPolicy, Serving, SplitPlan, SplitReason, SplitRecord,
    SurveyTask, UnreadableRecord,
};
pub use state::SplitState;
pub use step::{IllegalStep, Step};
pub use strategy::{Aim, Decision, EventBucketSplit};
pub use survey::Survey;
pub use target::{Target, target_bucket};

#[cfg(test)]
mod testing;
