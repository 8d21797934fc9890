//! What operators ask: namespaces, time slices, blocked ids, wide partitions, and how the server is doing.
//!
//! Every change here is a compare-and-set of a record; on this server it is seen by every request that
//! starts after it returned, on others within the settings' lifetime.

mod blocks;
mod page;
mod sizes;
mod splits;
mod status;

use std::sync::{Arc, OnceLock};

use anabranch_model::{NamespaceName, NamespaceSettings, TimeSlice};
use anabranch_runtime::Clock;
use anabranch_storage::Store;

pub use self::blocks::BlockedId;
pub use self::page::{ADMIN_PAGE_SIZE_DEFAULT, ADMIN_PAGE_SIZE_MAX, Page, PageRequest};
use self::page::{Cursor, List};
pub use self::sizes::{PartitionSize, PartitionSizes, Percentiles, SIZES_TIME_MAX, WIDEST_MAX};
pub use self::splits::{PlanPreview, PlanPreviewed};
pub use self::status::ServerStatus;
use crate::errors::ServiceError;
use crate::namespaces::{NamespaceInfo, Namespaces};
use crate::slices::{SealedSlices, SliceKeeper};
use crate::split::Splits;
use crate::write::WriteMetrics;
use anabranch_model::EventTime;

/// Handle on everything that operators ask. Clones share it.
#[derive(Clone, Debug)]
pub struct Admin {
    namespaces: Namespaces,
    keeper: SliceKeeper,
    metrics: WriteMetrics,
    store: Store,
    served: Splits,
    clock: Arc<dyn Clock>,
    preview: Arc<OnceLock<Arc<dyn PlanPreview>>>,
}

impl Admin {
    /// An admin of its parts.
    pub fn new(
        namespaces: Namespaces,
        keeper: SliceKeeper,
        metrics: WriteMetrics,
        store: Store,
        served: Splits,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            namespaces,
            keeper,
            metrics,
            store,
            served,
            clock,
            preview: Arc::default(),
        }
    }

    /// Creates a namespace and its first time slices.
    ///
    /// # Errors
    /// `INVALID_SETTING`, `NAMESPACE_ALREADY_EXISTS`, those of the store.
    pub async fn create_namespace(
        &self,
        name: &NamespaceName,
        settings: NamespaceSettings,
    ) -> Result<NamespaceInfo, ServiceError> {
        let created = self.namespaces.create(name, settings).await?;
        // Without it the first write would wait for its slice. The namespace is there whatever comes of it,
        // and the keeper tries again.
        if let Err(error) = self.keeper.ensure(name, vec![self.namespaces.now()]).await {
            tracing::warn!(namespace = %name, %error, "first time slice could not be made yet");
        }
        Ok(created)
    }

    /// A namespace, straight from the store.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND`.
    pub async fn get_namespace(&self, name: &NamespaceName) -> Result<NamespaceInfo, ServiceError> {
        self.namespaces.get(name).await
    }

    /// A page of namespaces, by name.
    ///
    /// # Errors
    /// `PAGE_TOKEN_INVALID`, `PAGE_TOKEN_MISMATCH`.
    pub fn list_namespaces(&self, page: &PageRequest) -> Result<Page<NamespaceInfo>, ServiceError> {
        let after = page.cursor(List::Namespaces, "")?;
        let found = self.namespaces.list(
            after.as_ref().map(|cursor| cursor.after.as_str()),
            page.size() + 1,
        );
        Ok(page.cut(found, |info| {
            Cursor::new(List::Namespaces, "", info.name.as_str())
        }))
    }

    /// Stores what `change` makes of a namespace's settings. Widths and buckets take effect on future
    /// slices only; a raised `accept_limit` gives the slices that it opens new epochs first (W3).
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND`, `NAMESPACE_CHANGED`, `INVALID_SETTING`, those of `change`.
    pub async fn update_namespace(
        &self,
        name: &NamespaceName,
        change: impl FnOnce(&NamespaceSettings) -> Result<NamespaceSettings, ServiceError>,
    ) -> Result<NamespaceInfo, ServiceError> {
        self.keeper.update(name, change).await
    }

    /// Deletes a namespace with every event in it. One made again under the name starts empty.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND`, those of the store; the keeper finishes a deletion that was begun.
    pub async fn delete_namespace(&self, name: &NamespaceName) -> Result<(), ServiceError> {
        self.keeper.delete(name).await?;
        self.metrics.forget(name);
        Ok(())
    }

    /// A page of a namespace's time slices, oldest first. Dropped ones are left out.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND`, `PAGE_TOKEN_INVALID`, `PAGE_TOKEN_MISMATCH`.
    pub async fn list_time_slices(
        &self,
        name: &NamespaceName,
        page: &PageRequest,
    ) -> Result<Page<TimeSlice>, ServiceError> {
        let cursor = page.cursor(List::TimeSlices, name.as_str())?;
        let after = match &cursor {
            Some(cursor) => Some(cursor.after_micros()?),
            None => None,
        };
        let view = self.namespaces.view(name).await?;
        let slices = view
            .slices
            .iter()
            .filter(|slice| slice.state != anabranch_model::SliceState::Dropped)
            .filter(|slice| after.is_none_or(|after| slice.interval.start.micros() > after))
            .take(page.size() + 1)
            .cloned()
            .collect();
        Ok(page.cut(slices, |slice: &TimeSlice| {
            let start = slice.interval.start.micros().to_string();
            Cursor::new(List::TimeSlices, name.as_str(), &start)
        }))
    }

    /// No event earlier than `before` (now, when `None`) is accepted any more.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND`, `NAMESPACE_CHANGED`.
    pub async fn seal_time_slices(
        &self,
        name: &NamespaceName,
        before: Option<EventTime>,
    ) -> Result<SealedSlices, ServiceError> {
        self.keeper.seal(name, before).await
    }

    /// Events from `after` on (all, when `None`) may be accepted again.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND`, `NAMESPACE_CHANGED`.
    pub async fn unseal_time_slices(
        &self,
        name: &NamespaceName,
        after: Option<EventTime>,
    ) -> Result<SealedSlices, ServiceError> {
        self.keeper.unseal(name, after).await
    }
}

#[cfg(test)]
mod tests;
