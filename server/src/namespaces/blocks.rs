//! Blocks and unblocks ids.

use anabranch_catalog::{BlockRecord, Stored};
use anabranch_model::{NamespaceName, TimeSeriesId};
use anabranch_storage::{CasOutcome, RecordKey, VersionedRecord};

use super::Namespaces;
use crate::errors::ServiceError;

/// Times that a block is tried again because its record was changed at the same time.
const ATTEMPTS_MAX: usize = 8;

impl Namespaces {
    /// Blocks ids. One that is blocked already gets the new reason and keeps its time.
    pub(crate) async fn block(
        &self,
        name: &NamespaceName,
        ids: &[TimeSeriesId],
        reason: &str,
    ) -> Result<(), ServiceError> {
        let incarnation = self.load_for_change(name).await?.record.incarnation;
        let now = self.now();
        for id in ids {
            self.change_block(name, id, |before| {
                let before = before.filter(|before| before.incarnation == incarnation);
                Some(BlockRecord {
                    reason: reason.to_owned(),
                    since: before.map_or(now, |before| before.since),
                    incarnation,
                })
            })
            .await?;
        }
        self.changed_slices(name).await
    }

    /// Unblocks ids; returns how many had been blocked.
    pub(crate) async fn unblock(
        &self,
        name: &NamespaceName,
        ids: &[TimeSeriesId],
    ) -> Result<usize, ServiceError> {
        self.load_for_change(name).await?;
        let mut unblocked = 0;
        for id in ids {
            unblocked += usize::from(self.change_block(name, id, |_| None).await?);
        }
        self.changed_slices(name).await?;
        Ok(unblocked)
    }

    /// Stores what `change` makes of a block; true if there was one.
    async fn change_block(
        &self,
        name: &NamespaceName,
        id: &TimeSeriesId,
        change: impl Fn(Option<&BlockRecord>) -> Option<BlockRecord> + Sync,
    ) -> Result<bool, ServiceError> {
        let key = RecordKey::BlockedId {
            namespace: name.clone(),
            time_series_id: id.clone(),
        };
        for _ in 0..ATTEMPTS_MAX {
            let (version, before) = match self.0.records.get(&key).await? {
                None => (0, None),
                Some(VersionedRecord { version, value }) => (version, value),
            };
            let before = before.map(|bytes| BlockRecord::decode(&bytes)).transpose()?;
            let after = change(before.as_ref());
            if after == before {
                return Ok(before.is_some());
            }
            let bytes = after.map(|block| block.encode()).transpose()?;
            let outcome = self.0.records.compare_and_set(&key, version, bytes).await?;
            if matches!(outcome, CasOutcome::Applied { .. }) {
                return Ok(before.is_some());
            }
        }
        Err(Self::changed_error(name))
    }
}
