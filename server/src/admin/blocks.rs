//! Ids that are refused: block, unblock, list.

use anabranch_model::{EventTime, NamespaceName, TimeSeriesId};

use super::page::{Cursor, List};
use super::{Admin, Page, PageRequest};
use crate::errors::ServiceError;

/// An id that is refused, why, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockedId {
    /// The id.
    pub time_series_id: TimeSeriesId,
    /// What the operator gave as the reason.
    pub reason: String,
    /// When it was blocked.
    pub since: EventTime,
}

impl Admin {
    /// Refuses reads and writes of ids. One that is blocked already gets the new reason and keeps its time.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND`, `NAMESPACE_CHANGED`.
    pub async fn block_time_series_ids(
        &self,
        name: &NamespaceName,
        ids: &[TimeSeriesId],
        reason: &str,
    ) -> Result<Vec<BlockedId>, ServiceError> {
        self.namespaces.block(name, ids, reason).await?;
        let view = self.namespaces.view(name).await?;
        let blocked = ids.iter().filter_map(|id| {
            let block = view.blocked.get(id)?;
            Some(BlockedId {
                time_series_id: id.clone(),
                reason: block.reason.clone(),
                since: block.since,
            })
        });
        Ok(blocked.collect())
    }

    /// Takes blocks back; returns how many of the ids had been blocked.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND`, `NAMESPACE_CHANGED`.
    pub async fn unblock_time_series_ids(
        &self,
        name: &NamespaceName,
        ids: &[TimeSeriesId],
    ) -> Result<usize, ServiceError> {
        self.namespaces.unblock(name, ids).await
    }

    /// A page of a namespace's blocked ids, by id.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND`, `PAGE_TOKEN_INVALID`, `PAGE_TOKEN_MISMATCH`.
    pub async fn list_blocked_time_series_ids(
        &self,
        name: &NamespaceName,
        page: &PageRequest,
    ) -> Result<Page<BlockedId>, ServiceError> {
        let after = page.cursor(List::BlockedIds, name.as_str())?;
        let view = self.namespaces.view(name).await?;
        let blocked = view
            .blocked
            .iter()
            .filter(|(id, _)| {
                after
                    .as_ref()
                    .is_none_or(|cursor| id.as_str() > cursor.after.as_str())
            })
            .take(page.size() + 1)
            .map(|(id, block)| BlockedId {
                time_series_id: id.clone(),
                reason: block.reason.clone(),
                since: block.since,
            })
            .collect();
        Ok(page.cut(blocked, |blocked: &BlockedId| {
            Cursor::new(List::BlockedIds, name.as_str(), blocked.time_series_id.as_str())
        }))
    }
}
