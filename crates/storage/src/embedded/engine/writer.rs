//! The log thread: gathers what is waiting into one group, writes and syncs it, hands it to apply.
//!
//! ```text
//! queue ─▶ group: decide compares, sort by (table, key), seqno ─▶ frame ─▶ fdatasync ─▶ apply ─▶ answers
//! ```
//!
//! - K1: no row enters a memtable before its frame is synced. Reads never see what a power cut may take back.
//! - K5: only one sync is in flight, while the group before is being applied.
//!
//! A compare-and-set is decided here, one after the other, against the rows on their way to the memtables
//! and then the table; the winner's row joins the group as a plain put. So replay needs no decision.
//!
//! Five milliseconds after the last group an empty *seal* frame follows, whose `durable` covers it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use bytes::Bytes;

use super::error::{EngineError, fatal, or_die};
use super::log::{self, Log, ROW_HEAD};
use super::queue::{Done, Permit, Request, Taken};
use super::snapshot::Snapshot;
use super::stats::Counters;
use super::store::Store;
use super::{CasOutcome, Row, TableId};

const GROUP_ROWS_MAX: usize = 4_000;
const GROUP_BYTES_MAX: usize = 1 << 20;
/// How full a segment is, in thousandths, when the next one is wanted.
pub(super) const SPARE_FROM: u64 = 300;
const SEAL_AFTER: Duration = Duration::from_millis(5);

/// A group on its way from the log to the memtables.
pub(super) struct Group {
    /// 0 when nothing was written: only refused compares.
    pub(super) commit: u64,
    pub(super) seqno: u64,
    pub(super) runs: Arc<Vec<Run>>,
    pub(super) answers: Vec<Answer>,
}

/// The rows of a group for one table, in key order, each key once.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) table: TableId,
    /// Slices of `encoded`: one allocation a run, and nothing of the request is kept alive. A row without a
    /// value is a deleted key.
    pub(super) rows: Vec<(Bytes, Option<Bytes>)>,
    encoded: Bytes,
}

impl AsRef<[u8]> for Run {
    fn as_ref(&self) -> &[u8] {
        &self.encoded
    }
}

/// What to tell a caller when the group can be read.
pub(super) enum Answer {
    Write(Done<()>, Permit),
    Compare(Done<CasOutcome>, CasOutcome, Permit),
}

impl Answer {
    pub(super) fn give(self) {
        match self {
            Self::Write(done, permit) => {
                done(Ok(()));
                drop(permit);
            }
            Self::Compare(done, outcome, permit) => {
                done(Ok(outcome));
                drop(permit);
            }
        }
    }
}

/// Runs until the queue is closed and empty, then seals the log.
pub(super) fn run(store: &Store, mut log: Log, apply: &SyncSender<Group>) {
    let mut in_flight = VecDeque::new();
    let mut sealed = true;
    loop {
        match store
            .queue
            .take(GROUP_ROWS_MAX, GROUP_BYTES_MAX, (!sealed).then_some(SEAL_AFTER))
        {
            Taken::Requests(requests) => {
                forget_applied(store, &mut in_flight);
                let mut draft = Draft::default();
                for request in requests {
                    draft.add(store, request, &in_flight);
                }
                let Some(group) = commit(store, &mut log, draft) else {
                    continue;
                };
                if group.commit != 0 {
                    sealed = false;
                    in_flight.push_back((group.seqno, Arc::clone(&group.runs)));
                }
                if apply.send(group).is_err() {
                    fatal("apply", &EngineError::Closed);
                }
            }
            Taken::Idle => {
                seal(store, &mut log);
                sealed = true;
            }
            Taken::Closed => {
                if !sealed {
                    seal(store, &mut log);
                }
                return;
            }
        }
    }
}

type InFlight = VecDeque<(u64, Arc<Vec<Run>>)>;

fn forget_applied(store: &Store, in_flight: &mut InFlight) {
    let visible = store.visible.load(Ordering::Acquire);
    while in_flight.front().is_some_and(|(seqno, _)| *seqno < visible) {
        in_flight.pop_front();
    }
}

fn seal(store: &Store, log: &mut Log) {
    let appended = or_die("seal the log", log.append(0, 0, &[] as &[Run]));
    note(store, log, &appended);
}

fn note(store: &Store, log: &Log, appended: &log::Appended) {
    store.counters.synced(appended.bytes, appended.sync);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of 1000"
    )]
    let fullness = (log.fullness() * 1000.0) as u64;
    if store.fullness.swap(fullness, Ordering::Relaxed) <= SPARE_FROM && fullness > SPARE_FROM {
        // The next segment must be ready before this one is full, and old ones are let go as new ones fill.
        store.chores.ring();
        store.flush.ring();
    }
}

fn commit(store: &Store, log: &mut Log, draft: Draft) -> Option<Group> {
    if draft.answers.is_empty() {
        return None;
    }
    let count = draft.rows.len();
    let runs = draft.into_runs();
    let (rows, runs, answers) = (count, Arc::new(runs.0), runs.1);
    if rows == 0 {
        return Some(Group {
            commit: 0,
            seqno: 0,
            runs,
            answers,
        });
    }
    let seqno = store.shared.next_seqno();
    let kept: usize = runs.iter().map(|r| r.rows.len()).sum();
    let appended = or_die(
        "commit",
        log.append(seqno, u32::try_from(kept).unwrap_or(u32::MAX), &runs),
    );
    note(store, log, &appended);
    Counters::add(&store.counters.commits, 1);
    Counters::add(&store.counters.rows, rows as u64);
    Some(Group {
        commit: appended.commit,
        seqno,
        runs,
        answers,
    })
}

/// A group that is being gathered.
#[derive(Default)]
struct Draft {
    rows: Vec<Row>,
    /// Where the last row of each key is; made when the first compare needs it.
    index: Option<HashMap<(TableId, Bytes), usize>>,
    answers: Vec<Answer>,
}

impl Draft {
    fn add(&mut self, store: &Store, request: Request, in_flight: &InFlight) {
        match request {
            Request::Write { rows, done, permit } => {
                let tables = store.tables.load();
                if let Some(row) = rows.iter().find(|row| !tables.contains_key(&row.table.0)) {
                    done(Err(EngineError::UnknownTable(row.table)));
                    return;
                }
                for row in rows {
                    self.push(row);
                }
                self.answers.push(Answer::Write(done, permit));
            }
            Request::Compare {
                row,
                expected,
                done,
                permit,
            } => {
                let current = match self.current(store, row.table, &row.key, in_flight) {
                    Ok(current) => current,
                    Err(error @ EngineError::UnknownTable(_)) => {
                        done(Err(error));
                        return;
                    }
                    // A read that fails says nothing about the log: the caller is told.
                    Err(error) => {
                        tracing::error!(error = %error, "compare-and-set could not read");
                        done(Err(error));
                        return;
                    }
                };
                let outcome = if current == expected {
                    Counters::add(&store.counters.cas_applied, 1);
                    self.push(row);
                    CasOutcome::Applied
                } else {
                    Counters::add(&store.counters.cas_conflicts, 1);
                    CasOutcome::Conflict(current)
                };
                self.answers.push(Answer::Compare(done, outcome, permit));
            }
        }
    }

    fn push(&mut self, row: Row) {
        if let Some(index) = &mut self.index {
            index.insert((row.table, row.key.clone()), self.rows.len());
        }
        self.rows.push(row);
    }

    /// The newest value of a key: in this group, in the groups being applied, in the table. A deleted key
    /// has none, wherever that is met first.
    fn current(
        &mut self,
        store: &Store,
        table: TableId,
        key: &Bytes,
        in_flight: &InFlight,
    ) -> Result<Option<Bytes>, EngineError> {
        let open = store.table(table)?;
        let index = self.index.get_or_insert_with(|| {
            self.rows
                .iter()
                .enumerate()
                .map(|(n, row)| ((row.table, row.key.clone()), n))
                .collect()
        });
        if let Some(n) = index.get(&(table, key.clone())) {
            return Ok(self.rows[*n].value.clone());
        }
        for (_, runs) in in_flight.iter().rev() {
            let Ok(run) = runs.binary_search_by_key(&table, |run| run.table) else {
                continue;
            };
            let rows = &runs[run].rows;
            if let Ok(n) = rows.binary_search_by(|(k, _)| k.cmp(key)) {
                return Ok(rows[n].1.clone());
            }
        }
        // A group that was applied meanwhile is in both places, with the same value.
        Snapshot::new(open, || store.visible.load(Ordering::Acquire)).get(key)
    }

    fn into_runs(mut self) -> (Vec<Run>, Vec<Answer>) {
        // Stable: of several rows with one key the last one stays.
        self.rows
            .sort_by(|a, b| (a.table, &a.key).cmp(&(b.table, &b.key)));
        let mut runs = Vec::new();
        for rows in self.rows.chunk_by(|a, b| a.table == b.table) {
            let newest = || {
                let next = rows.iter().skip(1).map(Some).chain([None]);
                rows.iter()
                    .zip(next)
                    .filter(|(row, next)| next.is_none_or(|next| next.key != row.key))
            };
            let size = newest().map(|(row, _)| ROW_HEAD + row.bytes()).sum();
            let mut encoded = Vec::with_capacity(size);
            for (row, _) in newest() {
                log::encode_row(row.table.0, &row.key, row.value.as_deref(), &mut encoded);
            }
            runs.push(Run::decode(rows[0].table, encoded.into()));
        }
        (runs, self.answers)
    }
}

impl Run {
    /// Takes rows that were encoded one after the other, as far as they can be read.
    pub(super) fn decode(table: TableId, encoded: Bytes) -> Self {
        let mut rows = Vec::new();
        let mut rest = &encoded[..];
        while let Some(row) = log::decode_row(&mut rest) {
            let value = row.value.map(|value| encoded.slice_ref(value));
            rows.push((encoded.slice_ref(row.key), value));
        }
        Self { table, rows, encoded }
    }
}
