//! Everything that a world leaves to chance, from its one seed.

use std::time::Duration;

use anabranch_runtime::Randomness;

/// A stream of choices. Each actor and each process has its own, so that what one does leaves the others' choices alone.
#[derive(Clone, Debug)]
pub(crate) struct Dice(Randomness);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Randomness::from_seed(seed))
    }

    /// Another stream that starts from this one.
    pub(crate) fn fork(&self) -> Self {
        Self::new(self.0.next_u64())
    }

    /// The stream itself, for a component that is given randomness.
    pub(crate) fn randomness(&self) -> Randomness {
        Randomness::from_seed(self.0.next_u64())
    }

    /// A number below `end`; 0 when there is none.
    pub(crate) fn below(&self, end: u64) -> u64 {
        self.0.next_u64() % end.max(1)
    }

    /// A number from `first` to `last`, both included.
    pub(crate) fn within(&self, first: i64, last: i64) -> i64 {
        let width = u64::try_from(last.saturating_sub(first)).unwrap_or(0);
        first.saturating_add(i64::try_from(self.below(width + 1)).unwrap_or(0))
    }

    /// True so many times in a thousand.
    pub(crate) fn chance(&self, of_a_thousand: u32) -> bool {
        self.below(1_000) < u64::from(of_a_thousand)
    }

    /// One of these; `None` when there are none.
    pub(crate) fn pick<'a, T>(&self, of: &'a [T]) -> Option<&'a T> {
        let at = usize::try_from(self.below(of.len() as u64)).ok()?;
        of.get(at)
    }

    /// A duration from `shortest` to `longest`, in whole milliseconds: timers know no finer ones.
    pub(crate) fn duration(&self, shortest: Duration, longest: Duration) -> Duration {
        let width = longest.saturating_sub(shortest).as_millis();
        let extra = self.below(u64::try_from(width).unwrap_or(u64::MAX - 1) + 1);
        shortest + Duration::from_millis(extra)
    }
}
