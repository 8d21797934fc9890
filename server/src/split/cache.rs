//! Split records that were looked up a little while ago; that there is none, or none that can be read, too.
//!
//! - R3: a record that is behind is still one that was valid: what its targets need to be served is checked against
//!   the view of each request, and targets are removed only when this cache must have let go of them everywhere.

use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anabranch_model::{NamespaceName, PartitionKey};
use anabranch_runtime::Clock;
use anabranch_split::planted::{Bug, planted};
use anabranch_split::{Serving, UnreadableRecord};
use anabranch_storage::{SplitRecords, SplitSlot, StoreError};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::SplitsSettings;

type Key = (NamespaceName, PartitionKey);

/// What stands under a partition.
#[derive(Clone, Debug)]
pub(super) enum Found {
    /// This may be served.
    Serving(Arc<Serving>),
    /// Nothing may.
    Nothing,
    /// A record that can not be read.
    Unreadable(UnreadableRecord),
}

#[derive(Clone, Debug)]
struct Looked {
    found: Found,
    /// On the clock's elapsed time, before it was looked up. Not the cache's own expiry: its clock can not be moved.
    at: Duration,
}

/// Not the cache for futures: that one does its housekeeping by the machine's clock and waits in between, so that one
/// seed would not replay.
#[derive(Debug)]
pub(super) struct RecordCache {
    records: SplitRecords,
    clock: Arc<dyn Clock>,
    cache: Cache<Key, Looked, BuildHasherDefault<DefaultHasher>>,
    ttl: Duration,
    forgotten: AtomicU64,
}

impl RecordCache {
    pub(super) fn new(records: SplitRecords, clock: Arc<dyn Clock>, settings: &SplitsSettings) -> Self {
        Self {
            records,
            clock,
            cache: Cache::builder()
                .max_capacity(settings.record_cache_max)
                .eviction_policy(EvictionPolicy::lru())
                .build_with_hasher(BuildHasherDefault::default()),
            ttl: settings.record_cache_ttl,
            forgotten: AtomicU64::new(0),
        }
    }

    /// What may be served of a partition.
    pub(super) async fn find(
        &self,
        namespace: &NamespaceName,
        partition: &PartitionKey,
    ) -> Result<Found, StoreError> {
        let key = (namespace.clone(), partition.clone());
        let now = self.clock.elapsed();
        if let Some(looked) = self.cache.get(&key)
            && (now.saturating_sub(looked.at) < self.ttl || planted(Bug::CacheNeverExpires))
        {
            return Ok(looked.found);
        }
        let forgotten = self.forgotten.load(Ordering::SeqCst);
        let found = match self.records.look_up(namespace, partition).await? {
            SplitSlot::Taken(stored) => match stored.record.serving {
                Some(serving) => Found::Serving(Arc::new(serving)),
                None => Found::Nothing,
            },
            SplitSlot::Free { .. } => Found::Nothing,
            SplitSlot::Unreadable(unreadable) => Found::Unreadable(unreadable.why),
        };
        let looked = Looked {
            found: found.clone(),
            at: now,
        };
        self.cache.insert(key.clone(), looked);
        // What was read before somebody changed the record must not stay behind the change.
        if self.forgotten.load(Ordering::SeqCst) != forgotten {
            self.cache.invalidate(&key);
        }
        Ok(found)
    }

    pub(super) async fn forget(&self, namespace: &NamespaceName, partition: &PartitionKey) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        self.cache.invalidate(&(namespace.clone(), partition.clone()));
    }
}
