//! Retires slices whose time has come: close, wait, drop the table, say so.
//!
//! The record is closed first, then nothing happens until every server must have read that and every
//! request under way has ended, and only then the table goes. The record stays, so that its name and
//! its time are never used again.

use anabranch_catalog::{LoadedNamespace, LoadedSlice, SliceRecord};
use anabranch_model::{EventTime, SliceState, WideTable};

use super::Keeping;
use crate::errors::ServiceError;

/// What retention asks of a slice now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    Close,
    Drop,
}

impl Keeping {
    /// Closes and drops what is due.
    pub(super) async fn retire(&self, known: &LoadedNamespace, now: EventTime) -> Result<(), ServiceError> {
        let is_due = |slice| self.due(known, slice, now) != Due::Nothing;
        if !known.slices.iter().any(is_due) {
            return Ok(());
        }
        // A table is never dropped by what was known: the namespace may have been made anew since.
        let namespace = &*self.namespaces.load_for_change(&known.name).await?;
        for slice in &namespace.slices {
            match self.due(namespace, slice, now) {
                Due::Nothing => {}
                Due::Close => {
                    let mut record = slice.record.clone();
                    record.slice.state = SliceState::Closed;
                    record.closed = Some(now);
                    self.store_slice(&namespace.name, slice.version, &record).await?;
                }
                Due::Drop => {
                    self.in_flight.settle().await;
                    let name = &slice.record.slice.name;
                    self.drop_tables(&namespace.name, name, slice.record.slice.wide_table)
                        .await?;
                    let mut record: SliceRecord = slice.record.clone();
                    record.slice.state = SliceState::Dropped;
                    record.slice.wide_table = WideTable::None;
                    if self.store_slice(&namespace.name, slice.version, &record).await? {
                        self.dropped.inc();
                        tracing::info!(namespace = %namespace.name, slice = %name, "time slice dropped by retention");
                    }
                }
            }
        }
        self.namespaces.changed_slices(&namespace.name).await
    }

    fn due(&self, namespace: &LoadedNamespace, slice: &LoadedSlice, now: EventTime) -> Due {
        let retention = namespace.record.settings.retention;
        let SliceRecord { slice, closed, .. } = &slice.record;
        let end = slice.interval.end;
        match slice.state {
            SliceState::Open => match retention.close_after {
                Some(after) if now >= end.saturating_add(after) => Due::Close,
                _ => Due::Nothing,
            },
            SliceState::Closed => {
                let settled = closed.is_none_or(|closed| now >= closed.saturating_add(self.settings.settle));
                match retention.delete_after {
                    Some(after) if settled && now >= end.saturating_add(after) => Due::Drop,
                    _ => Due::Nothing,
                }
            }
            SliceState::Dropped => Due::Nothing,
        }
    }
}
