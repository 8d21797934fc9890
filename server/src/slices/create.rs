//! Makes slices: frozen settings first, then the table, then the record that makes it visible.
//!
//! Stopped anywhere, whoever looks next finds in `creating` what is not finished, and finishes it. A
//! slice record is stored after its table, so no visible slice lacks one.

use std::time::Duration;

use anabranch_catalog::{Creation, LoadedNamespace, SliceRecord, Stored};
use anabranch_model::{EventTime, NamespaceName, TimeSlice};
use anabranch_storage::{CasOutcome, RecordKey, VersionedRecord};
use futures::stream::{self, StreamExt, TryStreamExt};
use tracing::info;

use super::{Keeping, data_table, tiling};
use crate::errors::{Reason, ServiceError};

/// How often another keeper's progress is looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);

impl Keeping {
    /// Makes sure that each of these times has a slice, and that no creation is left unfinished.
    pub(super) async fn ensure(
        &self,
        namespace: &NamespaceName,
        mut times: Vec<EventTime>,
    ) -> Result<(), ServiceError> {
        times.sort_unstable();
        times.dedup();
        loop {
            let loaded = self.namespaces.load_for_change(namespace).await?;
            let unfinished = loaded.unfinished();
            if !unfinished.is_empty() {
                if self.is_anothers(&loaded) {
                    self.clock().sleep(WATCH_INTERVAL).await;
                } else {
                    let finished = self.finish(&loaded, unfinished).await;
                    // Some may be made even if others failed.
                    self.namespaces.note_change(namespace);
                    finished?;
                }
                continue;
            }
            let existing: Vec<TimeSlice> = loaded
                .slices
                .iter()
                .map(|loaded| loaded.record.slice.clone())
                .collect();
            let slices = tiling::missing(&existing, &loaded.record.settings, &times)
                .map_err(|error| ServiceError::new(Reason::InvalidSetting, error.to_string()))?;
            if slices.is_empty() {
                return Ok(());
            }
            if existing.len() + slices.len() > self.settings.slices_max {
                return Err(self.too_many(namespace));
            }
            let mut record = loaded.record.clone();
            record.creating = Some(Creation {
                owner: self.owner,
                since: self.now(),
                slices,
            });
            // Lost to another change, or won: either way the next round reads how it stands.
            self.namespaces
                .compare_and_set(namespace, loaded.version, &record)
                .await?;
        }
    }

    /// True while another keeper on the same store is at it.
    fn is_anothers(&self, loaded: &LoadedNamespace) -> bool {
        let Some(creation) = &loaded.record.creating else {
            return false;
        };
        self.settings.shared_store
            && creation.owner != self.owner
            && self.now() < creation.since.saturating_add(self.settings.creation_lease)
    }

    async fn finish(&self, loaded: &LoadedNamespace, slices: Vec<TimeSlice>) -> Result<(), ServiceError> {
        stream::iter(slices)
            .map(|slice| self.make(loaded, slice))
            .buffer_unordered(self.settings.creations_max.max(1))
            .try_collect::<()>()
            .await
    }

    async fn make(&self, loaded: &LoadedNamespace, slice: TimeSlice) -> Result<(), ServiceError> {
        let namespace = &loaded.name;
        let incarnation = loaded.record.incarnation;
        self.store
            .events
            .create_table(&data_table(namespace, &slice.name))
            .await?;
        let key = RecordKey::TimeSlice {
            namespace: namespace.clone(),
            slice: slice.name.clone(),
        };
        let name = slice.name.clone();
        let expected = match self.store.records.get(&key).await? {
            None => 0,
            Some(VersionedRecord { version, value: None }) => version,
            Some(VersionedRecord {
                version,
                value: Some(bytes),
            }) => {
                if SliceRecord::decode(&bytes)?.incarnation == incarnation {
                    return Ok(());
                }
                version
            }
        };
        let record = SliceRecord::new(slice, incarnation);
        let bytes = Some(record.encode()?);
        let outcome = self.store.records.compare_and_set(&key, expected, bytes).await?;
        // A conflict means that another keeper stored the same slice: its settings came from `creating` too.
        if matches!(outcome, CasOutcome::Applied { .. }) {
            self.created.inc();
            info!(namespace = %namespace, slice = %name, interval = %record.slice.interval, "time slice made");
        }
        Ok(())
    }

    fn too_many(&self, namespace: &NamespaceName) -> ServiceError {
        let limit = self.settings.slices_max;
        let message = format!(
            "namespace `{namespace}` would have more than {limit} time slices; use wider ones, or check the times of the events"
        );
        ServiceError::new(Reason::TooManyTimeSlices, message)
            .with("namespace", namespace)
            .with("limit", limit)
    }
}
