//! How much a read may take at once.

use std::time::Duration;

pub use super::ahead::AheadLimits;

/// Bounds of the read path, per server and per request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// Store calls in flight over all requests of this server.
    pub server_partitions_max: usize,
    /// Store calls in flight for one request.
    pub request_partitions_max: usize,
    /// Partitions a walk opens in parallel before it knows how full they are.
    pub fan_out_start: usize,
    /// How much is read ahead of walks through targets; `None` where the store is so near that it would be wasted.
    pub ahead: Option<AheadLimits>,
    /// How long an aggregation may take when the request does not say.
    pub aggregate_slo: Duration,
    /// Groups that one part of an aggregation holds.
    pub groups_max: usize,
    /// Bytes of keys and values that the groups of one part hold.
    pub group_bytes_max: usize,
    /// Bytes of finished aggregations kept for their later pages.
    pub aggregate_cache_bytes: u64,
    /// How long a finished aggregation is kept.
    pub aggregate_cache_ttl: Duration,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self {
            server_partitions_max: 256,
            request_partitions_max: 32,
            fan_out_start: 8,
            ahead: None,
            aggregate_slo: Duration::from_secs(30),
            groups_max: 200_000,
            group_bytes_max: 64 << 20,
            aggregate_cache_bytes: 64 << 20,
            aggregate_cache_ttl: Duration::from_secs(60),
        }
    }
}
