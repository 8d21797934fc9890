//! Freezes the past of a slice on this server, so that it may be split.
//!
//! The rules are those of [`anabranch_catalog::freeze`](mod@anabranch_catalog::freeze), which other
//! processes use; here the writes of this server are waited for too.

use anabranch_catalog::{FreezeOutcome, Frozen, freeze};
use anabranch_model::{EventTime, NamespaceName, SliceName, WideTable};
use anabranch_split::planted::{Bug, planted};

use super::{Request, SliceKeeper};
use crate::errors::ServiceError;

impl SliceKeeper {
    /// Freezes a slice up to `before`, as far as that is justified. When it returns, every write that this
    /// server had admitted before has ended, and its writers go by what is frozen. Where this server alone
    /// uses the store, the freeze counts then, and the table of targets is there; where others use it
    /// too, it counts once `settle` has passed since, and some keeper makes the table.
    ///
    /// # Errors
    /// Those of the store; `SERVER_DRAINING`.
    pub async fn freeze(
        &self,
        namespace: &NamespaceName,
        slice: &SliceName,
        before: EventTime,
    ) -> Result<FreezeOutcome, ServiceError> {
        let keeping = &self.core;
        let (records, now) = (&*keeping.store.records, keeping.now());
        let outcome = freeze(records, namespace, slice, before, now).await;
        keeping.namespaces.note_change(namespace);
        let outcome = outcome?;
        let FreezeOutcome::Frozen(frozen) = outcome else {
            return Ok(outcome);
        };
        keeping.namespaces.changed_slices(namespace).await?;
        if !planted(Bug::OwnWritesNotSettled) {
            keeping.in_flight.settle().await;
        }
        if keeping.settings.shared_store || frozen.wide_table == WideTable::Made {
            return Ok(FreezeOutcome::Frozen(frozen));
        }
        let (of, named) = (namespace.clone(), slice.clone());
        self.ask(|done| Request::MakeWideTable {
            namespace: of,
            slice: named,
            done,
        })
        .await?;
        // Asked again for how it stands: it may have been opened in the meantime. What others froze
        // further since then was not waited for here.
        let outcome = freeze(records, namespace, slice, frozen.before, now).await?;
        Ok(match outcome {
            FreezeOutcome::Frozen(after) => FreezeOutcome::Frozen(Frozen {
                before: after.before.min(frozen.before),
                ..after
            }),
            other => other,
        })
    }
}

#[cfg(test)]
mod tests;
