//! Choices that one seed decides.

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

/// The same choices from the same seed.
pub(crate) struct Dice(StdRng);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0.random_range(0..end)
    }

    pub(crate) fn between(&mut self, first: i128, last: i128) -> i128 {
        self.0.random_range(first..=last)
    }

    pub(crate) fn chance(&mut self, chance: f64) -> bool {
        self.0.random_bool(chance)
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        self.0.random()
    }

    pub(crate) fn blob(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// Each with this chance, in their order.
    pub(crate) fn some<T: Clone>(&mut self, of: &[T], chance: f64) -> Vec<T> {
        of.iter().filter(|_| self.chance(chance)).cloned().collect()
    }
}
