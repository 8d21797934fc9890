//! A namespace as a request that reads sees it, and how long that may be acted on.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use anabranch_catalog::NamespaceView;
use anabranch_runtime::Clock;

/// A view with its age.
#[derive(Clone, Debug)]
pub struct ReadView {
    view: Arc<NamespaceView>,
    fresh_until: Duration,
}

impl ReadView {
    /// A view that is fresh until a moment of the clock's elapsed time.
    pub fn new(view: Arc<NamespaceView>, fresh_until: Duration) -> Self {
        Self { view, fresh_until }
    }

    /// True while the view is not older than the settings' lifetime: only so long may a split be served by the
    /// epochs that it shows.
    pub fn is_fresh(&self, clock: &dyn Clock) -> bool {
        self.was_fresh_at(clock.elapsed())
    }

    /// True when it was so at a time of the clock. A request that lasts longer than that did not begin with it.
    pub fn was_fresh_at(&self, elapsed: Duration) -> bool {
        elapsed <= self.fresh_until
    }
}

impl Deref for ReadView {
    type Target = NamespaceView;

    fn deref(&self) -> &NamespaceView {
        &self.view
    }
}

#[cfg(test)]
impl std::ops::DerefMut for ReadView {
    fn deref_mut(&mut self) -> &mut NamespaceView {
        Arc::make_mut(&mut self.view)
    }
}
