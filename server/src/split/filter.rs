//! One bloom filter a namespace and slice: may a partition be split?
//!
//! Filters are swapped whole, so a read never waits for a refresh. A filter that is behind says no where it should say
//! yes, or yes where the record says no: both cost time only (R3).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use anabranch_model::{NamespaceName, PartitionKey, SliceName};
use anabranch_runtime::Randomness;
use arc_swap::ArcSwap;
use bloomfilter::Bloom;
use xxhash_rust::xxh3::xxh3_128;

/// Share of partitions that are not split and are looked up all the same.
const FALSE_HITS: f64 = 0.01;

/// What the filter says of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FilterAnswer {
    /// It was not asked, or is not loaded.
    Off,
    /// The partition is not split.
    Miss,
    /// It may be.
    Hit,
}

/// What the filters of a namespace hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilterStatistics {
    /// Slices that have split partitions.
    pub slices: usize,
    /// Split partitions.
    pub partitions: usize,
    /// Bytes of the filters.
    pub bytes: u64,
}

/// A partition in a filter and in what it is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FilterKey(u128);

impl FilterKey {
    pub(super) fn of(partition: &PartitionKey) -> Self {
        let mut bytes = Vec::with_capacity(partition.time_series_id.as_bytes().len() + 12);
        bytes.extend_from_slice(&partition.time_bucket.to_le_bytes());
        bytes.extend_from_slice(&partition.event_bucket.to_le_bytes());
        bytes.extend_from_slice(partition.time_series_id.as_bytes());
        Self(xxh3_128(&bytes))
    }
}

/// The filter of a slice.
pub(super) struct SliceFilter {
    bloom: Bloom<u128>,
    partitions: usize,
}

impl fmt::Debug for SliceFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SliceFilter of {} partitions", self.partitions)
    }
}

/// The filters of a namespace. A slice without one has no split partitions.
pub(super) type NamespaceFilter = BTreeMap<SliceName, Arc<SliceFilter>>;

/// The filters of every namespace that is loaded.
#[derive(Debug)]
pub(super) struct SplitFilter {
    loaded: ArcSwap<BTreeMap<NamespaceName, Arc<NamespaceFilter>>>,
    seed: [u8; 32],
}

impl SplitFilter {
    pub(super) fn new(randomness: &Randomness) -> Self {
        let mut seed = [0; 32];
        randomness.fill(&mut seed);
        Self {
            loaded: ArcSwap::default(),
            seed,
        }
    }

    pub(super) fn ask(&self, namespace: &NamespaceName, partition: &PartitionKey) -> FilterAnswer {
        let loaded = self.loaded.load();
        let Some(slices) = loaded.get(namespace) else {
            return FilterAnswer::Off;
        };
        let key = FilterKey::of(partition);
        match slices.get(&partition.slice) {
            Some(filter) if filter.bloom.check(&key.0) => FilterAnswer::Hit,
            _ => FilterAnswer::Miss,
        }
    }

    /// A filter of these partitions; `None` when there are none.
    pub(super) fn build(&self, keys: &[FilterKey]) -> Option<Arc<SliceFilter>> {
        if keys.is_empty() {
            return None;
        }
        let mut bloom = Bloom::new_for_fp_rate_with_seed(keys.len(), FALSE_HITS, &self.seed).ok()?;
        for key in keys {
            bloom.set(&key.0);
        }
        let partitions = keys.len();
        Some(Arc::new(SliceFilter { bloom, partitions }))
    }

    /// What is loaded of a namespace.
    pub(super) fn of(&self, namespace: &NamespaceName) -> Option<Arc<NamespaceFilter>> {
        self.loaded.load().get(namespace).cloned()
    }

    /// Called by one refresh at a time.
    pub(super) fn publish(&self, namespace: &NamespaceName, filter: NamespaceFilter) {
        let mut loaded = BTreeMap::clone(&self.loaded.load());
        loaded.insert(namespace.clone(), Arc::new(filter));
        self.loaded.store(Arc::new(loaded));
    }

    /// Unloads the other namespaces.
    pub(super) fn keep_only(&self, keep: impl Fn(&NamespaceName) -> bool) {
        let loaded = self.loaded.load();
        if loaded.keys().all(&keep) {
            return;
        }
        let mut kept = BTreeMap::clone(&loaded);
        kept.retain(|namespace, _| keep(namespace));
        self.loaded.store(Arc::new(kept));
    }

    pub(super) fn statistics(&self, namespace: &NamespaceName) -> Option<FilterStatistics> {
        self.of(namespace).map(|filter| statistics(&filter))
    }

    /// Of everything that is loaded.
    pub(super) fn total(&self) -> FilterStatistics {
        let loaded = self.loaded.load();
        let all = loaded.values().map(|filter| statistics(filter));
        all.fold(FilterStatistics::default(), |sum, one| FilterStatistics {
            slices: sum.slices + one.slices,
            partitions: sum.partitions + one.partitions,
            bytes: sum.bytes + one.bytes,
        })
    }
}

fn statistics(filter: &NamespaceFilter) -> FilterStatistics {
    FilterStatistics {
        slices: filter.len(),
        partitions: filter.values().map(|slice| slice.partitions).sum(),
        bytes: filter.values().map(|slice| slice.bloom.len() / 8).sum(),
    }
}

#[cfg(test)]
mod tests {
    use anabranch_model::TimeSeriesId;

    use super::*;

    fn partition(n: usize) -> PartitionKey {
        PartitionKey {
            slice: SliceName::new("all").unwrap(),
            time_series_id: TimeSeriesId::new(format!("id{n}")).unwrap(),
            time_bucket: 7,
            event_bucket: 1,
        }
    }

    #[test]
    fn what_is_in_it_hits_and_almost_nothing_else_does() {
        let filter = SplitFilter::new(&Randomness::from_seed(1));
        let namespace = NamespaceName::new("ns").unwrap();
        assert_eq!(filter.ask(&namespace, &partition(0)), FilterAnswer::Off);
        let keys: Vec<FilterKey> = (0..1_000).map(|n| FilterKey::of(&partition(n))).collect();
        let slice = filter.build(&keys).unwrap();
        filter.publish(&namespace, [(partition(0).slice, slice)].into());
        let hits = |range: std::ops::Range<usize>| {
            range
                .filter(|n| filter.ask(&namespace, &partition(*n)) == FilterAnswer::Hit)
                .count()
        };
        assert_eq!(hits(0..1_000), 1_000);
        let false_hits = hits(1_000..11_000);
        assert!(false_hits < 300, "{false_hits} of 10,000");
        assert_eq!(filter.total().partitions, 1_000);
        filter.keep_only(|_| false);
        assert_eq!(filter.ask(&namespace, &partition(0)), FilterAnswer::Off);
    }
}
