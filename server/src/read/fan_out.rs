//! How many partitions a walk opens in parallel.
//!
//! Dense partitions fill a page one by one, and opening more is waste; sparse ones are opened many at
//! once. What a walk finds out about an id is remembered as a hint for the next, in a table of fixed
//! size where ids may collide: a wrong hint costs time only.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicU8, Ordering};

use anabranch_model::NamespaceName;

const HINTS: usize = 4_096;

/// Fan-out of one walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FanOut {
    now: usize,
    widest: usize,
    max: usize,
}

impl FanOut {
    pub(super) fn new(start: usize, max: usize) -> Self {
        let now = start.clamp(1, max.max(1));
        Self {
            now,
            widest: now,
            max: max.max(1),
        }
    }

    pub(super) fn now(self) -> usize {
        self.now
    }

    /// As wide as it may become: for partitions of one cell, which are all needed whatever they hold.
    pub(super) fn max(self) -> usize {
        self.max
    }

    pub(super) fn widest(self) -> usize {
        self.widest
    }

    /// Takes in that a cell of some partitions held `rows` events, of the `wanted` that were still
    /// missing.
    pub(super) fn learn(&mut self, rows: usize, wanted: usize) {
        if rows.saturating_mul(2) >= wanted {
            self.now = (self.now / 2).max(1);
        } else if rows.saturating_mul(self.now) < wanted {
            self.now = (self.now * 2).min(self.max);
            self.widest = self.widest.max(self.now);
        }
    }
}

/// Fan-outs that walks ended with.
#[derive(Debug)]
pub(super) struct Hints {
    hints: Vec<AtomicU8>,
    start: usize,
}

impl Hints {
    pub(super) fn new(start: usize) -> Self {
        Self {
            hints: (0..HINTS).map(|_| AtomicU8::new(0)).collect(),
            start,
        }
    }

    /// Where a walk should start.
    pub(super) fn start(&self, namespace: &NamespaceName, id: &str) -> usize {
        match self.slot(namespace, id).map(|hint| hint.load(Ordering::Relaxed)) {
            None | Some(0) => self.start,
            Some(hint) => usize::from(hint),
        }
    }

    /// Keeps what a walk ended with.
    pub(super) fn keep(&self, namespace: &NamespaceName, id: &str, fan_out: FanOut) {
        if let Some(hint) = self.slot(namespace, id) {
            hint.store(u8::try_from(fan_out.now()).unwrap_or(u8::MAX), Ordering::Relaxed);
        }
    }

    fn slot(&self, namespace: &NamespaceName, id: &str) -> Option<&AtomicU8> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one((namespace.as_str(), id));
        self.hints.get(usize::try_from(hash % HINTS as u64).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dense_cells_narrow_and_sparse_ones_widen_it_within_bounds() {
        let mut fan_out = FanOut::new(8, 32);
        for _ in 0..10 {
            fan_out.learn(1, 1_000);
        }
        assert_eq!((fan_out.now(), fan_out.widest()), (32, 32));
        for _ in 0..10 {
            fan_out.learn(900, 1_000);
        }
        assert_eq!(fan_out.now(), 1);
    }

    #[test]
    fn what_was_learnt_of_an_id_is_where_its_next_walk_starts() {
        let hints = Hints::new(8);
        let namespace = NamespaceName::new("ns").unwrap();
        assert_eq!(hints.start(&namespace, "id"), 8);
        hints.keep(&namespace, "id", FanOut::new(1, 32));
        assert_eq!(hints.start(&namespace, "id"), 1);
    }
}
