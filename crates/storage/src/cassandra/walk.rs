//! Lists the partitions of a table in the order of the ring: by token, and by the bytes of the key where tokens are
//! alike. That order is the partitioner's, and never changes.

use anabranch_model::{PartitionKey, TimeSeriesId};
use scylla::errors::{BadQuery, ExecutionError};
use scylla::response::PagingState;

use super::cluster::{Rows, misread};
use super::events_cql::EventStatement;
use super::policy::Purpose;
use super::record_place::event_bucket;
use super::{CassandraStore, EventTable};
use crate::error::StoreError;
use crate::events::TableName;

/// Partitions of a page of the driver at most.
const ROWS_MAX: usize = 1_000;

/// The columns of a partition key.
type Key<'a> = (&'a str, i64, i32);

/// Where a walk goes on.
#[derive(Clone, Copy)]
struct After<'a> {
    key: Key<'a>,
    token: i64,
}

impl CassandraStore {
    pub(super) async fn list_partitions(
        &self,
        name: &TableName,
        after: Option<&PartitionKey>,
        partitions_max: usize,
    ) -> Result<Vec<PartitionKey>, StoreError> {
        let table = self.event_table(name);
        let after = match after {
            None => None,
            Some(after) => {
                let key = (
                    after.time_series_id.as_str(),
                    after.time_bucket,
                    event_bucket(after)?,
                );
                match self.token(&table, key).await {
                    Ok(token) => Some(After { key, token }),
                    Err(error) => return Err(self.explain(Purpose::Walk, name, error).await),
                }
            }
        };
        // The answer begins with `after` itself.
        let rows_max = i32::try_from(partitions_max.saturating_add(1).min(ROWS_MAX)).unwrap_or(i32::MAX);
        let broken = |error: &dyn std::fmt::Display| misread(&format!("partition of table {name}"), error);
        let mut found = Vec::new();
        let mut from = Some(PagingState::start());
        while let Some(state) = from {
            let page = match self.walk_page(&table, after, rows_max, state).await {
                Ok(page) => page,
                Err(error) => return Err(self.explain(Purpose::Walk, name, error).await),
            };
            let rows = page.rows.rows::<(&str, i64, i32, i64)>();
            for row in rows.map_err(|error| broken(&error))? {
                let (id, time_bucket, bucket, token) = row.map_err(|error| broken(&error))?;
                let passed = |after: After<'_>| {
                    token == after.token && key_bytes((id, time_bucket, bucket)) <= key_bytes(after.key)
                };
                if after.is_some_and(passed) {
                    continue;
                }
                if found.len() >= partitions_max {
                    return Ok(found);
                }
                found.push(PartitionKey {
                    slice: name.slice.clone(),
                    time_series_id: TimeSeriesId::new(id).map_err(|error| broken(&error))?,
                    time_bucket,
                    event_bucket: u32::try_from(bucket).map_err(|error| broken(&error))?,
                });
            }
            from = page.next;
        }
        Ok(found)
    }

    async fn walk_page(
        &self,
        table: &EventTable,
        after: Option<After<'_>>,
        rows_max: i32,
        from: PagingState,
    ) -> Result<Rows, ExecutionError> {
        let purpose = Purpose::Walk;
        match after {
            None => {
                let statement = self.event_statement(table, EventStatement::WalkFirst).await?;
                self.cluster.page(purpose, statement, (), rows_max, from).await
            }
            Some(after) => {
                let statement = self.event_statement(table, EventStatement::WalkOn).await?;
                self.cluster
                    .page(purpose, statement, after.key, rows_max, from)
                    .await
            }
        }
    }

    /// The token of a partition, as the table's partitioner gives it.
    async fn token(&self, table: &EventTable, key: Key<'_>) -> Result<i64, ExecutionError> {
        let of_partition = self.event_statement(table, EventStatement::Delete).await?;
        let token = of_partition.calculate_token(&key).ok().flatten();
        let token = token.ok_or(BadQuery::PartitionKeyExtraction)?;
        Ok(token.value())
    }
}

/// The bytes of a partition key: each column with its length before it and a zero behind it.
fn key_bytes((id, time_bucket, bucket): Key<'_>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(id.len() + 32);
    for column in [id.as_bytes(), &time_bucket.to_be_bytes(), &bucket.to_be_bytes()] {
        // An id has at most 1,024 bytes.
        bytes.extend_from_slice(&u16::try_from(column.len()).unwrap_or(u16::MAX).to_be_bytes());
        bytes.extend_from_slice(column);
        bytes.push(0);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_as_the_server_keeps_them() {
        assert_eq!(
            key_bytes(("ab", -1, 7)),
            b"\0\x02ab\0\0\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\0\0\x04\0\0\0\x07\0"
        );
        assert!(key_bytes(("b", 0, 0)) < key_bytes(("aa", 0, 0)));
    }
}
