//! Every namespace as it was read last, swapped whole.
//!
//! Refreshes and own changes race. Each own change moves its namespace's count *after* it is stored and
//! *before* it reads the namespace again; what was read before the count moved is not published any
//! more. So on this server a change is seen by every request that starts after it returned.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anabranch_catalog::{LoadedNamespace, NamespaceView};
use anabranch_model::NamespaceName;
use arc_swap::ArcSwap;

/// A namespace, and when it was read.
#[derive(Clone, Debug)]
pub(super) struct Cached {
    /// As requests see it.
    pub view: Arc<NamespaceView>,
    /// As its records stood.
    pub loaded: Arc<LoadedNamespace>,
    /// On the clock's elapsed time, the moment before it was read.
    pub read_at: Duration,
}

type All = BTreeMap<NamespaceName, Cached>;

/// The namespaces as they were read last.
#[derive(Debug, Default)]
pub(super) struct Cache {
    all: ArcSwap<All>,
    changes: Mutex<BTreeMap<NamespaceName, u64>>,
}

impl Cache {
    /// All of them, at one moment.
    pub(super) fn all(&self) -> Arc<All> {
        self.all.load_full()
    }

    /// One of them.
    pub(super) fn get(&self, name: &NamespaceName) -> Option<Cached> {
        self.all.load().get(name).cloned()
    }

    /// How often a namespace was changed here. Asked before it is read.
    pub(super) fn changes(&self, name: &NamespaceName) -> u64 {
        self.counts().get(name).copied().unwrap_or(0)
    }

    /// Counts a change that has been stored.
    pub(super) fn changed(&self, name: &NamespaceName) {
        *self.counts().entry(name.clone()).or_default() += 1;
    }

    /// Publishes what was read (`None`: there is no such namespace), unless it was changed since
    /// `changes` was asked. True when it was published.
    pub(super) fn publish(&self, name: &NamespaceName, changes: u64, cached: Option<Cached>) -> bool {
        let counts = self.counts();
        if counts.get(name).copied().unwrap_or(0) != changes {
            return false;
        }
        let current = self.all.load();
        let older = |cached: &Cached| {
            current
                .get(name)
                .is_some_and(|current| current.read_at > cached.read_at)
        };
        // Two reads without a change between them: the one that started later knows more of the others.
        if cached.as_ref().is_some_and(older) {
            return true;
        }
        if cached.is_none() && !current.contains_key(name) {
            return true;
        }
        let mut all = All::clone(&current);
        match cached {
            Some(cached) => all.insert(name.clone(), cached),
            None => all.remove(name),
        };
        self.all.store(Arc::new(all));
        true
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<NamespaceName, u64>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
