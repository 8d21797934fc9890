//! How many rows to ask for, when a page is meant to end by its bytes.
//!
//! Cassandra counts the rows of a page, not its bytes: so the rows of a table are measured as they come, and a page
//! asks for as many as are likely to fill it. A wrong guess costs another page, or rows that are read for nothing;
//! it never changes what is answered.

use std::sync::atomic::{AtomicU64, Ordering};

/// Rows of a page of a table that was never read: of the largest values it would be 64 MiB.
const ROWS_FIRST: u64 = 64;
/// Two, so that the first of two events is seen to end.
const ROWS_MIN: u64 = 2;
const ROWS_MAX: u64 = 5_000;
/// Bytes of a page at most, as far as can be told.
const PAGE_BYTES_MAX: u64 = 4 << 20;
/// Weight of what was seen before, in eighths.
const KEPT: u64 = 7;

/// What the rows of a table are like.
#[derive(Debug, Default)]
pub(super) struct Density {
    /// Bytes of a row; 0: not known.
    row_bytes: AtomicU64,
    /// Rows of 16 events; 0: not known.
    rows_of_16: AtomicU64,
}

impl Density {
    /// Learns from a page.
    pub(super) fn observe(&self, events: usize, rows: usize, bytes: u64) {
        let (events, rows) = (events as u64, rows as u64);
        if let (Some(row_bytes), Some(rows_of_16)) =
            (bytes.checked_div(rows), (rows * 16).checked_div(events))
        {
            blend(&self.row_bytes, row_bytes.max(1));
            blend(&self.rows_of_16, rows_of_16.max(16));
        }
    }

    /// Rows to ask for to get so many events, but not many more bytes.
    pub(super) fn rows_for(&self, events: usize, bytes: u64) -> i32 {
        let row_bytes = self.row_bytes.load(Ordering::Relaxed);
        let rows = match row_bytes {
            0 => ROWS_FIRST,
            row_bytes => {
                let by_bytes = bytes.min(PAGE_BYTES_MAX) / row_bytes;
                let by_events = (events as u64).saturating_mul(self.rows_of_16.load(Ordering::Relaxed)) / 16;
                by_bytes.min(by_events)
            }
        };
        // One more, by which the last is seen to end.
        let rows = rows.saturating_add(1).clamp(ROWS_MIN, ROWS_MAX);
        i32::try_from(rows).unwrap_or(i32::MAX)
    }
}

fn blend(average: &AtomicU64, seen: u64) {
    let average_before = average.load(Ordering::Relaxed);
    let blended = match average_before {
        0 => seen,
        before => (before * KEPT).saturating_add(seen) / (KEPT + 1),
    };
    average.store(blended.max(1), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_what_rows_are_like() {
        let density = Density::default();
        assert_eq!(density.rows_for(1_000, 2 << 20), 65);
        // Events of two rows, 500 bytes each.
        density.observe(100, 200, 100_000);
        assert_eq!(density.rows_for(10, 2 << 20), 21);
        assert_eq!(density.rows_for(1_000_000, 50_000), 101);
        assert_eq!(density.rows_for(1_000_000, u64::MAX), 5_000);
        // A row that is larger than a page.
        for _ in 0..100 {
            density.observe(1, 1, 1 << 20);
        }
        assert_eq!(density.rows_for(1_000, 1_000), 2);
        assert!(density.rows_for(1_000, u64::MAX) <= 6);
    }

    #[test]
    fn an_empty_page_teaches_nothing() {
        let density = Density::default();
        density.observe(0, 0, 0);
        assert_eq!(density.rows_for(10, 1), 65);
    }
}
