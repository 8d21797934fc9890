//! What a server is set to: plain data with defaults.

use std::time::Duration;

use crate::detect::DetectSettings;
use crate::namespaces::NamespacesSettings;
use crate::read::ReadLimits;
use crate::serve::ServeSettings;
use crate::slices::SlicesSettings;
use crate::split::SplitsSettings;
use crate::write::QueueSettings;

/// What a server is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// The time that a call gets at most ([`crate::serve::ServeSettings`]).
    pub deadline_max: Duration,
    /// How settings reach this server.
    pub namespaces: NamespacesSettings,
    /// How slices are kept.
    pub slices: SlicesSettings,
    /// How queued writes are written.
    pub queue: QueueSettings,
    /// How much a read may take at once.
    pub read: ReadLimits,
    /// How wide partitions are noticed.
    pub detect: DetectSettings,
    /// How splits are served.
    pub splits: SplitsSettings,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            deadline_max: ServeSettings::default().deadline_max,
            namespaces: NamespacesSettings::default(),
            slices: SlicesSettings::default(),
            queue: QueueSettings::default(),
            read: ReadLimits::default(),
            detect: DetectSettings::default(),
            splits: SplitsSettings::default(),
        }
    }
}

impl ServerSettings {
    /// Settings for a server that shares its store with others, where an append takes so long at most: changes wait
    /// until every server knows them, and tables are made one at a time.
    #[must_use]
    pub fn shared(mut self, append_max: Duration) -> Self {
        self.slices.shared_store = true;
        self.slices.creations_max = 1;
        self.slices.settle = self
            .namespaces
            .settings_lifetime
            .saturating_add(self.deadline_max.max(append_max))
            .saturating_add(Duration::from_secs(5));
        self
    }

    /// How long targets are kept that are not served any more: by then every filter, cached record and running call
    /// has let go of them, and every worker that was overtaken has written its last.
    pub fn retire_after(&self) -> Duration {
        self.deadline_max
            .saturating_add(self.splits.record_cache_ttl)
            .saturating_add(self.splits.filter_refresh)
            .saturating_add(self.slices.settle)
    }
}
