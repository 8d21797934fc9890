//! How the server is doing.

use std::time::Duration;

use anabranch_model::EventTime;

/// Facts about a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerStatus {
    /// `memory`, `embedded`, …
    pub store_kind: &'static str,
    /// What the store says of itself, name and value.
    pub store_facts: Vec<(&'static str, String)>,
    /// Whether it takes requests; false while it drains.
    pub ready: bool,
    /// When it started.
    pub started: EventTime,
    /// How long ago that is.
    pub uptime: Duration,
    /// Namespaces that it serves.
    pub namespaces: usize,
    /// Bytes of queued writes that are not durable yet.
    pub queue_bytes: u64,
}
