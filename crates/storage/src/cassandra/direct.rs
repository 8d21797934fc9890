//! The driver alone: the statements of the store, and nothing of the store around them. For load tests, which ask what
//! a server adds to a page or a batch that a program could have had from the cluster itself.

use anabranch_model::PartitionKey;
use scylla::client::session::Session;
use scylla::response::PagingState;
use scylla::statement::Consistency;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;

use super::connect::connect;
use super::events_cql::EventStatement;
use super::names::CqlTable;
use super::record_place::event_bucket;
use super::settings::CassandraSettings;
use crate::error::{StoreError, as_text};
use crate::events::TableName;

/// A row to write: event time in microseconds, event id, item key, value.
pub type DirectRow<'a> = (i64, &'a str, &'a str, &'a [u8]);

/// A session of its own, and the store's statements on one table of events, at LOCAL_QUORUM.
#[derive(Debug)]
pub struct Direct {
    session: Session,
    newest: PreparedStatement,
    insert: PreparedStatement,
}

impl Direct {
    /// Connects as the store does.
    ///
    /// # Errors
    /// When no node answers, or there is no such table.
    pub async fn open(settings: &CassandraSettings, table: &TableName) -> Result<Self, StoreError> {
        let session = connect(settings).await?;
        let table = CqlTable::of(&settings.keyspace, table);
        let newest = prepare(&session, EventStatement::Newest.text(&table)).await?;
        let insert = prepare(&session, EventStatement::Insert.text(&table)).await?;
        Ok(Self {
            session,
            newest,
            insert,
        })
    }

    /// Reads so many rows before a time, newest first, every value of them. How many rows and bytes of values came.
    ///
    /// # Errors
    /// When the cluster does not answer, or not in rows.
    pub async fn page(
        &self,
        partition: &PartitionKey,
        before_micros: i64,
        rows_max: i32,
    ) -> Result<(usize, usize), StoreError> {
        let mut statement = self.newest.clone();
        statement.set_page_size(rows_max);
        let id = partition.time_series_id.as_str();
        let bucket = event_bucket(partition)?;
        let values = (id, partition.time_bucket, bucket, i64::MIN, "", before_micros, "");
        let page = self
            .session
            .execute_single_page(&statement, values, PagingState::start());
        let (result, _) = page.await.map_err(|error| failed("reading a page", &error))?;
        let result = result
            .into_rows_result()
            .map_err(|error| failed("reading a page", &error))?;
        let rows = result.rows::<(i64, &str, &str, Option<&[u8]>, Option<&[u8]>)>();
        let rows = rows.map_err(|error| failed("reading a page", &error))?;
        let (mut count, mut bytes) = (0, 0);
        for row in rows {
            let (_, _, _, value, _) = row.map_err(|error| failed("reading a row", &error))?;
            count += 1;
            bytes += value.map_or(0, <[u8]>::len);
        }
        Ok((count, bytes))
    }

    /// Writes rows of one partition as one unlogged batch.
    ///
    /// # Errors
    /// When the cluster does not take them.
    pub async fn append(&self, partition: &PartitionKey, rows: &[DirectRow<'_>]) -> Result<(), StoreError> {
        let statements = vec![self.insert.clone().into(); rows.len()];
        let mut batch = Batch::new_with_statements(BatchType::Unlogged, statements);
        batch.set_consistency(Consistency::LocalQuorum);
        batch.set_is_idempotent(true);
        let id = partition.time_series_id.as_str();
        let bucket = event_bucket(partition)?;
        let row = |&(time, event_id, key, value): &DirectRow<'_>| {
            (
                id.to_owned(),
                partition.time_bucket,
                bucket,
                time,
                event_id.to_owned(),
                key.to_owned(),
                value.to_vec(),
            )
        };
        let values: Vec<_> = rows.iter().map(row).collect();
        let written = self.session.batch(&batch, values).await;
        written
            .map(drop)
            .map_err(|error| failed("writing a batch", &error))
    }
}

async fn prepare(session: &Session, text: String) -> Result<PreparedStatement, StoreError> {
    let prepared = session.prepare(text).await;
    let mut prepared = prepared.map_err(|error| failed("preparing a statement", &error))?;
    prepared.set_consistency(Consistency::LocalQuorum);
    prepared.set_is_idempotent(true);
    Ok(prepared)
}

fn failed(doing: &'static str, error: &impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable {
        doing,
        source: as_text(error),
    }
}
