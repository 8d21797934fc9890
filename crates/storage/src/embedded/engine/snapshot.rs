//! One table as it was at one moment.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::error::EngineError;
use super::error::TreeError;
use super::tree::RowIter;
use super::view::{Table, View};

/// One table as it was when the snapshot was taken: every write acknowledged before is in it, and of a write
/// that is acknowledged later either all rows of the table or none.
///
/// It is cheap to take and to clone, never waits for writers, and keeps files and memory alive as long as it
/// lives; so does every iterator made from it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    view: Arc<View>,
    visible: u64,
    table: Arc<Table>,
}

impl Snapshot {
    pub(super) fn new(table: Arc<Table>, visible: impl FnOnce() -> u64) -> Self {
        // K6: view first, then the sequence number.
        let view = table.view();
        let visible = visible();
        Self { view, visible, table }
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let bound = Bound::Included(key);
        self.range(bound, bound)
            .next()
            .transpose()
            .map(|row| row.map(|(_, value)| value))
    }

    /// The rows between two bounds, in key order, from either end. Bounds the wrong way round hold no row.
    ///
    /// After an error the iterator is at its end.
    pub fn range(&self, lower: Bound<&[u8]>, upper: Bound<&[u8]>) -> RowRange {
        let rows = (!is_empty(lower, upper)).then(|| self.view.0.range(lower, upper, self.visible));
        RowRange {
            rows,
            _view: Arc::clone(&self.view),
            table: Arc::clone(&self.table),
        }
    }
}

/// Rows of a snapshot. See [`Snapshot::range`].
pub struct RowRange {
    // Order matters: the rows are dropped before the view, so that the view is what holds files last (K7).
    rows: Option<RowIter>,
    _view: Arc<View>,
    table: Arc<Table>,
}

impl std::fmt::Debug for RowRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowRange")
            .field("table", &self.table.name)
            .finish_non_exhaustive()
    }
}

impl RowRange {
    fn step(
        &mut self,
        step: impl FnOnce(&mut RowIter) -> Option<Result<(Bytes, Bytes), TreeError>>,
    ) -> Option<Result<(Bytes, Bytes), EngineError>> {
        match step(self.rows.as_mut()?) {
            None => None,
            Some(Ok(row)) => Some(Ok(row)),
            Some(Err(source)) => {
                self.rows = None;
                let tree = &self.table.tree;
                let path = tree.find_damage().unwrap_or_else(|| tree.folder().to_path_buf());
                Some(Err(EngineError::Tree {
                    table: self.table.name.clone(),
                    path,
                    source,
                }))
            }
        }
    }
}

impl Iterator for RowRange {
    type Item = Result<(Bytes, Bytes), EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(|rows| rows.next())
    }
}

impl DoubleEndedIterator for RowRange {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(|rows| rows.next_back())
    }
}

fn is_empty(lower: Bound<&[u8]>, upper: Bound<&[u8]>) -> bool {
    match (lower, upper) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(lower), Bound::Included(upper)) => lower > upper,
        (
            Bound::Included(lower) | Bound::Excluded(lower),
            Bound::Included(upper) | Bound::Excluded(upper),
        ) => lower >= upper,
    }
}
