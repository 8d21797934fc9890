//! Records as rows that only compare-and-set changes.
//!
//! ```text
//! attempt ─▶ applied ────────────────────────────────▶ Applied
//!    │ ▲    not applied, or no answer
//!    │ └─────────── as it was ◀── serial read ─▶ ours at the next version ─▶ Applied
//!    ▼                                 ├───────▶ another's ─────────────────▶ Conflict
//! (half of the timeout each)           └───────▶ past the next version, and an attempt of ours was not heard of:
//!                                                it may have been ours ────▶ Unknown
//! ```
//!
//! - An attempt is safe to repeat: a version is used once, so of several attempts at one change at most one is
//!   applied, also when one of them lands late; and `writer` tells it from another's of equal content.
//! - A record that was removed stays as a row without a record, because its version goes on.
//! - What is listed or looked up is read at the store's consistency: everything whose change was acked is in it. Whoever
//!   is to decide by a record reads it serially: a change that somebody else left half done is finished by that. Serial
//!   reads of one record get in each other's way, so what every process asks again and again is looked up.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anabranch_model::{NamespaceName, SliceName};
use anabranch_runtime::{Clock, Deadline, Randomness};
use bytes::Bytes;
use scylla::errors::ExecutionError;
use scylla::response::PagingState;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlValue, Row};

use super::cluster::{Cluster, Prepared, misread, unexpected};
use super::errors;
use super::metrics::StoreMetrics;
use super::names::KeyspaceName;
use super::policy::Purpose;
use super::record_place::Place;
use super::records_cql::{RecordStatement, RecordTable, WideSliceStatement};
use crate::error::StoreError;
use crate::keys::{SPLIT_SHARDS, split_shard};
use crate::records::{CasOutcome, RecordKey, RecordPrefix, VersionedRecord};

/// Rows of a page of a list.
const LIST_ROWS: usize = 500;
/// Between two attempts at a change that nobody has heard of.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// The tables of records.
#[derive(Debug)]
pub(super) struct Records {
    keyspace: KeyspaceName,
    statements: [[Prepared; RecordStatement::ALL.len()]; RecordTable::ALL.len()],
    wide_slice: [Prepared; WideSliceStatement::ALL.len()],
    /// Slices that are known to stand in `wide_slice`.
    wide_slices: Mutex<HashSet<(NamespaceName, SliceName)>>,
    randomness: Randomness,
    metrics: StoreMetrics,
}

/// A row as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stored {
    version: i64,
    record: Option<Bytes>,
    writer: i64,
}

impl Stored {
    fn into_record(self) -> Result<VersionedRecord, StoreError> {
        Ok(VersionedRecord {
            version: u64::try_from(self.version).map_err(|error| misread("version of a record", error))?,
            value: self.record,
        })
    }
}

/// What a row says of our attempts to change it from a version.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Ours,
    Anothers,
    /// It is as it was: our attempt may still come, and may be repeated.
    Open,
    /// Somebody has changed it since; whether we had before can not be told.
    Lost,
}

fn verdict(stands: Option<&Stored>, expected: i64, writer: i64, unheard: bool) -> Verdict {
    let version = stands.map_or(0, |stored| stored.version);
    if version == expected {
        Verdict::Open
    } else if version == expected + 1 && stands.is_some_and(|stored| stored.writer == writer) {
        Verdict::Ours
    } else if version > expected + 1 && unheard {
        Verdict::Lost
    } else {
        Verdict::Anothers
    }
}

impl Records {
    pub(super) fn new(keyspace: KeyspaceName, randomness: Randomness, metrics: StoreMetrics) -> Self {
        Self {
            keyspace,
            statements: Default::default(),
            wide_slice: Default::default(),
            wide_slices: Mutex::default(),
            randomness,
            metrics,
        }
    }

    async fn statement(
        &self,
        cluster: &Cluster,
        table: RecordTable,
        statement: RecordStatement,
    ) -> Result<&PreparedStatement, ExecutionError> {
        let cell = self
            .statements
            .get(table as usize)
            .and_then(|of_table| of_table.get(statement as usize))
            .ok_or_else(unexpected)?;
        let purpose = match statement {
            RecordStatement::Get => Purpose::ReadRecord,
            RecordStatement::Insert | RecordStatement::Update => Purpose::CompareAndSet,
            RecordStatement::List | RecordStatement::ListOn => Purpose::ListRecords,
        };
        let text = || statement.text(&self.keyspace, table).unwrap_or_default();
        cluster.prepared(cell, purpose, text).await
    }

    /// The record as it stands.
    pub(super) async fn get(
        &self,
        cluster: &Cluster,
        place: &Place,
    ) -> Result<Option<VersionedRecord>, StoreError> {
        let stored = self.read(cluster, place, Purpose::ReadRecord).await?;
        stored.map(Stored::into_record).transpose()
    }

    /// The record with every change that was acked.
    pub(super) async fn look_up(
        &self,
        cluster: &Cluster,
        place: &Place,
    ) -> Result<Option<VersionedRecord>, StoreError> {
        let stored = self.read(cluster, place, Purpose::LookUpRecord).await?;
        stored.map(Stored::into_record).transpose()
    }

    async fn read(
        &self,
        cluster: &Cluster,
        place: &Place,
        purpose: Purpose,
    ) -> Result<Option<Stored>, StoreError> {
        let read = async {
            let statement = self.statement(cluster, place.table, RecordStatement::Get).await?;
            let result = cluster
                .run(purpose, &cluster.sent_as(statement, purpose), place.key())
                .await?;
            result.into_rows_result().map_err(|_| unexpected())
        };
        let rows = read
            .await
            .map_err(|error| errors::of_read(purpose.doing(), error))?;
        let row = rows.maybe_first_row::<(i64, Option<Bytes>, i64)>();
        let row = row.map_err(|error| misread(place.table.name(), error))?;
        Ok(row.map(|(version, record, writer)| Stored {
            version,
            record,
            writer,
        }))
    }

    /// Changes a record if its version is still `expected`.
    pub(super) async fn compare_and_set(
        &self,
        cluster: &Cluster,
        clock: &dyn Clock,
        patience: Duration,
        place: &Place,
        expected: u64,
        value: Option<Bytes>,
    ) -> Result<CasOutcome, StoreError> {
        let expected = i64::try_from(expected).map_err(|error| misread("expected version", error))?;
        let writer = i64::from_ne_bytes(self.randomness.next_u64().to_ne_bytes());
        let deadline = Deadline::after(clock, patience);
        let mut unheard = None;
        loop {
            match self
                .attempt(cluster, place, expected, value.as_ref(), writer)
                .await
            {
                Ok(true) => return applied(expected),
                Ok(false) => {}
                Err(error) => match errors::of_read(Purpose::CompareAndSet.doing(), error) {
                    refused @ StoreError::Refused { .. } if unheard.is_none() => return Err(refused),
                    error => unheard = Some(error),
                },
            }
            let stands = match self.read(cluster, place, Purpose::ReadRecord).await {
                Ok(stands) => stands,
                Err(error) => return Err(self.unknown(unheard, error)),
            };
            match verdict(stands.as_ref(), expected, writer, unheard.is_some()) {
                Verdict::Ours => return applied(expected),
                Verdict::Anothers => {
                    return Ok(CasOutcome::Conflict {
                        current: stands.map(Stored::into_record).transpose()?,
                    });
                }
                Verdict::Open if !deadline.passed(clock) => clock.sleep(AGAIN_AFTER).await,
                Verdict::Open | Verdict::Lost => return Err(self.unknown(unheard, StoreError::Overloaded)),
            }
        }
    }

    /// What is said when an attempt was not heard of, or of another error when there was none.
    fn unknown(&self, unheard: Option<StoreError>, error: StoreError) -> StoreError {
        let Some(unheard) = unheard else { return error };
        self.metrics.unsettled();
        StoreError::Unknown {
            doing: Purpose::CompareAndSet.doing(),
            source: unheard.into(),
        }
    }

    async fn attempt(
        &self,
        cluster: &Cluster,
        place: &Place,
        expected: i64,
        value: Option<&Bytes>,
        writer: i64,
    ) -> Result<bool, ExecutionError> {
        let stored = [
            Some(CqlValue::BigInt(expected + 1)),
            value.map(|value| CqlValue::Blob(value.to_vec())),
            Some(CqlValue::BigInt(writer)),
        ];
        let key = place.key().into_iter().map(Some);
        let (statement, values): (_, Vec<_>) = if expected == 0 {
            (RecordStatement::Insert, key.chain(stored).collect())
        } else {
            let condition = Some(CqlValue::BigInt(expected));
            let values = stored.into_iter().chain(key).chain([condition]);
            (RecordStatement::Update, values.collect())
        };
        let statement = self.statement(cluster, place.table, statement).await?;
        let result = cluster.run(Purpose::CompareAndSet, statement, values).await?;
        // Its shape differs: Cassandra adds what stands only when it was not applied, ScyllaDB always. The first
        // column says it in both.
        let rows = result.into_rows_result().map_err(|_| unexpected())?;
        let row = rows.first_row::<Row>().map_err(|_| unexpected())?;
        match row.columns.into_iter().next().flatten() {
            Some(CqlValue::Boolean(applied)) => Ok(applied),
            _ => Err(unexpected()),
        }
    }

    /// Makes sure that the splits of a slice are found by who lists those of its namespace.
    pub(super) async fn note_wide_slice(
        &self,
        cluster: &Cluster,
        namespace: &NamespaceName,
        slice: &SliceName,
    ) -> Result<(), StoreError> {
        let known = (namespace.clone(), slice.clone());
        if self.wide_slices().contains(&known) {
            return Ok(());
        }
        // Whether it was written or not: the record was not changed yet.
        let failed = |error| errors::of_read(Purpose::CompareAndSet.doing(), error);
        let statement = self.wide_slice(cluster, WideSliceStatement::Insert).await;
        let values = (namespace.as_str(), slice.as_str());
        cluster
            .write(statement.map_err(failed)?, values, cluster.write_time())
            .await
            .map_err(|error| failed(error.error))?;
        self.wide_slices().insert(known);
        Ok(())
    }

    fn wide_slices(&self) -> std::sync::MutexGuard<'_, HashSet<(NamespaceName, SliceName)>> {
        self.wide_slices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn wide_slice(
        &self,
        cluster: &Cluster,
        statement: WideSliceStatement,
    ) -> Result<&PreparedStatement, ExecutionError> {
        let cell = self.wide_slice.get(statement as usize).ok_or_else(unexpected)?;
        let purpose = match statement {
            WideSliceStatement::Insert => Purpose::WriteEvents,
            WideSliceStatement::List => Purpose::ListRecords,
        };
        cluster
            .prepared(cell, purpose, || statement.text(&self.keyspace))
            .await
    }

    /// The records of a prefix that stand, after a key.
    pub(super) async fn list(
        &self,
        cluster: &Cluster,
        prefix: &RecordPrefix,
        after: Option<&RecordKey>,
        records_max: usize,
    ) -> Result<Vec<(RecordKey, VersionedRecord)>, StoreError> {
        let mut found = Vec::new();
        for place in self.partitions(cluster, prefix, after).await? {
            if found.len() >= records_max {
                break;
            }
            let from = list_from(&place, prefix, after)?;
            self.list_partition(cluster, &place, from, records_max, &mut found, &|key| {
                prefix.holds(key) && after.is_none_or(|after| key > after)
            })
            .await?;
        }
        Ok(found)
    }

    /// The partitions that hold the records of a prefix, in the order of their keys; those that lie before `after`
    /// may be left out.
    async fn partitions(
        &self,
        cluster: &Cluster,
        prefix: &RecordPrefix,
        after: Option<&RecordKey>,
    ) -> Result<Vec<Place>, StoreError> {
        Ok(match prefix {
            RecordPrefix::Namespaces => vec![Place::namespaces()],
            RecordPrefix::Detections => vec![Place::detections()],
            RecordPrefix::TimeSlices(namespace) => {
                vec![Place::of_the_namespace(RecordTable::TimeSlice, namespace)]
            }
            RecordPrefix::BlockedIds(namespace) => {
                vec![Place::of_the_namespace(RecordTable::BlockedId, namespace)]
            }
            RecordPrefix::SplitMarkers(namespace) | RecordPrefix::SplitMarkersOfSlice(namespace, _) => {
                vec![Place::of_the_namespace(RecordTable::WideRowMarker, namespace)]
            }
            RecordPrefix::SplitShard(namespace, slice, shard) => {
                vec![Place::split_shard(namespace, slice, *shard)]
            }
            RecordPrefix::SplitsOfSlice(namespace, slice) => shards(namespace, slice, after).collect(),
            RecordPrefix::Splits(namespace) => {
                let slices = self.slices_with_splits(cluster, namespace).await?;
                slices
                    .iter()
                    .flat_map(|slice| shards(namespace, slice, after))
                    .collect()
            }
        })
    }

    async fn slices_with_splits(
        &self,
        cluster: &Cluster,
        namespace: &NamespaceName,
    ) -> Result<Vec<SliceName>, StoreError> {
        let failed = |error| errors::of_read(Purpose::ListRecords.doing(), error);
        let mut slices = Vec::new();
        let mut from = Some(PagingState::start());
        while let Some(page) = from {
            let statement = self.wide_slice(cluster, WideSliceStatement::List).await;
            let page = cluster.page(
                Purpose::ListRecords,
                statement.map_err(failed)?,
                (namespace.as_str(),),
                5_000,
                page,
            );
            let page = page.await.map_err(failed)?;
            let rows = page.rows.rows::<(&str,)>();
            for row in rows.map_err(|error| misread("wide_slice", error))? {
                let (slice,) = row.map_err(|error| misread("wide_slice", error))?;
                slices.push(SliceName::new(slice).map_err(|error| misread("wide_slice", error))?);
            }
            from = page.next;
        }
        Ok(slices)
    }

    async fn list_partition(
        &self,
        cluster: &Cluster,
        place: &Place,
        after: Option<Vec<CqlValue>>,
        records_max: usize,
        found: &mut Vec<(RecordKey, VersionedRecord)>,
        wanted: &(dyn Fn(&RecordKey) -> bool + Sync),
    ) -> Result<(), StoreError> {
        let failed = |error| errors::of_read(Purpose::ListRecords.doing(), error);
        let broken = |error: &dyn std::fmt::Display| misread(place.table.name(), error);
        let (statement, mut values) = match after {
            None => (RecordStatement::List, vec![]),
            Some(after) => (RecordStatement::ListOn, after),
        };
        values.splice(0..0, place.partition.iter().cloned());
        let rows_max = records_max.saturating_sub(found.len()).clamp(1, LIST_ROWS);
        let rows_max = i32::try_from(rows_max).unwrap_or(i32::MAX);
        let mut from = Some(PagingState::start());
        while let Some(page) = from {
            let statement = self.statement(cluster, place.table, statement).await;
            let page = cluster.page(
                Purpose::ListRecords,
                statement.map_err(failed)?,
                &values,
                rows_max,
                page,
            );
            let page = page.await.map_err(failed)?;
            for row in page.rows.rows::<Row>().map_err(|error| broken(&error))? {
                let row = row.map_err(|error| broken(&error))?;
                let (clustering, record) = listed(place, row)?;
                let key = place.record_key(&clustering)?;
                if !wanted(&key) {
                    // What a prefix holds of a partition lies together.
                    return Ok(());
                }
                if record.value.is_some() {
                    found.push((key, record));
                }
                if found.len() >= records_max {
                    return Ok(());
                }
            }
            from = page.next;
        }
        Ok(())
    }
}

fn applied(expected: i64) -> Result<CasOutcome, StoreError> {
    let version = u64::try_from(expected + 1).map_err(|error| misread("version of a record", error))?;
    Ok(CasOutcome::Applied { version })
}

/// A listed row, taken apart.
fn listed(place: &Place, row: Row) -> Result<(Vec<CqlValue>, VersionedRecord), StoreError> {
    let broken = || misread(place.table.name(), "a column is missing");
    let mut columns = row.columns;
    let record = columns.pop().ok_or_else(broken)?;
    let version = columns.pop().flatten().and_then(|version| version.as_bigint());
    let stored = Stored {
        version: version.ok_or_else(broken)?,
        record: record.and_then(CqlValue::into_blob).map(Bytes::from),
        writer: 0,
    };
    let clustering: Option<Vec<CqlValue>> = columns.into_iter().collect();
    Ok((clustering.ok_or_else(broken)?, stored.into_record()?))
}

/// The shards of a slice, from that of `after` on.
fn shards<'a>(
    namespace: &'a NamespaceName,
    slice: &'a SliceName,
    after: Option<&'a RecordKey>,
) -> impl Iterator<Item = Place> + 'a {
    (0..SPLIT_SHARDS)
        .filter(move |shard| match after {
            Some(RecordKey::Split {
                namespace: of,
                partition,
            }) => {
                (of, &partition.slice, split_shard(&partition.time_series_id)) <= (namespace, slice, *shard)
            }
            _ => true,
        })
        .map(|shard| Place::split_shard(namespace, slice, shard))
}

/// After which row of a partition a list begins.
fn list_from(
    place: &Place,
    prefix: &RecordPrefix,
    after: Option<&RecordKey>,
) -> Result<Option<Vec<CqlValue>>, StoreError> {
    if let Some(after) = after.filter(|after| prefix.holds(after)) {
        let after = Place::of(after)?;
        if after.partition == place.partition {
            return Ok(Some(after.clustering));
        }
    }
    Ok(match prefix {
        // Before the first shard of the slice.
        RecordPrefix::SplitMarkersOfSlice(_, slice) => {
            Some(vec![CqlValue::Text(slice.as_str().to_owned()), CqlValue::Int(-1)])
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(version: i64, writer: i64) -> Stored {
        Stored {
            version,
            record: None,
            writer,
        }
    }

    #[test]
    fn a_row_tells_whose_change_it_holds() {
        assert_eq!(verdict(None, 0, 7, true), Verdict::Open);
        assert_eq!(verdict(None, 3, 7, false), Verdict::Anothers);
        assert_eq!(verdict(Some(&stored(1, 7)), 0, 7, true), Verdict::Ours);
        assert_eq!(verdict(Some(&stored(1, 8)), 0, 7, true), Verdict::Anothers);
        assert_eq!(verdict(Some(&stored(4, 7)), 4, 8, true), Verdict::Open);
        assert_eq!(verdict(Some(&stored(5, 7)), 4, 7, true), Verdict::Ours);
        assert_eq!(verdict(Some(&stored(6, 8)), 4, 7, false), Verdict::Anothers);
        assert_eq!(verdict(Some(&stored(6, 8)), 4, 7, true), Verdict::Lost);
        assert_eq!(verdict(Some(&stored(2, 8)), 4, 7, true), Verdict::Anothers);
    }
}
