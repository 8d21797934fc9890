//! Freezes the past of a slice: says in its record that no event before some time is accepted any more.
//!
//! ```text
//! asked ─▶ clamp to what is justified ─▶ compare-and-set of the slice's record ─▶ every writer refuses
//! ```
//!
//! That something is too old to change by one server's clock proves nothing about what another server
//! still writes. So it is stored, and writers go by what is stored.
//!
//! - W3, S4: no event before `frozen_before` is accepted, so what lies before it may be split once every
//!   write that was admitted earlier has ended. In the one process that owns a store that is when
//!   its own writes have ended; elsewhere, `settle` (the settings' lifetime, the longest write and a margin)
//!   after the waiting process *saw* the stored value, on its own elapsed time.
//! - Only what a seal or the accept limit refuses anyway is ever frozen, so servers whose clocks agree
//!   refuse nothing that they took before.
//! - Nothing is frozen while a slice is being opened. What opens changes the slice first, then the namespace,
//!   then the slice again; here the slice is read first, then the namespace, and the slice must not have
//!   changed since. So nothing is frozen by a setting that was taken back.

use std::time::Duration;

use anabranch_model::{EventTime, NamespaceName, NamespaceSettings, SliceName, SliceState, WideTable};
use anabranch_storage::{RecordStore, StoreError};

use crate::change::{ATTEMPTS_MAX, contended, read_namespace, read_slice, store_slice};

/// How far behind the accept limit everything is left alone, for clocks that differ a little.
pub const SKEW_MARGIN: Duration = Duration::from_secs(5);

/// What became of a freeze.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreezeOutcome {
    /// It is stored. It counts only when the writes admitted before it have ended.
    Frozen(Frozen),
    /// The slice is being opened: ask again when that has ended.
    Opening,
    /// The slice is closed, dropped or not there, or its namespace is going.
    NotOpen,
    /// All of the slice may still take writes.
    NotJustified,
}

/// What is frozen of a slice, and of which slice exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// No event before this is accepted. It may be earlier than was asked for, as far as is justified, or
    /// later, when more was frozen before.
    pub before: EventTime,
    /// Whether the table for targets is there.
    pub wide_table: WideTable,
    /// The namespace's incarnation.
    pub incarnation: u64,
    /// The slice's epoch: what is made of the frozen part is worth nothing under another one.
    pub epoch: u64,
    /// Version of the slice's record.
    pub version: u64,
}

/// The time before which settings, a seal and the clock together refuse every event; `None` when any
/// time is accepted.
pub fn justified(
    settings: &NamespaceSettings,
    sealed_before: Option<EventTime>,
    now: EventTime,
) -> Option<EventTime> {
    let limit = settings.accept_limit;
    // Zero accepts any time.
    let by_limit = (!limit.is_zero()).then(|| now.saturating_sub(limit).saturating_sub(SKEW_MARGIN));
    sealed_before.max(by_limit)
}

/// Freezes a slice up to `before`, but never further than is justified `now`, and asks for its table of
/// targets. Nothing is stored when it is frozen that far already.
///
/// # Errors
/// Those of the store.
pub async fn freeze(
    records: &dyn RecordStore,
    namespace: &NamespaceName,
    slice: &SliceName,
    before: EventTime,
    now: EventTime,
) -> Result<FreezeOutcome, StoreError> {
    for _ in 0..ATTEMPTS_MAX {
        // The slice first, then the namespace: see the head of this file.
        let Some(found) = read_slice(records, namespace, slice).await? else {
            return Ok(FreezeOutcome::NotOpen);
        };
        let Some((of, _)) = read_namespace(records, namespace).await? else {
            return Ok(FreezeOutcome::NotOpen);
        };
        let mut record = found.record.clone();
        let slice = &mut record.slice;
        if slice.state != SliceState::Open
            || of.deleting_since.is_some()
            || found.record.incarnation != of.incarnation
        {
            return Ok(FreezeOutcome::NotOpen);
        }
        if slice.opening_since.is_some() {
            return Ok(FreezeOutcome::Opening);
        }
        let justified = justified(&of.settings, of.sealed_before, now)
            .map(|justified| justified.min(before).min(slice.interval.end))
            .filter(|justified| *justified > slice.interval.start);
        let Some(frozen) = slice.frozen_before.max(justified) else {
            return Ok(FreezeOutcome::NotJustified);
        };
        slice.frozen_before = Some(frozen);
        if slice.wide_table == WideTable::None {
            slice.wide_table = WideTable::Wanted;
        }
        let (epoch, wide_table) = (slice.epoch, slice.wide_table);
        let version = if record == found.record {
            Some(found.version)
        } else {
            store_slice(records, namespace, found.version, &record).await?
        };
        if let Some(version) = version {
            return Ok(FreezeOutcome::Frozen(Frozen {
                before: frozen,
                wide_table,
                incarnation: of.incarnation,
                epoch,
                version,
            }));
        }
    }
    Err(contended())
}

#[cfg(test)]
mod tests;
