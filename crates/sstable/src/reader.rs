//! One pass over a data file: partitions, and in each its rows and markers.
//!
//! ```text
//! Start ─partition─▶ In ─end of partition─▶ Start ─end of file─▶ Ended        any error ─▶ Failed
//! ```
//!
//! - E2: the end is reached only when the last byte of the file has been checked and partitions, rows and
//!   columns are as many as the writer counted. Once failed, a reader never says that it has ended.

use bytes::Bytes;

use crate::chunks::Chunks;
use crate::components::{Component, Components};
use crate::decode::Decoder;
use crate::error::{Result, SstableError};
use crate::input::{DataInput, Input};
use crate::statistics::Statistics;
use crate::token::token;
use crate::unfiltered::{CellState, DeletionTime, MarkerKind, PartitionHeader, Row, Unfiltered};

/// The partitions of one SSTable, in the order of their tokens.
#[derive(Debug)]
pub struct Reader {
    input: DataInput,
    decoder: Decoder,
    expected: Statistics,
    statistics_file: String,
    state: State,
    seen: Seen,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Before a partition.
    Start,
    /// In one, with the deletion of the range tombstone that is open.
    In { open: Option<DeletionTime> },
    /// After the last.
    Ended,
    /// After an error.
    Failed,
}

#[derive(Debug, Default)]
struct Seen {
    partitions: u64,
    rows: u64,
    columns: u64,
    first_key: Bytes,
    last: Option<(i64, Bytes)>,
}

impl Reader {
    pub(crate) fn open(components: &dyn Components, decoder: Decoder, expected: Statistics) -> Result<Self> {
        let chunks = Chunks::open(components)?;
        Ok(Self {
            input: DataInput::new(components.name(Component::Data).into(), chunks),
            decoder,
            expected,
            statistics_file: components.name(Component::Statistics),
            state: State::Start,
            seen: Seen::default(),
        })
    }

    /// The next partition, or `None` after the last. What is left of the one before is read and checked first.
    pub fn next_partition(&mut self) -> Result<Option<PartitionHeader>> {
        while self.next_unfiltered()?.is_some() {}
        match self.state {
            State::Ended => return Ok(None),
            State::Failed => return Err(self.stopped()),
            State::Start | State::In { .. } => {}
        }
        let partition = self.partition();
        self.state = match &partition {
            Ok(Some(_)) => State::In { open: None },
            Ok(None) => State::Ended,
            Err(_) => State::Failed,
        };
        partition
    }

    /// The next row or marker of the partition, or `None` at its end. Before the first partition and after
    /// the last there is none.
    pub fn next_unfiltered(&mut self) -> Result<Option<Unfiltered>> {
        let open = match self.state {
            State::In { open } => open,
            State::Start | State::Ended => return Ok(None),
            State::Failed => return Err(self.stopped()),
        };
        match self.unfiltered(open) {
            Ok((unfiltered, state)) => {
                self.state = state;
                Ok(unfiltered)
            }
            Err(error) => {
                self.state = State::Failed;
                Err(error)
            }
        }
    }

    fn stopped(&self) -> SstableError {
        SstableError::Stopped {
            file: self.input.file().clone(),
        }
    }

    fn partition(&mut self) -> Result<Option<PartitionHeader>> {
        if self.input.at_end()? {
            self.check_counts()?;
            return Ok(None);
        }
        let position = self.input.position();
        let (key, deletion) = self.decoder.partition_start(&mut self.input)?;
        self.check_order(&key)?;
        let static_row = self.decoder.static_row(&mut self.input)?;
        self.seen.partitions += 1;
        deletion
            .iter()
            .try_for_each(|deletion| self.check_deletion(deletion))?;
        static_row.iter().try_for_each(|row| self.check_row(row))?;
        Ok(Some(PartitionHeader {
            position,
            key,
            deletion,
            static_row,
        }))
    }

    fn unfiltered(&mut self, open: Option<DeletionTime>) -> Result<(Option<Unfiltered>, State)> {
        let unfiltered = self.decoder.unfiltered(&mut self.input)?;
        let open = match (&unfiltered, open) {
            (None, None) => return Ok((None, State::Start)),
            (None, Some(_)) => return Err(self.input.wrong("a partition ends in a range tombstone".into())),
            (Some(Unfiltered::Row(row)), open) => {
                self.check_row(row)?;
                open
            }
            (Some(Unfiltered::RangeTombstoneMarker(marker)), open) => match (marker.kind, open) {
                (MarkerKind::Open { deletion, .. }, None) => Some(deletion),
                (MarkerKind::Close { deletion, .. }, Some(open)) if deletion == open => None,
                (MarkerKind::Boundary { closed, opened, .. }, Some(open)) if closed == open => Some(opened),
                (kind, open) => {
                    return Err(self.input.wrong(format!("{kind:?} cannot follow {open:?}")));
                }
            },
        };
        open.iter()
            .try_for_each(|deletion| self.check_deletion(deletion))?;
        Ok((unfiltered, State::In { open }))
    }

    /// Counts a row, and holds its times against the bounds in the statistics.
    fn check_row(&mut self, row: &Row) -> Result<()> {
        self.seen.rows += 1;
        row.deletion
            .iter()
            .try_for_each(|deletion| self.check_deletion(deletion))?;
        if let Some(liveness) = row.liveness {
            self.check_times(liveness.timestamp, liveness.expiry.map(|expiry| expiry.at))?;
        }
        for column in &row.columns {
            column
                .deletion
                .iter()
                .try_for_each(|deletion| self.check_deletion(deletion))?;
            self.seen.columns += u64::from(!column.cells.is_empty());
            for cell in &column.cells {
                let gone = match &cell.state {
                    CellState::Live(_) => None,
                    CellState::Expiring(_, expiry) => Some(expiry.at),
                    CellState::Tombstone { local_deletion_time } => Some(*local_deletion_time),
                };
                self.check_times(cell.timestamp, gone)?;
            }
        }
        Ok(())
    }

    fn check_deletion(&self, deletion: &DeletionTime) -> Result<()> {
        self.check_times(deletion.marked_for_delete_at, Some(deletion.local_deletion_time))
    }

    /// Data with another table's statistics is found by this, when the counts happen to agree.
    fn check_times(&self, timestamp: i64, gone: Option<i64>) -> Result<()> {
        let (smallest, largest) = self.expected.timestamps;
        if timestamp < smallest || timestamp > largest {
            let what = format!("timestamp {timestamp} is not within {smallest} and {largest}");
            return Err(self
                .input
                .wrong(format!("{what}, as {} has it", self.statistics_file)));
        }
        let Some(gone) = gone else { return Ok(()) };
        let (smallest, largest) = self.expected.local_deletion_times;
        if smallest.is_none_or(|smallest| gone < smallest) || largest.is_some_and(|largest| gone > largest) {
            let what = format!("deletion or expiry at {gone} is not within {smallest:?} and {largest:?}");
            return Err(self
                .input
                .wrong(format!("{what}, as {} has it", self.statistics_file)));
        }
        Ok(())
    }

    /// Partitions come in the order of their tokens; with another partitioner than the default one, in an
    /// order that is not known here.
    fn check_order(&mut self, key: &Bytes) -> Result<()> {
        if !self.expected.has_murmur3_tokens() {
            return Ok(());
        }
        let this = (token(key), key.clone());
        if self.seen.last.as_ref().is_some_and(|last| *last >= this) {
            return Err(self
                .input
                .wrong("a partition comes before the one that precedes it".into()));
        }
        if self.seen.last.is_none() {
            self.seen.first_key = key.clone();
        }
        self.seen.last = Some(this);
        Ok(())
    }

    fn check_counts(&self) -> Result<()> {
        let (seen, expected) = (&self.seen, &self.expected);
        let counts = [
            ("partitions", seen.partitions, expected.partitions),
            ("rows", seen.rows, expected.rows),
            ("columns", seen.columns, expected.columns_set),
        ];
        for (what, seen, expected) in counts {
            if seen != expected {
                let file = &self.statistics_file;
                return Err(self
                    .input
                    .wrong(format!("{seen} {what} were read, {file} counts {expected}")));
            }
        }
        if let (Some((first, last)), Some((_, last_seen))) = (&expected.keys, &seen.last)
            && (*first != seen.first_key || last != last_seen)
        {
            let file = &self.statistics_file;
            return Err(self
                .input
                .wrong(format!("the first or last key is not the one in {file}")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
