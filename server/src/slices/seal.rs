//! Seals the past, takes seals back, and raises limits: what makes time immutable and mutable again.
//!
//! A seal is one time in the namespace's record: everything before it. That is one compare-and-set, it
//! holds for times that have no slice yet, and slices made later inherit it.
//!
//! - W3: on this server a seal is in force when `seal` returns: writes admitted before it have ended by
//!   then. On other servers it is in force one settings' lifetime later.
//! - W3: what opens again gets a new epoch *first*; only then is the setting stored, and only after that
//!   does any server accept a write (`open`).

use std::sync::Arc;

use anabranch_catalog::LoadedNamespace;
use anabranch_model::{EventTime, NamespaceName, NamespaceSettings, SliceState, TimeSlice};

use super::open::{Change, OpenedTime, Opening};
use super::{Keeping, SliceKeeper};
use crate::errors::{Reason, ServiceError};
use crate::namespaces::{NamespaceInfo, Namespaces};

/// The slices that a seal, or its taking back, touched: as they are now, oldest first.
pub type SealedSlices = Vec<TimeSlice>;

impl SliceKeeper {
    /// No event earlier than `before` (now, when `None`) is accepted any more. A seal never moves back.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND`, `NAMESPACE_CHANGED`.
    pub async fn seal(
        &self,
        namespace: &NamespaceName,
        before: Option<EventTime>,
    ) -> Result<SealedSlices, ServiceError> {
        let keeping = &self.core;
        let loaded = keeping.namespaces.load_for_change(namespace).await?;
        let now = keeping.now();
        let before = before.unwrap_or(now);
        keeping
            .namespaces
            .store_change(&loaded, |record| {
                if record.sealed_before.is_none_or(|sealed| sealed < before) {
                    record.sealed_before = Some(before);
                    record.sealed_since = Some(now);
                }
                Ok(())
            })
            .await?;
        keeping.in_flight.settle().await;
        keeping
            .slices_now(namespace, |slice| slice.interval.start < before)
            .await
    }

    /// Events from `after` on (all, when `None`) may be accepted again.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND`, `NAMESPACE_CHANGED`.
    pub async fn unseal(
        &self,
        namespace: &NamespaceName,
        after: Option<EventTime>,
    ) -> Result<SealedSlices, ServiceError> {
        let keeping = &self.core;
        let loaded = keeping.namespaces.load_for_change(namespace).await?;
        let now = keeping.now();
        let sealed = loaded.record.sealed_before;
        let changed = Namespaces::changed_error(namespace);
        let change: Change = Box::new(move |record| {
            if record.sealed_before != sealed {
                return Err(changed.clone());
            }
            if sealed > after {
                record.sealed_before = after;
                record.sealed_since = after.map(|_| now);
            }
            Ok(())
        });
        let opening = Opening::new(&loaded, &change)?;
        let mut slices = loaded.slices.iter().map(|loaded| &loaded.record.slice);
        if opening.opened(now).is_empty() && !slices.any(|slice| opening.touches(slice, now)) {
            return Ok(Vec::new());
        }
        let opened = self.open(loaded, change).await?;
        keeping
            .slices_now(namespace, |slice| opened.slices.contains(&slice.name))
            .await
    }

    /// Stores what `change` makes of the settings, and opens what they open.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND`, `NAMESPACE_CHANGED`, `INVALID_SETTING`, those of `change`.
    pub async fn update(
        &self,
        namespace: &NamespaceName,
        change: impl FnOnce(&NamespaceSettings) -> Result<NamespaceSettings, ServiceError>,
    ) -> Result<NamespaceInfo, ServiceError> {
        let keeping = &self.core;
        let loaded = keeping.namespaces.load_for_change(namespace).await?;
        let settings = change(&loaded.record.settings)?;
        keeping
            .namespaces
            .check_settings(&settings, Some(&loaded.record.settings))?;
        let now = keeping.now();
        let change: Change = Box::new(move |record| {
            if record.settings != settings {
                record.settings = settings.clone();
                record.revision += 1;
                record.updated = now;
            }
            Ok(())
        });
        if Opening::new(&loaded, &change)?.opened(now).is_empty() {
            return keeping
                .namespaces
                .store_change(&loaded, |record| change(record))
                .await;
        }
        Ok(self.open(loaded, change).await?.info)
    }

    /// Opens in a task of its own, so that a caller who gives up does not leave it half-way.
    async fn open(&self, from: Arc<LoadedNamespace>, change: Change) -> Result<OpenedTime, ServiceError> {
        let keeping = self.core.clone();
        let opening = self.core.tasks.spawn("open time", async move {
            Box::pin(keeping.open(&from, &change)).await
        });
        opening.await.unwrap_or_else(|error| {
            let problem = format!("opening did not end: {error}");
            Err(ServiceError::new(Reason::StoreOutcomeUnknown, problem.clone()).with("problem", problem))
        })
    }
}

impl Keeping {
    async fn slices_now(
        &self,
        namespace: &NamespaceName,
        touched: impl Fn(&TimeSlice) -> bool,
    ) -> Result<SealedSlices, ServiceError> {
        let view = self.namespaces.load_for_change(namespace).await?.view();
        let slices = view.slices.iter();
        Ok(slices
            .filter(|slice| slice.state != SliceState::Dropped && touched(slice))
            .cloned()
            .collect())
    }
}
