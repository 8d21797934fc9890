//! How planners work.

use std::time::Duration;

use anabranch_split::RetryPolicy;

/// How a planner works. Namespaces say what a target is and how fast to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannerSettings {
    /// How often the bus is asked, when it does not tell.
    pub intake_interval: Duration,
    /// Detections taken from the bus at once.
    pub detections_max: usize,
    /// How often records are looked at, when nobody nudges.
    pub sweep_interval: Duration,
    /// How often every record is looked at, in case a marker was lost.
    pub whole_sweep: Duration,
    /// How long a survey may stand still before another planner takes it over.
    pub lease: Duration,
    /// No other planner works on this store: whoever holds a lease is dead.
    pub sole_owner: bool,
    /// A survey is stored each time that it has read this much.
    pub checkpoint_bytes: u64,
    /// How long a partition that can not be split yet is left alone at most.
    pub park_interval: Duration,
    /// What is done about failures.
    pub retry: RetryPolicy,
}

impl Default for PlannerSettings {
    fn default() -> Self {
        Self {
            intake_interval: Duration::from_secs(1),
            detections_max: 100,
            sweep_interval: Duration::from_secs(5),
            whole_sweep: Duration::from_secs(300),
            lease: Duration::from_secs(60),
            sole_owner: false,
            checkpoint_bytes: 4 << 20,
            park_interval: Duration::from_secs(300),
            retry: RetryPolicy::default(),
        }
    }
}
