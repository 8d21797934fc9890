//! Seals the past, takes seals back, and raises limits: what makes time immutable and mutable again.
//!
//! A seal is one time in the namespace's record: everything before it. That is one compare-and-set, it
//! holds for times that have no slice yet, and slices made later inherit it.
//!
//! - W3: on this server a seal is in force when `seal` returns: writes admitted before it have ended by
//!   then. On other servers it is in force one settings' lifetime later.
//! - W3: what opens again gets a new epoch *first*; only then is the setting stored, and only after that
//!   does any server accept a write. An opening that stops half-way has changed epochs and nothing else.

use std::time::Duration;

use anabranch_catalog::LoadedNamespace;
use anabranch_model::{EventTime, NamespaceName, NamespaceSettings, SliceState, TimeInterval, TimeSlice};

use super::{Keeping, SliceKeeper};
use crate::errors::ServiceError;
use crate::namespaces::{NamespaceInfo, Namespaces};

/// How far the clocks of servers may be apart when it is decided which slices a raised limit opens.
const SKEW: Duration = Duration::from_secs(60);
/// Times that an epoch is raised again because the slice's record was changed at the same time.
const ATTEMPTS_MAX: usize = 8;

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
        let opened = TimeInterval {
            start: after.unwrap_or(TimeInterval::ALL.start),
            end: loaded.record.sealed_before.unwrap_or(TimeInterval::ALL.start),
        };
        if opened.is_empty() {
            return Ok(Vec::new());
        }
        keeping.raise_epochs(&loaded, &opened).await?;
        keeping
            .namespaces
            .store_change(&loaded, |record| {
                if record.sealed_before != loaded.record.sealed_before {
                    return Err(Namespaces::changed_error(namespace));
                }
                record.sealed_before = after;
                record.sealed_since = after.map(|_| now);
                Ok(())
            })
            .await?;
        keeping
            .slices_now(namespace, |slice| {
                !slice.interval.intersection(&opened).is_empty()
            })
            .await
    }

    /// Stores what `change` makes of the settings, and opens first what they open.
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
        let old = &loaded.record.settings;
        let settings = change(old)?;
        crate::namespaces::check_settings(&settings)?;
        let now = keeping.now();
        let opened = opened_by_limit(old.accept_limit, settings.accept_limit, now);
        if !opened.is_empty() {
            keeping.raise_epochs(&loaded, &opened).await?;
        }
        keeping
            .namespaces
            .store_change(&loaded, |record| {
                if record.settings != settings {
                    record.settings = settings.clone();
                    record.revision += 1;
                    record.updated = now;
                }
                Ok(())
            })
            .await
    }
}

impl Keeping {
    /// Gives every slice that an interval touches a new epoch.
    async fn raise_epochs(
        &self,
        loaded: &LoadedNamespace,
        opened: &TimeInterval,
    ) -> Result<(), ServiceError> {
        for slice in &loaded.slices {
            let touched = slice.record.slice.state != SliceState::Dropped
                && !slice.record.slice.interval.intersection(opened).is_empty();
            if !touched {
                continue;
            }
            self.raise_epoch(&loaded.name, slice.record.slice.interval.start)
                .await?;
        }
        self.namespaces.changed_slices(&loaded.name).await
    }

    async fn raise_epoch(&self, namespace: &NamespaceName, start: EventTime) -> Result<(), ServiceError> {
        for _ in 0..ATTEMPTS_MAX {
            let loaded = self.namespaces.load_for_change(namespace).await?;
            let Some(slice) = loaded
                .slices
                .iter()
                .find(|slice| slice.record.slice.interval.start == start)
            else {
                return Ok(());
            };
            let mut record = slice.record.clone();
            record.slice.epoch += 1;
            if self.store_slice(namespace, slice.version, &record).await? {
                return Ok(());
            }
        }
        Err(Namespaces::changed_error(namespace))
    }

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

/// The times that a raised accept limit opens; empty when it was not raised.
fn opened_by_limit(old: Duration, new: Duration, now: EventTime) -> TimeInterval {
    let closed = TimeInterval { start: now, end: now };
    // Zero accepts any time.
    if old.is_zero() || (!new.is_zero() && new <= old) {
        return closed;
    }
    let start = if new.is_zero() {
        TimeInterval::ALL.start
    } else {
        now.saturating_sub(new).saturating_sub(SKEW)
    };
    TimeInterval {
        start,
        end: now.saturating_sub(old).saturating_add(SKEW),
    }
}
