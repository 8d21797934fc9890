//! What a slice's splits rest on, as it stands in the store at this moment.
//!
//! - S4: what was made of a slice is worth something only as long as its basis is the slice's, and only for what is
//!   frozen. Whoever is about to store such a thing looks here right before.

use std::collections::BTreeMap;

use anabranch_model::{EventTime, NamespaceName, NamespaceSettings, SliceName, SliceState, TimeSlice};
use anabranch_split::{Basis, SplitReason};
use anabranch_storage::{RecordStore, StoreError};

use crate::change::{read_namespace, read_slice};
use crate::freeze::justified;
use crate::load::LoadedNamespace;
use crate::stored::{NamespaceRecord, SliceRecord};

/// An open slice and what its namespace says.
#[derive(Clone, Debug)]
pub struct Ground {
    /// What the namespace is set to.
    pub settings: NamespaceSettings,
    /// No event before this is accepted any more.
    pub sealed_before: Option<EventTime>,
    /// The slice.
    pub slice: TimeSlice,
    /// What a split of the slice rests on.
    pub basis: Basis,
}

impl Ground {
    /// The ground that two records make; `None` when the slice is closed, dropped or of another namespace, or when the
    /// namespace is going.
    pub fn of(namespace: &NamespaceRecord, slice: &SliceRecord) -> Option<Self> {
        let open = slice.slice.state == SliceState::Open
            && namespace.deleting_since.is_none()
            && slice.incarnation == namespace.incarnation;
        open.then(|| Self {
            settings: namespace.settings.clone(),
            sealed_before: namespace.sealed_before,
            slice: slice.slice.clone(),
            basis: Basis {
                incarnation: namespace.incarnation,
                epoch: slice.slice.epoch,
            },
        })
    }

    /// The grounds of a namespace's slices, of those that have one.
    pub fn of_slices(namespace: &LoadedNamespace) -> BTreeMap<SliceName, Self> {
        let slices = namespace.slices.iter();
        slices
            .filter_map(|slice| Self::of(&namespace.record, &slice.record))
            .map(|ground| (ground.slice.name.clone(), ground))
            .collect()
    }

    /// The time before which every event is refused, and so could be frozen.
    pub fn justified(&self, now: EventTime) -> Option<EventTime> {
        justified(&self.settings, self.sealed_before, now)
    }
}

/// The ground of a slice, read from the store; `None` as in [`Ground::of`].
///
/// # Errors
/// Those of the store.
pub async fn ground(
    records: &dyn RecordStore,
    namespace: &NamespaceName,
    slice: &SliceName,
) -> Result<Option<Ground>, StoreError> {
    let Some((of, _)) = read_namespace(records, namespace).await? else {
        return Ok(None);
    };
    let found = read_slice(records, namespace, slice).await?;
    Ok(found.and_then(|found| Ground::of(&of, &found.record)))
}

/// Why nothing that rests on `basis` and reaches to `boundary` is worth anything any more; `None` when it is.
///
/// # Errors
/// Those of the store.
pub async fn broken(
    records: &dyn RecordStore,
    namespace: &NamespaceName,
    slice: &SliceName,
    basis: Basis,
    boundary: EventTime,
) -> Result<Option<SplitReason>, StoreError> {
    let Some(ground) = ground(records, namespace, slice).await? else {
        return Ok(Some(SplitReason::SliceGone));
    };
    let frozen = ground
        .slice
        .frozen_before
        .is_some_and(|before| before >= boundary);
    Ok((ground.basis != basis || !frozen).then_some(SplitReason::EpochChanged))
}
