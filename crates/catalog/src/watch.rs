//! Which split records need someone: looks again only where something changed.
//!
//! ```text
//! markers, slices, settings ─▶ shards that may have changed ─▶ their records ─▶ look ─▶ those that need someone
//! ```
//!
//! - A shard is listed again when its marker moved, when its slice or its namespace's settings did, when a record of it
//!   is due, and every `whole_sweep`, in case a marker was lost.
//! - What is not listed again has not changed, so the counts of states are those of all records.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anabranch_model::time::MICROS_PER_SECOND;
use anabranch_model::{EventTime, NamespaceName, PartitionKey, SliceName, SliceState};
use anabranch_split::SplitState;
use anabranch_storage::{SplitRecords, StoreError, StoredSplit, split_shard};

use crate::load::LoadedNamespace;

/// Records listed at once.
const LIST_MAX: usize = 500;

/// When a record has to be looked at again although nothing of it changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Not before something changes.
    Change,
    /// At this time by the wall.
    At(EventTime),
    /// In the next sweep.
    Next,
}

/// What became of looking at a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It needs the one who looks, now. It is looked at again in the next sweep.
    Needed,
    /// It does not, until then.
    Idle(Wake),
}

/// What one process has seen of the split records.
#[derive(Debug)]
pub struct SplitWatch {
    splits: SplitRecords,
    whole_sweep: Duration,
    seen: BTreeMap<NamespaceName, Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Version of the namespace's record.
    version: u64,
    slices: BTreeMap<SliceName, (u64, SliceState, bool)>,
    shards: BTreeMap<ShardName, Shard>,
    /// When everything was listed last, by elapsed time.
    whole: Option<Duration>,
}

type ShardName = (SliceName, u8);

#[derive(Clone, Debug, Default)]
struct Shard {
    marker: Option<u64>,
    due: bool,
    wake: Option<EventTime>,
    states: BTreeMap<&'static str, u64>,
    stalled: Option<EventTime>,
}

impl Shard {
    fn look_at(&mut self, stored: &StoredSplit, look: Look) {
        *self.states.entry(stored.record.state.name()).or_default() += 1;
        match look {
            Look::Needed | Look::Idle(Wake::Next) => self.due = true,
            Look::Idle(Wake::At(at)) => self.wake = Some(self.wake.map_or(at, |before| before.min(at))),
            Look::Idle(Wake::Change) => {}
        }
        // What was found wide and is left at that, by a rollout that only detects, waits for nobody.
        let left = stored.record.state == SplitState::Detected && look == Look::Idle(Wake::Change);
        if under_way(&stored.record.state) && !left {
            let updated = stored.record.updated;
            self.stalled = Some(self.stalled.map_or(updated, |before| before.min(updated)));
        }
    }
}

fn under_way(state: &SplitState) -> bool {
    matches!(
        state,
        SplitState::Detected
            | SplitState::Planning { .. }
            | SplitState::Planned { .. }
            | SplitState::Splitting { .. }
            | SplitState::Verifying { .. }
            | SplitState::Failed { .. }
    )
}

impl SplitWatch {
    /// A watch that has seen nothing.
    pub fn new(splits: SplitRecords, whole_sweep: Duration) -> Self {
        Self {
            splits,
            whole_sweep,
            seen: BTreeMap::new(),
        }
    }

    /// Looks at every record of a namespace that may have changed since the last sweep; those that are needed, by key.
    ///
    /// # Errors
    /// Those of the store; what was not looked at is looked at in the next sweep.
    pub async fn sweep(
        &mut self,
        namespace: &LoadedNamespace,
        elapsed: Duration,
        now: EventTime,
        look: &mut (dyn FnMut(&StoredSplit) -> Look + Send),
    ) -> Result<Vec<StoredSplit>, StoreError> {
        let name = &namespace.name;
        // Before the records: what moves after this is seen in the next sweep.
        let markers = self.splits.markers(name).await?;
        let seen = self.seen.entry(name.clone()).or_default();
        let slices = slices_of(namespace);
        let whole_due = seen
            .whole
            .is_none_or(|at| elapsed.saturating_sub(at) >= self.whole_sweep);
        if whole_due || seen.version != namespace.version {
            return self.sweep_whole(namespace, markers, slices, elapsed, look).await;
        }
        let changed: BTreeSet<&SliceName> = slices
            .iter()
            .filter(|(slice, stands)| seen.slices.get(*slice) != Some(stands))
            .map(|(slice, _)| slice)
            .collect();
        let mut stale: BTreeSet<ShardName> = BTreeSet::new();
        for (shard, marker) in &markers {
            let known = seen.shards.get(shard);
            if known.is_none_or(|known| known.marker != Some(*marker)) || changed.contains(&shard.0) {
                stale.insert(shard.clone());
            }
        }
        for (shard, known) in &seen.shards {
            if known.due || known.wake.is_some_and(|at| at <= now) || !markers.contains_key(shard) {
                stale.insert(shard.clone());
            }
        }
        let mut needed = Vec::new();
        for shard in stale {
            let mut fresh = Shard {
                marker: markers.get(&shard).copied(),
                ..Shard::default()
            };
            for stored in self.splits.shard(name, &shard.0, shard.1).await? {
                let found = look(&stored);
                fresh.look_at(&stored, found);
                if found == Look::Needed {
                    needed.push(stored);
                }
            }
            if fresh.marker.is_none() && fresh.states.is_empty() {
                seen.shards.remove(&shard);
            } else {
                seen.shards.insert(shard, fresh);
            }
        }
        seen.slices = slices;
        Ok(needed)
    }

    async fn sweep_whole(
        &mut self,
        namespace: &LoadedNamespace,
        markers: BTreeMap<ShardName, u64>,
        slices: BTreeMap<SliceName, (u64, SliceState, bool)>,
        elapsed: Duration,
        look: &mut (dyn FnMut(&StoredSplit) -> Look + Send),
    ) -> Result<Vec<StoredSplit>, StoreError> {
        let mut shards: BTreeMap<ShardName, Shard> = BTreeMap::new();
        for (shard, marker) in markers {
            let marker = Some(marker);
            let fresh = Shard {
                marker,
                ..Shard::default()
            };
            shards.insert(shard, fresh);
        }
        let (mut needed, mut after): (Vec<StoredSplit>, Option<PartitionKey>) = (Vec::new(), None);
        loop {
            let page = self
                .splits
                .list(&namespace.name, after.as_ref(), LIST_MAX)
                .await?;
            let ended = page.len() < LIST_MAX;
            after = page.last().map(|stored| stored.record.partition.clone());
            for stored in page {
                let found = look(&stored);
                let shard = shard_of(&stored.record.partition);
                shards.entry(shard).or_default().look_at(&stored, found);
                if found == Look::Needed {
                    needed.push(stored);
                }
            }
            if ended {
                break;
            }
        }
        let seen = Seen {
            version: namespace.version,
            slices,
            shards,
            whole: Some(elapsed),
        };
        self.seen.insert(namespace.name.clone(), seen);
        Ok(needed)
    }

    /// Has a partition's record looked at in the next sweep, whatever its marker says.
    pub fn note(&mut self, namespace: &NamespaceName, partition: &PartitionKey) {
        if let Some(seen) = self.seen.get_mut(namespace) {
            seen.shards.entry(shard_of(partition)).or_default().due = true;
        }
    }

    /// Forgets every namespace but these; returns those that were known.
    pub fn retain(&mut self, names: &BTreeSet<NamespaceName>) -> Vec<NamespaceName> {
        let gone = self.seen.extract_if(.., |name, _| !names.contains(name));
        gone.map(|(name, _)| name).collect()
    }

    /// Records of a namespace by state; those states too in which there is none.
    pub fn states(&self, namespace: &NamespaceName) -> BTreeMap<&'static str, u64> {
        let mut states: BTreeMap<_, _> = SplitState::NAMES.map(|state| (state, 0)).into();
        for shard in self
            .seen
            .get(namespace)
            .iter()
            .flat_map(|seen| seen.shards.values())
        {
            for (state, count) in &shard.states {
                *states.entry(*state).or_default() += count;
            }
        }
        states
    }

    /// Whole seconds since the record that is under way and has stood still the longest was changed; 0 when none is.
    pub fn stalled_seconds(&self, now: EventTime) -> i64 {
        self.stalled_since().map_or(0, |since| {
            now.micros().saturating_sub(since.micros()) / MICROS_PER_SECOND
        })
    }

    /// When the record that is under way and has stood still the longest was changed last.
    fn stalled_since(&self) -> Option<EventTime> {
        let shards = self.seen.values().flat_map(|seen| seen.shards.values());
        shards.filter_map(|shard| shard.stalled).min()
    }
}

fn shard_of(partition: &PartitionKey) -> ShardName {
    (partition.slice.clone(), split_shard(&partition.time_series_id))
}

fn slices_of(namespace: &LoadedNamespace) -> BTreeMap<SliceName, (u64, SliceState, bool)> {
    let slices = namespace.slices.iter().map(|loaded| &loaded.record.slice);
    slices
        .map(|slice| {
            let stands = (slice.epoch, slice.state, slice.opening_since.is_some());
            (slice.name.clone(), stands)
        })
        .collect()
}

#[cfg(test)]
mod tests;
