//! Keeps the filters up to date at a cost that follows what changed.
//!
//! ```text
//! markers ─moved─▶ the shard's records ─▶ its keys ─▶ the slice's filter, built again ─▶ swapped
//!    └ from time to time: every record, in case a marker was not moved
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anabranch_model::namespace::Rollout;
use anabranch_model::{NamespaceName, SliceName};
use anabranch_runtime::{Clock, error_chain};
use anabranch_split::planted::{Bug, planted};
use anabranch_storage::{ListedSplit, SplitRecords, StoreError, split_shard};
use tokio::sync::Mutex;
use tracing::warn;

use super::filter::{FilterKey, SplitFilter};
use super::metrics::SplitMetrics;
use crate::namespaces::Namespaces;

/// Records asked for at once.
const LIST_MAX: usize = 500;

type Shard = (SliceName, u8);

#[derive(Debug)]
pub(super) struct Refresher {
    records: SplitRecords,
    namespaces: Namespaces,
    filter: Arc<SplitFilter>,
    clock: Arc<dyn Clock>,
    metrics: Arc<SplitMetrics>,
    rebuild: Duration,
    known: Mutex<BTreeMap<NamespaceName, Known>>,
}

/// What the filters of a namespace are made from.
#[derive(Debug, Default)]
struct Known {
    markers: BTreeMap<Shard, u64>,
    keys: BTreeMap<Shard, Vec<FilterKey>>,
    /// When every record was listed last.
    listed_at: Option<Duration>,
}

impl Refresher {
    pub(super) fn new(
        records: SplitRecords,
        namespaces: Namespaces,
        filter: Arc<SplitFilter>,
        clock: Arc<dyn Clock>,
        metrics: Arc<SplitMetrics>,
        rebuild: Duration,
    ) -> Self {
        Self {
            records,
            namespaces,
            filter,
            clock,
            metrics,
            rebuild,
            known: Mutex::default(),
        }
    }

    /// Brings the filters of every namespace that asks them up to date.
    pub(super) async fn refresh(&self) {
        let mut known = self.known.lock().await;
        let asks = |rollout| matches!(rollout, Rollout::Serve | Rollout::Compare);
        let wanted: BTreeSet<NamespaceName> = self
            .namespaces
            .known()
            .iter()
            .filter(|loaded| loaded.record.deleting_since.is_none())
            .filter(|loaded| asks(loaded.record.settings.wide_partition.rollout))
            .map(|loaded| loaded.name.clone())
            .collect();
        known.retain(|namespace, _| wanted.contains(namespace));
        self.filter.keep_only(|namespace| wanted.contains(namespace));
        for namespace in wanted {
            let of = known.entry(namespace.clone()).or_default();
            if let Err(error) = self.refresh_namespace(&namespace, of).await {
                self.failed(&namespace, &error);
            }
        }
        self.metrics.filter(self.filter.total());
    }

    async fn refresh_namespace(
        &self,
        namespace: &NamespaceName,
        known: &mut Known,
    ) -> Result<(), StoreError> {
        let now = self.clock.elapsed();
        // Before the records: a marker moves after its record, so the records are at least as new.
        let markers = self.records.markers(namespace).await?;
        let every = known
            .listed_at
            .is_none_or(|at| now.saturating_sub(at) >= self.rebuild);
        let mut changed = BTreeSet::new();
        if every {
            let keys = self.list_all(namespace).await?;
            let shards = keys.keys().chain(known.keys.keys());
            changed.extend(shards.map(|(slice, _)| slice.clone()));
            known.keys = keys;
            known.markers.clone_from(&markers);
            known.listed_at = Some(now);
        }
        for (shard, version) in &markers {
            if known.markers.get(shard) == Some(version) {
                continue;
            }
            self.metrics.shards_listed.inc();
            match self.records.shard(namespace, &shard.0, shard.1).await {
                Ok(records) => {
                    let keys = records.iter().filter_map(key).collect();
                    known.keys.insert(shard.clone(), keys);
                    known.markers.insert(shard.clone(), *version);
                    changed.insert(shard.0.clone());
                }
                Err(error) => self.failed(namespace, &error),
            }
        }
        // Retention and deletion remove markers with the records.
        let gone = known.markers.keys().filter(|shard| !markers.contains_key(*shard));
        for shard in gone.cloned().collect::<Vec<_>>() {
            known.markers.remove(&shard);
            known.keys.remove(&shard);
            changed.insert(shard.0);
        }
        self.publish(namespace, known, &changed);
        Ok(())
    }

    async fn list_all(
        &self,
        namespace: &NamespaceName,
    ) -> Result<BTreeMap<Shard, Vec<FilterKey>>, StoreError> {
        let mut keys: BTreeMap<Shard, Vec<FilterKey>> = BTreeMap::new();
        let mut after = None;
        loop {
            let page = self.records.list(namespace, after.as_ref(), LIST_MAX).await?;
            for listed in &page {
                let partition = listed.partition();
                let shard = (partition.slice.clone(), split_shard(&partition.time_series_id));
                keys.entry(shard).or_default().extend(key(listed));
            }
            match page.last() {
                Some(last) if page.len() == LIST_MAX => after = Some(last.partition().clone()),
                _ => return Ok(keys),
            }
        }
    }

    fn publish(&self, namespace: &NamespaceName, known: &Known, changed: &BTreeSet<SliceName>) {
        let loaded = self.filter.of(namespace);
        if loaded.is_some() && (changed.is_empty() || planted(Bug::FilterNeverRebuilt)) {
            return;
        }
        let mut filters = loaded.map_or_else(BTreeMap::new, |loaded| BTreeMap::clone(&loaded));
        for slice in changed {
            let shards = known.keys.iter().filter(|((of, _), _)| of == slice);
            let keys: Vec<FilterKey> = shards.flat_map(|(_, keys)| keys.iter().copied()).collect();
            match self.filter.build(&keys) {
                Some(filter) => filters.insert(slice.clone(), filter),
                None => filters.remove(slice),
            };
        }
        self.filter.publish(namespace, filters);
    }

    fn failed(&self, namespace: &NamespaceName, error: &StoreError) {
        self.metrics.filter_failures.inc();
        warn!(%namespace, error = error_chain(error), "split filter could not be brought up to date");
    }
}

/// The key of a record that a read has to look up: one that it may use, or one that can not be read, so that its reads
/// are counted as what they are.
fn key(listed: &ListedSplit) -> Option<FilterKey> {
    let looked_up = match listed {
        ListedSplit::Read(stored) => stored.record.serving.is_some(),
        ListedSplit::Unreadable(_) => true,
    };
    looked_up.then(|| FilterKey::of(listed.partition()))
}
