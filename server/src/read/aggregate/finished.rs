//! Finished parts: their rows in pages, and where they are kept for the pages to come.

use std::sync::Arc;

use bytes::Bytes;
use moka::future::Cache;
use xxhash_rust::xxh3::xxh3_128;

use super::rows::RowKey;
use crate::errors::ServiceError;
use crate::read::cursor::{Cursor, Cut, Position, RowMark};
use crate::read::limits::ReadLimits;
use crate::read::reader::fingerprint;
use crate::read::request::{AggregatedValue, AggregationRow, Group, PAGE_BYTES};

/// Bytes of a row's key that a token holds.
const MARK_BYTES: usize = 256;
/// What a row takes beside its group and value.
const ROW_BYTES: usize = 64;

/// A part that has been computed.
#[derive(Debug)]
pub(super) struct Finished {
    /// Ascending by key.
    pub(super) rows: Vec<(RowKey, AggregationRow)>,
    /// Where the part ends; the walk's own end when `None`.
    pub(super) end: Option<Position>,
    /// What cut it there.
    pub(super) cut: Option<Cut>,
    pub(super) warnings: Vec<String>,
}

/// A page of a part's rows.
#[derive(Debug)]
pub(super) struct RowsPage {
    pub(super) rows: Vec<AggregationRow>,
    /// The last of them, when more follow.
    pub(super) more_after: Option<RowMark>,
}

impl Finished {
    /// The rows after a mark, at most `rows_max` and about `PAGE_BYTES`.
    pub(super) fn page(&self, after: Option<&RowMark>, rows_max: usize) -> RowsPage {
        let from = after.map_or(0, |mark| self.after(mark));
        let rest = self.rows.get(from..).unwrap_or_default();
        let mut rows = Vec::new();
        let mut bytes = 0;
        let mut last = None;
        for (key, row) in rest {
            let row_bytes = row_bytes(row);
            if rows.len() >= rows_max || (!rows.is_empty() && bytes + row_bytes > PAGE_BYTES) {
                break;
            }
            bytes += row_bytes;
            rows.push(row.clone());
            last = Some(key);
        }
        let more = rows.len() < rest.len();
        RowsPage {
            rows,
            more_after: last.filter(|_| more).map(|key| mark(key)),
        }
    }

    /// Index of the first row after a marked one. The row itself may have gone, or others have come.
    fn after(&self, mark: &RowMark) -> usize {
        let first = self
            .rows
            .partition_point(|(key, _)| short(key) < &mark.prefix[..]);
        let same = self
            .rows
            .iter()
            .enumerate()
            .skip(first)
            .take_while(|(_, (key, _))| short(key) == &mark.prefix[..])
            .find(|(_, (key, _))| xxh3_128(key) == mark.hash);
        match same {
            Some((index, _)) => index + 1,
            None => first,
        }
    }

    fn bytes(&self) -> usize {
        let rows = self.rows.iter();
        rows.map(|(key, row)| key.len() + row_bytes(row) + ROW_BYTES)
            .sum()
    }
}

fn mark(key: &[u8]) -> RowMark {
    RowMark {
        prefix: Bytes::copy_from_slice(short(key)),
        hash: xxh3_128(key),
    }
}

fn short(key: &[u8]) -> &[u8] {
    key.get(..MARK_BYTES).unwrap_or(key)
}

fn row_bytes(row: &AggregationRow) -> usize {
    let group = match &row.group {
        Some(Group::Item(value)) => value.len(),
        Some(Group::Time(_)) | None => 0,
    };
    let value = match &row.value {
        Some(AggregatedValue::Keyword(value)) => value.len(),
        _ => 0,
    };
    ROW_BYTES + group + value
}

/// Which part of which walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PartKey(u128);

impl PartKey {
    pub(super) fn of(cursor: &Cursor) -> Result<Self, ServiceError> {
        let end = cursor
            .rows
            .as_ref()
            .and_then(|rows| rows.page.as_ref())
            .map(|page| &page.part_end);
        fingerprint(&(cursor.fingerprint, cursor.interval, &cursor.position, end)).map(Self)
    }
}

/// Parts that were finished a little while ago, bounded in bytes.
#[derive(Debug)]
pub(in crate::read) struct FinishedParts(Cache<PartKey, Arc<Finished>>);

impl FinishedParts {
    pub(in crate::read) fn new(limits: &ReadLimits) -> Self {
        let cache = Cache::builder()
            .max_capacity(limits.aggregate_cache_bytes)
            .weigher(|_, part: &Arc<Finished>| u32::try_from(part.bytes()).unwrap_or(u32::MAX))
            .time_to_live(limits.aggregate_cache_ttl)
            .build();
        Self(cache)
    }

    pub(super) async fn get(&self, key: &PartKey) -> Option<Arc<Finished>> {
        self.0.get(key).await
    }

    /// Keeps a part for the page that comes next. The newest wins: what an earlier walk kept may lack events that were
    /// acked since.
    pub(super) async fn keep(&self, key: &PartKey, part: &Arc<Finished>) {
        self.0.insert(*key, part.clone()).await;
    }
}
