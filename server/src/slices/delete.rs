//! Deletes a namespace: mark it, wait until nobody writes to it, drop its tables, forget it.
//!
//! Stopped anywhere, the keeper finds the mark and goes on. The mark is the first step and the record
//! the last, so that a namespace of the same name can only be made when nothing of this one is left.

use anabranch_catalog::LoadedNamespace;
use anabranch_model::{EventTime, NamespaceName};
use anabranch_storage::{RecordKey, RecordPrefix};

use super::{Keeping, Request, SliceKeeper, data_table};
use crate::errors::ServiceError;

impl SliceKeeper {
    /// Deletes a namespace with every event in it.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND`, `NAMESPACE_CHANGED`, those of the store. A deletion that was marked is
    /// finished by the keeper, whatever the error.
    pub async fn delete(&self, namespace: &NamespaceName) -> Result<(), ServiceError> {
        let keeping = &self.core;
        let loaded = keeping
            .namespaces
            .reload(namespace)
            .await?
            .ok_or_else(|| keeping.namespaces.not_found(namespace))?;
        if loaded.record.deleting_since.is_none() {
            let now = keeping.now();
            keeping.mark(&loaded, now).await?;
        }
        if keeping.settings.shared_store {
            keeping.clock().sleep(keeping.settings.settle).await;
        }
        let namespace = namespace.clone();
        self.ask(|done| Request::FinishDelete { namespace, done }).await
    }
}

impl Keeping {
    async fn mark(&self, loaded: &LoadedNamespace, now: EventTime) -> Result<(), ServiceError> {
        let marked = self
            .namespaces
            .store_change(loaded, |record| {
                record.deleting_since = Some(now);
                Ok(())
            })
            .await;
        marked.map(|_| ())
    }

    /// Takes away everything of a namespace that is marked, its record last.
    pub(super) async fn finish_delete(&self, namespace: &NamespaceName) -> Result<(), ServiceError> {
        let Some(loaded) = self.namespaces.reload(namespace).await? else {
            return Ok(());
        };
        if loaded.record.deleting_since.is_none() {
            return Ok(());
        }
        // Writes of this server that were admitted before the mark: none may land in a table that is made
        // again under the same name.
        self.in_flight.settle().await;
        for slice in loaded.unfinished() {
            self.store
                .events
                .drop_table(&data_table(namespace, &slice.name))
                .await?;
        }
        for slice in &loaded.slices {
            let slice = &slice.record.slice;
            self.drop_tables(namespace, &slice.name, slice.wide_table).await?;
        }
        let prefixes = [
            RecordPrefix::TimeSlices(namespace.clone()),
            RecordPrefix::BlockedIds(namespace.clone()),
        ];
        for prefix in prefixes {
            for (key, record) in anabranch_catalog::list(&*self.store.records, prefix).await? {
                debug_assert!(!matches!(key, RecordKey::Namespace { .. }));
                // A conflict means that somebody else who finishes this deletion was first.
                self.store
                    .records
                    .compare_and_set(&key, record.version, None)
                    .await?;
            }
        }
        self.namespaces.remove(&loaded).await?;
        tracing::info!(namespace = %namespace, "namespace deleted");
        Ok(())
    }
}
