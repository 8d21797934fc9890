//! Where one request reads its partitions, and what came of it.
//!
//! - R2, R3: when targets can not be read, or turn out not to hold what was proved, the whole page is read again from its
//!   cursor without them: nothing of it has left the server yet.
//! - Only what the store has answered proves damage. A call that failed says nothing of what is stored: the split stays.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anabranch_model::PartitionKey;
use anabranch_split::{Serving, SplitReason};

use super::segments::Expected;
use crate::context::{ResponseContext, ServedFrom};
use crate::namespaces::ReadView;
use crate::split::{Damage, FilterAnswer, OriginalReason, Splits, Way};

#[derive(Debug)]
pub(super) struct Diversion {
    view: ReadView,
    splits: Option<Splits>,
    way: Way,
    noted: Mutex<Noted>,
}

#[derive(Clone, Debug, Default)]
struct Noted {
    filter: Option<FilterAnswer>,
    originals: bool,
    targets: bool,
    /// The newest generation that was read from.
    generation: u32,
    /// Something could have been read from targets, if the rollout had let it.
    could: bool,
    served: BTreeMap<PartitionKey, Arc<Serving>>,
    troubled: bool,
    /// Partitions whose targets do not hold what was proved, and the generation that was served.
    damaged: BTreeMap<PartitionKey, u32>,
}

impl Diversion {
    pub(super) fn new(view: ReadView, splits: Option<Splits>, way: Way) -> Self {
        Self {
            view,
            splits,
            way,
            noted: Mutex::default(),
        }
    }

    /// The same request once more, from originals.
    pub(super) fn again(&self) -> Self {
        let again = Self::new(self.view.clone(), self.splits.clone(), Way::Originals);
        again.noted().filter = self.noted().filter;
        again
    }

    pub(super) fn view(&self) -> &ReadView {
        &self.view
    }

    /// What a partition is served from instead of its original, if anything.
    pub(super) async fn serving(&self, partition: &PartitionKey) -> Option<Arc<Serving>> {
        let splits = self.splits.as_ref().filter(|_| self.way != Way::Originals);
        let Some(splits) = splits else {
            let mut noted = self.noted();
            noted.filter = noted.filter.max(Some(FilterAnswer::Off));
            return None;
        };
        let route = splits.route(&self.view, partition, self.way).await;
        let mut noted = self.noted();
        noted.filter = noted.filter.max(Some(route.filter));
        noted.could |= route.serving.is_some();
        if let Some(reason) = route.original {
            splits.metrics().read_original(reason);
            return None;
        }
        if let Some(serving) = &route.serving {
            splits.metrics().read_targets();
            noted.served.insert(partition.clone(), serving.clone());
        }
        route.serving
    }

    pub(super) fn note_original(&self) {
        self.noted().originals = true;
    }

    pub(super) fn note_target(&self, expected: &Expected) {
        let mut noted = self.noted();
        noted.targets = true;
        noted.generation = noted.generation.max(expected.generation);
    }

    /// A target of a partition could not be read, or held something else: `proven` when what is stored is wrong.
    pub(super) fn trouble(&self, partition: &PartitionKey, reason: OriginalReason, proven: bool) {
        let mut noted = self.noted();
        noted.troubled = true;
        if proven {
            let serving = noted.served.get(partition);
            let generation = serving.map_or(0, |serving| serving.generation);
            noted.damaged.insert(partition.clone(), generation);
        }
        if let Some(splits) = &self.splits {
            splits.metrics().read_original(reason);
        }
    }

    pub(super) fn troubled(&self) -> bool {
        self.noted().troubled
    }

    /// True when something could have been read from targets, if the rollout had let it.
    pub(super) fn could_divert(&self) -> bool {
        self.noted().could
    }

    /// The partitions that were read from targets.
    pub(super) fn served(&self) -> BTreeMap<PartitionKey, Arc<Serving>> {
        self.noted().served.clone()
    }

    /// Has the records of damaged partitions invalidated.
    pub(super) async fn report(&self) {
        let Some(splits) = &self.splits else {
            return;
        };
        let damaged = std::mem::take(&mut self.noted().damaged);
        for (partition, generation) in damaged {
            splits
                .report(Damage {
                    namespace: self.view.name.clone(),
                    partition,
                    generation,
                    reason: SplitReason::TargetDamaged,
                })
                .await;
        }
    }

    pub(super) fn describe(&self, context: &mut ResponseContext) {
        let noted = self.noted();
        context.split_filter = noted.filter;
        context.split_generation = noted.generation;
        context.served_from = match (noted.originals, noted.targets) {
            (false, false) => None,
            (true, false) => Some(ServedFrom::Original),
            (false, true) => Some(ServedFrom::Targets),
            (true, true) => Some(ServedFrom::Mixed),
        };
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
