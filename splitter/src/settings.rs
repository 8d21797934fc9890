//! How splitters work.

use std::time::Duration;

use anabranch_split::RetryPolicy;

/// How a splitter works. Namespaces say how fast to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitterSettings {
    /// How often records are looked at, when nobody nudges.
    pub sweep_interval: Duration,
    /// How often every record is looked at, in case a marker was lost.
    pub whole_sweep: Duration,
    /// How long a split may stand still before another splitter takes it over.
    pub lease: Duration,
    /// No other splitter works on this store: whoever holds a lease is dead.
    pub sole_owner: bool,
    /// A copy is stored each time that it has read this much.
    pub checkpoint_bytes: u64,
    /// Content of the events that are appended at once.
    pub batch_bytes: usize,
    /// How long targets that are not served any more are kept: every filter, cache and running request must have let
    /// go of them, and every splitter that was overtaken: it writes for as long as its lease and the longest append.
    pub retire_after: Duration,
    /// What is done about failures.
    pub retry: RetryPolicy,
}

impl Default for SplitterSettings {
    fn default() -> Self {
        Self {
            sweep_interval: Duration::from_secs(5),
            whole_sweep: Duration::from_secs(300),
            lease: Duration::from_secs(60),
            sole_owner: false,
            checkpoint_bytes: 8 << 20,
            batch_bytes: 1 << 20,
            retire_after: Duration::from_secs(120),
            retry: RetryPolicy::default(),
        }
    }
}
