//! What a server is set to: plain data with defaults.

use std::time::Duration;

use crate::detect::DetectSettings;
use crate::namespaces::NamespacesSettings;
use crate::read::ReadLimits;
use crate::slices::SlicesSettings;
use crate::split::SplitsSettings;
use crate::write::QueueSettings;

/// What a server is set to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerSettings {
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

impl ServerSettings {
    /// Settings for a server that shares its store with others: changes wait until every server knows
    /// them, and tables are made one at a time.
    #[must_use]
    pub fn shared(mut self, longest_request: Duration) -> Self {
        self.slices.shared_store = true;
        self.slices.creations_max = 1;
        self.slices.settle = self
            .namespaces
            .settings_lifetime
            .saturating_add(longest_request)
            .saturating_add(Duration::from_secs(5));
        self
    }
}
