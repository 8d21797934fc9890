//! What a worker in a process of its own can know of others' load: how much longer its own pages take than they need.
//!
//! The servers' latency is in other processes. But what keeps their readers waiting keeps a worker's reads of the same
//! store waiting too, and a worker that gives way to that gives way to whoever else is at the store.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::Clock;

/// Pages that are remembered.
const PAGES: usize = 512;
/// One in so many of them is as quick as what a page needs: the very quickest may have been lucky.
const QUICK: usize = 10;
/// Of the last so many the middle one says what a page takes now: one that was slow by itself changes nothing.
const LATEST: usize = 15;

/// How long a worker's pages have taken of late.
#[derive(Debug, Default)]
pub struct OwnPages(Mutex<VecDeque<Duration>>);

impl OwnPages {
    /// Reads a page, and counts it if it is a full one: the last one of a place may be short, and quick for that.
    ///
    /// # Errors
    /// Those of the read.
    pub async fn read<P, E>(
        &self,
        clock: &dyn Clock,
        page: impl Future<Output = Result<Option<P>, E>>,
        is_full: impl FnOnce(&P) -> bool,
    ) -> Result<Option<P>, E> {
        let asked = clock.elapsed();
        let page = page.await?;
        if page.as_ref().is_some_and(is_full) {
            self.observe(clock.elapsed().saturating_sub(asked));
        }
        Ok(page)
    }

    fn observe(&self, took: Duration) {
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pages.len() == PAGES {
            pages.pop_front();
        }
        pages.push_back(took);
    }

    /// Pages of another place begin: how quick they can be is not known yet.
    pub fn begin(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// How much longer pages take at present than the quicker ones of late; nothing while too few are known.
    pub fn excess(&self) -> Duration {
        let pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pages.len() < LATEST {
            return Duration::ZERO;
        }
        let mut latest: Vec<Duration> = pages.iter().rev().take(LATEST).copied().collect();
        latest.sort_unstable();
        let middle = latest.get(LATEST / 2).copied().unwrap_or_default();
        let mut all: Vec<Duration> = pages.iter().copied().collect();
        let (_, quick, _) = all.select_nth_unstable(pages.len() / QUICK);
        middle.saturating_sub(*quick)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(pages: impl IntoIterator<Item = u64>) -> Duration {
        let own = OwnPages::default();
        pages
            .into_iter()
            .for_each(|millis| own.observe(Duration::from_millis(millis)));
        own.excess()
    }

    #[test]
    fn a_store_that_becomes_slow_shows_and_one_slow_page_does_not() {
        assert_eq!(after([]), Duration::ZERO);
        assert_eq!(after([9; 14]), Duration::ZERO);
        assert_eq!(after([8; 100]), Duration::ZERO);
        assert_eq!(after([8; 100].into_iter().chain([900; 7])), Duration::ZERO);
        assert_eq!(
            after([8; 100].into_iter().chain([30; 8])),
            Duration::from_millis(22)
        );
        // And when it is quick again, that shows too.
        assert_eq!(
            after([8; 100].into_iter().chain([30; 50]).chain([8; 8])),
            Duration::ZERO
        );
    }

    #[test]
    fn what_was_quick_long_ago_is_forgotten() {
        let quick = [1; PAGES / QUICK + 1];
        assert_eq!(
            after(quick.into_iter().chain([8; PAGES - PAGES / QUICK - 1])),
            Duration::from_millis(7)
        );
        assert_eq!(after(quick.into_iter().chain([8; PAGES])), Duration::ZERO);
    }

    #[test]
    fn a_few_lucky_pages_are_not_what_a_page_needs() {
        assert_eq!(after([1].into_iter().chain([8; 100])), Duration::ZERO);
    }

    #[test]
    fn pages_of_another_place_are_not_held_against_these() {
        let own = OwnPages::default();
        (0..50).for_each(|_| own.observe(Duration::from_millis(2)));
        own.begin();
        (0..50).for_each(|_| own.observe(Duration::from_millis(30)));
        assert_eq!(own.excess(), Duration::ZERO);
    }
}
