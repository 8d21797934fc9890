//! Namespaces: their settings, slices and blocked ids, as every request sees them.
//!
//! ```text
//! records ─timer, own change─▶ load ─▶ cache ─▶ view       a request reads one view, once
//!    ▲                                            │
//!    └─ compare-and-set ◀─ change ◀─ admin        └▶ for writes: refused when older than the lifetime
//! ```
//!
//! - W3: a write is only made with a view that is younger than `settings_lifetime`. A seal or a lowered
//!   limit is therefore in force everywhere that long after it was stored, and here at once.
//! - A change is seen by every request on this server that starts after it returned.
//! - A namespace that is being deleted is not found any more.
//!
//! Who makes slices is `slices`; who may call what is for `admin` and the edge.

mod blocks;
mod cache;
mod change;
mod read_view;

use std::sync::Arc;
use std::time::Duration;

use anabranch_catalog::LoadedNamespace;
pub use anabranch_catalog::NamespaceView;
use anabranch_model::{EventTime, NamespaceName, NamespaceSettings};
use anabranch_runtime::telemetry::Metrics;
use anabranch_runtime::{Clock, Tasks};
use anabranch_storage::{RecordStore, Store};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tracing::warn;

use self::cache::{Cache, Cached};
pub use self::read_view::ReadView;
use crate::errors::{Reason, ServiceError};

/// How settings reach this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamespacesSettings {
    /// How often the store is asked what changed.
    pub refresh_interval: Duration,
    /// Nothing is written with settings older than this.
    pub settings_lifetime: Duration,
}

impl Default for NamespacesSettings {
    fn default() -> Self {
        Self {
            refresh_interval: Duration::from_secs(1),
            settings_lifetime: Duration::from_secs(10),
        }
    }
}

/// A namespace as an operator sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct NamespaceInfo {
    /// Its name.
    pub name: NamespaceName,
    /// What it is set to.
    pub settings: NamespaceSettings,
    /// Grows when the settings change.
    pub revision: u64,
    /// When it was created.
    pub created: EventTime,
    /// When its settings changed last.
    pub updated: EventTime,
    /// No event before this is accepted any more.
    pub sealed_before: Option<EventTime>,
}

impl From<&LoadedNamespace> for NamespaceInfo {
    fn from(loaded: &LoadedNamespace) -> Self {
        Self {
            name: loaded.name.clone(),
            settings: loaded.record.settings.clone(),
            revision: loaded.record.revision,
            created: loaded.record.created,
            updated: loaded.record.updated,
            sealed_before: loaded.record.sealed_before,
        }
    }
}

/// Handle on the namespaces of a store. Clones share one cache.
#[derive(Clone, Debug)]
pub struct Namespaces(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    records: Arc<dyn RecordStore>,
    clock: Arc<dyn Clock>,
    /// Whether the store can say which time buckets an id has.
    finds_time_buckets: bool,
    settings: NamespacesSettings,
    cache: Cache,
    count: Gauge,
    refresh_failures: Counter,
}

impl Namespaces {
    /// Reads every namespace once and keeps them fresh until the tasks are stopped.
    ///
    /// # Errors
    /// When the store does not answer, or what it holds is damaged.
    pub async fn start(
        store: &Store,
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
        metrics: &Metrics,
        settings: NamespacesSettings,
    ) -> Result<Self, ServiceError> {
        let namespaces = Self::new(store, clock, metrics, settings);
        namespaces.refresh().await?;
        let refreshed = namespaces.clone();
        let stopping = tasks.stopping();
        tasks.spawn("refresh namespaces", async move {
            loop {
                tokio::select! {
                    biased;
                    () = stopping.cancelled() => return,
                    () = refreshed.0.clock.sleep(refreshed.0.settings.refresh_interval) => {}
                }
                if let Err(error) = refreshed.refresh().await {
                    refreshed.0.refresh_failures.inc();
                    warn!(%error, "namespaces could not be read again");
                }
            }
        });
        Ok(namespaces)
    }

    fn new(store: &Store, clock: Arc<dyn Clock>, metrics: &Metrics, settings: NamespacesSettings) -> Self {
        let (count, refresh_failures) = (Gauge::default(), Counter::default());
        metrics.register(|registry| {
            registry.register("namespaces", "Namespaces that are served", count.clone());
            registry.register(
                "namespaces_refresh_failures",
                "Times that namespaces could not be read from the store",
                refresh_failures.clone(),
            );
        });
        Self(Arc::new(Inner {
            records: store.records.clone(),
            finds_time_buckets: store.events.finds_time_buckets(),
            clock,
            settings,
            cache: Cache::default(),
            count,
            refresh_failures,
        }))
    }

    /// The namespace, for a request that reads. A name that is not known is looked up in the store.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND` with the nearest names.
    pub async fn view(&self, name: &NamespaceName) -> Result<Arc<NamespaceView>, ServiceError> {
        match self.0.cache.get(name).filter(is_served) {
            Some(cached) => Ok(cached.view),
            None => Ok(self.read_again(name).await?.view),
        }
    }

    /// The same with its age, for a request that reads events. One that is older than the settings' lifetime, because
    /// this process slept or the store did not answer, is read again first: other servers may have made slices since.
    /// When it can not be read the old one has to do, and the answer says so.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND` with the nearest names.
    pub async fn view_for_read(&self, name: &NamespaceName) -> Result<ReadView, ServiceError> {
        let cached = match self.0.cache.get(name).filter(is_served) {
            Some(cached) if self.is_fresh(cached.read_at) => cached,
            Some(old) => match self.read_again(name).await {
                Err(error) if error.reason == Reason::NamespaceNotFound => return Err(error),
                read => read.unwrap_or(old),
            },
            None => self.read_again(name).await?,
        };
        let fresh_until = cached.read_at.saturating_add(self.0.settings.settings_lifetime);
        Ok(ReadView::new(cached.view, fresh_until))
    }

    /// The namespace, for a request that writes: never older than the settings' lifetime (W3).
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND`; `STORE_UNREACHABLE` when the settings are too old and can not be read again.
    pub async fn view_for_write(&self, name: &NamespaceName) -> Result<Arc<NamespaceView>, ServiceError> {
        if let Some(cached) = self.0.cache.get(name).filter(is_served)
            && self.is_fresh(cached.read_at)
        {
            return Ok(cached.view);
        }
        let cached = self.read_again(name).await.map_err(|error| match error.reason {
            Reason::StoreUnreachable => error.retry_after(self.0.settings.refresh_interval),
            _ => error,
        })?;
        if self.is_fresh(cached.read_at) {
            return Ok(cached.view);
        }
        let problem = format!("settings of namespace `{name}` are too old to write with");
        Err(ServiceError::new(Reason::StoreUnreachable, problem.clone())
            .with("namespace", name)
            .with("problem", problem)
            .retry_after(self.0.settings.refresh_interval))
    }

    /// The namespace as an operator sees it, straight from the store.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND` with the nearest names.
    pub async fn get(&self, name: &NamespaceName) -> Result<NamespaceInfo, ServiceError> {
        Ok(NamespaceInfo::from(&*self.read_again(name).await?.loaded))
    }

    /// Namespaces by name after the given one, as they were read last.
    pub fn list(&self, after: Option<&str>, namespaces_max: usize) -> Vec<NamespaceInfo> {
        let all = self.0.cache.all();
        all.values()
            .filter(|cached| is_served(cached))
            .filter(|cached| after.is_none_or(|after| cached.view.name.as_str() > after))
            .take(namespaces_max)
            .map(|cached| NamespaceInfo::from(&*cached.loaded))
            .collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0
            .cache
            .all()
            .values()
            .filter(|cached| is_served(cached))
            .count()
    }

    /// Reads every namespace again.
    pub(crate) async fn refresh(&self) -> Result<(), ServiceError> {
        let mut names = anabranch_catalog::names(&*self.0.records).await?;
        names.extend(self.0.cache.all().keys().cloned());
        names.sort();
        names.dedup();
        for name in names {
            match self.reload_cached(&name, false).await {
                Ok(_) => {}
                // One damaged namespace does not keep the others from being served; it says so itself
                // when it is asked for.
                Err(error) if error.reason == Reason::StoreCorrupt => {
                    self.0.refresh_failures.inc();
                    warn!(namespace = %name, %error, "namespace is damaged");
                }
                Err(error) => return Err(error),
            }
        }
        self.0.count.set(i64::try_from(self.count()).unwrap_or(i64::MAX));
        Ok(())
    }

    /// Reads one namespace again, as whoever changes it has to, and publishes it; `None` when it is not in the store.
    pub(crate) async fn reload(
        &self,
        name: &NamespaceName,
    ) -> Result<Option<Arc<LoadedNamespace>>, ServiceError> {
        Ok(self.reload_cached(name, true).await?.map(|cached| cached.loaded))
    }

    /// What was read last of every namespace, also of those that are being deleted.
    pub(crate) fn known(&self) -> Vec<Arc<LoadedNamespace>> {
        self.0
            .cache
            .all()
            .values()
            .map(|cached| cached.loaded.clone())
            .collect()
    }

    /// The error for a name that is not known, with the nearest ones that are.
    pub(crate) fn not_found(&self, name: &NamespaceName) -> ServiceError {
        let all = self.0.cache.all();
        let mut near: Vec<(usize, &str)> = all
            .values()
            .filter(|cached| is_served(cached))
            .map(|cached| cached.view.name.as_str())
            .map(|known| (strsim::damerau_levenshtein(name.as_str(), known), known))
            .filter(|(distance, known)| *distance <= 1 + known.len().min(name.as_str().len()) / 3)
            .collect();
        near.sort_unstable();
        let nearest: Vec<&str> = near.iter().take(3).map(|(_, known)| *known).collect();
        let hint = nearest
            .first()
            .map_or_else(String::new, |nearest| format!("; did you mean `{nearest}`?"));
        let error = ServiceError::new(Reason::NamespaceNotFound, format!("no namespace `{name}`{hint}"))
            .with("namespace", name)
            .with("hint", hint);
        if nearest.is_empty() {
            error
        } else {
            error.with("nearest", nearest.join(", "))
        }
    }

    fn is_fresh(&self, read_at: Duration) -> bool {
        self.0.clock.elapsed().saturating_sub(read_at) <= self.0.settings.settings_lifetime
    }

    async fn read_again(&self, name: &NamespaceName) -> Result<Cached, ServiceError> {
        let cached = self.reload_cached(name, false).await?;
        cached.filter(is_served).ok_or_else(|| self.not_found(name))
    }

    /// `settled`: with every change of it settled, acked or not.
    async fn reload_cached(
        &self,
        name: &NamespaceName,
        settled: bool,
    ) -> Result<Option<Cached>, ServiceError> {
        let Inner {
            cache,
            clock,
            records,
            ..
        } = &*self.0;
        loop {
            let changes = cache.changes(name);
            let read_at = clock.elapsed();
            let known = cache.get(name).map(|cached| cached.loaded);
            let loaded = if settled {
                anabranch_catalog::load_settled(&**records, name, known.as_deref()).await?
            } else {
                anabranch_catalog::load(&**records, name, known.as_deref()).await?
            };
            let cached = loaded.map(|loaded| Cached {
                view: Arc::new(loaded.view()),
                loaded: Arc::new(loaded),
                read_at,
            });
            if cache.publish(name, changes, cached.clone()) {
                return Ok(cached);
            }
        }
    }
}

fn is_served(cached: &Cached) -> bool {
    cached.loaded.record.deleting_since.is_none()
}

#[cfg(test)]
mod tests;
