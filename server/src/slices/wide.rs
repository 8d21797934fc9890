//! Tables of targets: made when something of a slice is frozen to be split, dropped before the slice's own.
//!
//! - Tables are made by the keeper alone. Where several keepers share a store, one claims the table in the
//!   slice's record first, and another takes over only after it has seen the same claim for the lease.
//! - `Made` is stored after the table is there. Stopped in between, the keeper finds `Wanted` and makes it
//!   again, which changes nothing.
//! - Nobody finds a target whose table is gone: splits are forgotten first, then the table of targets goes,
//!   then that of the originals.

use anabranch_catalog::{LoadedNamespace, LoadedSlice, Maker, change_slice, read_namespace, read_slice};
use anabranch_model::{NamespaceName, SliceName, SliceState, WideTable};
use tracing::info;

use super::seen::{Seen, Wait, What};
use super::{Keeping, data_table, wide_table};
use crate::errors::ServiceError;

impl Keeping {
    /// Makes every table of targets that is wanted in a namespace.
    pub(super) async fn make_wide_tables(
        &self,
        known: &LoadedNamespace,
        seen: &mut Seen,
    ) -> Result<(), ServiceError> {
        for slice in &known.slices {
            if is_wanted(slice) && (!self.settings.shared_store || self.claim(known, slice, seen).await?) {
                self.make_wide_table(&known.name, &slice.record.slice.name)
                    .await?;
            }
        }
        Ok(())
    }

    /// Makes the table of targets of a slice, if it is wanted, and says that it is there.
    pub(super) async fn make_wide_table(
        &self,
        namespace: &NamespaceName,
        slice: &SliceName,
    ) -> Result<(), ServiceError> {
        let records = &*self.store.records;
        let Some(found) = read_slice(records, namespace, slice).await? else {
            return Ok(());
        };
        let incarnation = found.record.incarnation;
        let stands = read_namespace(records, namespace)
            .await?
            .is_some_and(|(of, _)| of.incarnation == incarnation && of.deleting_since.is_none());
        if !stands || !is_wanted(&found) {
            return Ok(());
        }
        let table = wide_table(namespace, slice);
        self.store.events.create_table(&table).await?;
        let mut made = false;
        let after = change_slice(records, namespace, slice, incarnation, |record| {
            made = record.slice.wide_table == WideTable::Wanted && record.slice.state != SliceState::Dropped;
            if made {
                record.slice.wide_table = WideTable::Made;
                record.wide_table_maker = None;
            }
        })
        .await?;
        if made {
            self.wide_tables_created.inc();
            info!(table = %table, "table of targets made");
        } else if after.is_some_and(|after| after.record.slice.state == SliceState::Dropped) {
            // The slice was dropped while this keeper slept over it. Its name is never used again.
            self.store.events.drop_table(&table).await?;
        }
        self.namespaces.changed_slices(namespace).await
    }

    /// True when this keeper is the one that makes a slice's table of targets.
    async fn claim(
        &self,
        known: &LoadedNamespace,
        slice: &LoadedSlice,
        seen: &mut Seen,
    ) -> Result<bool, ServiceError> {
        let name = &slice.record.slice.name;
        let before = slice.record.wide_table_maker;
        if let Some(Maker { owner, since }) = before
            && owner != self.owner
        {
            let wait = Wait {
                namespace: known.name.clone(),
                slice: name.clone(),
                what: What::Maker { owner, since },
            };
            if seen.stood(wait, self.clock().elapsed()) < self.settings.creation_lease {
                return Ok(false);
            }
        }
        let claim = Maker {
            owner: self.owner,
            since: self.now(),
        };
        let mut ours = false;
        change_slice(
            &*self.store.records,
            &known.name,
            name,
            known.record.incarnation,
            |record| {
                ours = record.wide_table_maker == before && record.slice.wide_table == WideTable::Wanted;
                if ours {
                    record.wide_table_maker = Some(claim);
                }
            },
        )
        .await?;
        Ok(ours)
    }

    /// Drops the tables of a slice, that of the targets first.
    pub(super) async fn drop_tables(
        &self,
        namespace: &NamespaceName,
        slice: &SliceName,
        wide: WideTable,
    ) -> Result<(), ServiceError> {
        // One that is wanted may be there already.
        if wide != WideTable::None {
            self.store
                .events
                .drop_table(&wide_table(namespace, slice))
                .await?;
        }
        self.store
            .events
            .drop_table(&data_table(namespace, slice))
            .await?;
        Ok(())
    }
}

fn is_wanted(slice: &LoadedSlice) -> bool {
    let slice = &slice.record.slice;
    slice.state == SliceState::Open && slice.wide_table == WideTable::Wanted
}

#[cfg(test)]
mod tests;
