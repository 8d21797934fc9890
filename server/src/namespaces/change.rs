//! Changes of a namespace's record: each one compare-and-set, then read again.
//!
//! The record's version also moves when slices are cut, so a change that meets only that is made again.
//! A change that meets another change of the *settings* is not: `NAMESPACE_CHANGED`.

use std::sync::Arc;
use std::time::Duration;

use anabranch_catalog::{LoadedNamespace, NamespaceRecord, Stored};
use anabranch_model::namespace::InvalidSetting;
use anabranch_model::{EventTime, NamespaceName, NamespaceSettings};
use anabranch_runtime::Clock;
use anabranch_storage::{CasOutcome, VersionedRecord};

use super::{NamespaceInfo, Namespaces};
use crate::errors::{Reason, ServiceError};

/// Times that a change is made again because slices were cut at the same time.
const ATTEMPTS_MAX: usize = 16;

impl Namespaces {
    /// Creates a namespace. Its first slices are the keeper's to make.
    ///
    /// # Errors
    /// `INVALID_SETTING` naming every broken one; `NAMESPACE_ALREADY_EXISTS`.
    pub(crate) async fn create(
        &self,
        name: &NamespaceName,
        settings: NamespaceSettings,
    ) -> Result<NamespaceInfo, ServiceError> {
        self.check_settings(&settings, None)?;
        let key = NamespaceRecord::key(name);
        let before = self.0.records.get(&key).await?;
        let expected = match &before {
            None => 0,
            Some(VersionedRecord { version, value: None }) => *version,
            Some(VersionedRecord {
                value: Some(bytes), ..
            }) => {
                return Err(exists(name, &NamespaceRecord::decode(bytes)?));
            }
        };
        let now = self.now();
        // Versions of a key are never used twice, so neither is this incarnation.
        let record = NamespaceRecord::new(settings, expected + 1, now);
        let outcome = self
            .0
            .records
            .compare_and_set(&key, expected, Some(record.encode()?))
            .await;
        self.0.cache.changed(name);
        match outcome? {
            CasOutcome::Applied { .. } => {
                self.reload(name).await?;
                Ok(NamespaceInfo {
                    name: name.clone(),
                    settings: record.settings,
                    revision: record.revision,
                    created: now,
                    updated: now,
                    sealed_before: None,
                })
            }
            CasOutcome::Conflict { .. } => Err(exists(name, &record)),
        }
    }

    /// Refuses settings that can not be, naming every one. What was broken `before` in the same way, by a rule that was
    /// not there yet, stands in the way of no other change.
    pub(crate) fn check_settings(
        &self,
        settings: &NamespaceSettings,
        before: Option<&NamespaceSettings>,
    ) -> Result<(), ServiceError> {
        let mut broken = self.broken_rules(settings);
        if let Some(before) = before {
            let known = self.broken_rules(before);
            broken.retain(|rule| !known.contains(rule));
            broken.extend(settings.check_change(before).err());
        }
        let Some(first) = broken.first() else {
            return Ok(());
        };
        let texts: Vec<String> = broken.iter().map(ToString::to_string).collect();
        let mut error = ServiceError::new(Reason::InvalidSetting, texts.join("; "))
            .with("field", first.field)
            .with("value", &first.value)
            .with("problem", format!("{}: {}", first.value, first.reason));
        for setting in &broken {
            error = error.field(setting.field, format!("{}: {}", setting.value, setting.reason));
        }
        Err(error)
    }

    fn broken_rules(&self, settings: &NamespaceSettings) -> Vec<InvalidSetting> {
        let mut broken = settings.check().err().unwrap_or_default();
        if !self.0.finds_time_buckets {
            broken.extend(settings.check_walked().err());
        }
        broken
    }

    /// Stores what `change` makes of a namespace's record, if nobody else changed its settings since
    /// `from` was read.
    ///
    /// # Errors
    /// `NAMESPACE_CHANGED`, `NAMESPACE_NOT_FOUND`, and those of `change`.
    pub(crate) async fn store_change(
        &self,
        from: &LoadedNamespace,
        change: impl Fn(&mut NamespaceRecord) -> Result<(), ServiceError> + Sync,
    ) -> Result<NamespaceInfo, ServiceError> {
        let name = &from.name;
        for _ in 0..ATTEMPTS_MAX {
            let Some(current) = self.reload(name).await? else {
                return Err(self.not_found(name));
            };
            if current.record.incarnation != from.record.incarnation
                || current.record.deleting_since != from.record.deleting_since
            {
                return Err(self.not_found(name));
            }
            if current.record.revision != from.record.revision {
                return Err(changed(name));
            }
            let mut record = current.record.clone();
            change(&mut record)?;
            if record == current.record || self.compare_and_set(name, current.version, &record).await? {
                let stored = self.reload(name).await?.ok_or_else(|| self.not_found(name))?;
                return Ok(NamespaceInfo::from(&*stored));
            }
        }
        Err(changed(name))
    }

    /// Stores a record over a version of it; false when somebody else was first.
    pub(crate) async fn compare_and_set(
        &self,
        name: &NamespaceName,
        version: u64,
        record: &NamespaceRecord,
    ) -> Result<bool, ServiceError> {
        let outcome = self
            .0
            .records
            .compare_and_set(&NamespaceRecord::key(name), version, Some(record.encode()?))
            .await;
        // Counted whatever became of it: an error may hide a change that was stored.
        self.0.cache.changed(name);
        Ok(matches!(outcome?, CasOutcome::Applied { .. }))
    }

    /// Removes the record of a namespace of which nothing else is left. Nothing happens if it is gone.
    pub(crate) async fn remove(&self, from: &LoadedNamespace) -> Result<(), ServiceError> {
        for _ in 0..ATTEMPTS_MAX {
            let Some(current) = self.reload(&from.name).await? else {
                return Ok(());
            };
            if current.record.incarnation != from.record.incarnation {
                return Ok(());
            }
            let outcome = self
                .0
                .records
                .compare_and_set(&NamespaceRecord::key(&from.name), current.version, None)
                .await;
            self.0.cache.changed(&from.name);
            if matches!(outcome?, CasOutcome::Applied { .. }) {
                self.reload(&from.name).await?;
                return Ok(());
            }
        }
        Err(changed(&from.name))
    }

    /// Publishes changes of a namespace's slices or blocked ids that have been stored.
    pub(crate) async fn changed_slices(&self, name: &NamespaceName) -> Result<(), ServiceError> {
        self.note_change(name);
        self.reload(name).await?;
        Ok(())
    }

    /// What was read of a namespace before now is not published any more: something has been stored.
    pub(crate) fn note_change(&self, name: &NamespaceName) {
        self.0.cache.changed(name);
    }

    /// The error for a change that met another one.
    pub(crate) fn changed_error(name: &NamespaceName) -> ServiceError {
        changed(name)
    }

    /// The clock that this server goes by.
    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// The clock's time as event time.
    pub(crate) fn now(&self) -> EventTime {
        EventTime::from_micros(self.0.clock.unix_micros())
    }

    /// The namespace as its records stand now, for a change that is decided on it.
    pub(crate) async fn load_for_change(
        &self,
        name: &NamespaceName,
    ) -> Result<Arc<LoadedNamespace>, ServiceError> {
        let loaded = self.reload(name).await?;
        loaded
            .filter(|loaded| loaded.record.deleting_since.is_none())
            .ok_or_else(|| self.not_found(name))
    }
}

fn exists(name: &NamespaceName, record: &NamespaceRecord) -> ServiceError {
    if record.deleting_since.is_some() {
        return ServiceError::new(
            Reason::NamespaceAlreadyExists,
            format!("namespace `{name}` is still being deleted"),
        )
        .with("namespace", name)
        .with("state", "DELETING")
        .retry_after(Duration::from_secs(1));
    }
    ServiceError::new(
        Reason::NamespaceAlreadyExists,
        format!("namespace `{name}` exists already"),
    )
    .with("namespace", name)
}

fn changed(name: &NamespaceName) -> ServiceError {
    ServiceError::new(
        Reason::NamespaceChanged,
        format!("namespace `{name}` was changed by someone else at the same time"),
    )
    .with("namespace", name)
    .retry_after(Duration::from_millis(50))
}
