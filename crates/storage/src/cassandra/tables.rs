//! Makes and drops the tables of events, so that nobody races anybody.
//!
//! ```text
//! event_table (keyspace, table) ─▶ id       changed by compare-and-set; without a record: there is no such table
//! create   agree on an id there ─▶ CREATE TABLE … WITH ID = that id ─▶ nodes agree ─▶ the id is looked at
//! drop     DROP TABLE ─▶ nodes agree ─▶ the id is removed
//! ```
//!
//! Two `CREATE TABLE`s of one name at two nodes make two tables of different ids, and one of them loses what was
//! written to it. Here every `CREATE TABLE` of one table carries the same id, whoever sends it, how often, and
//! however late it lands: they make the same table. A table that is made anew after a drop gets another id, so that
//! nothing of the dropped one (hints, commit logs) can come back into it.
//!
//! - Of one process one change of the schema is made at a time.
//! - A table does not exist when its id is not there: a node that does not know a table *yet* is not believed.

use anabranch_model::NamespaceName;
use bytes::Bytes;
use scylla::errors::ExecutionError;
use scylla::response::query_result::QueryRowsResult;
use scylla::serialize::row::SerializeRow;
use uuid::{Builder, Uuid};

use super::CassandraStore;
use super::cluster::{Prepared, misread, unexpected};
use super::errors;
use super::events_cql::{create_events, drop_table};
use super::names::{CqlName, CqlTable};
use super::policy::Purpose;
use super::record_place::Place;
use crate::error::{StoreError, as_text};
use crate::events::TableName;
use crate::records::{CasOutcome, VersionedRecord};

const DOING: &str = "changing tables";

/// Statements on the schema, which every node keeps for itself.
#[derive(Debug, Default)]
pub(super) struct SchemaStatements {
    table_id: Prepared,
    keyspace: Prepared,
}

impl SchemaStatements {
    pub(super) const TABLE_ID: &str =
        "SELECT id FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?";
    pub(super) const KEYSPACE: &str =
        "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?";
}

impl CassandraStore {
    pub(super) async fn make_table(&self, name: &TableName) -> Result<(), StoreError> {
        let _turn = self.schema_turn.lock().await;
        let table = self.cql_table(name);
        self.make_keyspace(&table.keyspace, &name.namespace).await?;
        let id = self.agreed_id(&table).await?;
        if self.table_id(&table).await? != Some(id) {
            let text = create_events(&table, name.kind, &id.to_string());
            self.cluster
                .change_schema(text.clone())
                .await
                .map_err(|error| self.schema_error(error, &text))?;
        }
        self.await_agreement().await?;
        match self.table_id(&table).await? {
            Some(made) if made == id => Ok(()),
            Some(other) => Err(StoreError::Refused {
                doing: DOING,
                reason: format!(
                    "table {table} is there under the id {other}, and was to be made under {id}: somebody else made \
                     it, or an old one came back; see what it holds, then drop it by hand"
                ),
            }),
            None => Err(StoreError::Unavailable {
                doing: DOING,
                source: format!("table {table} was made, and is not there").into(),
            }),
        }
    }

    pub(super) async fn remove_table(&self, name: &TableName) -> Result<(), StoreError> {
        let _turn = self.schema_turn.lock().await;
        let table = self.cql_table(name);
        if self.table_id(&table).await?.is_some() {
            let text = drop_table(&table);
            self.cluster
                .change_schema(text.clone())
                .await
                .map_err(|error| self.schema_error(error, &text))?;
            self.await_agreement().await?;
        }
        self.forget_table(name);
        let place = place(&table);
        if let Some(VersionedRecord {
            version,
            value: Some(_),
        }) = self.records.get(&self.cluster, &place).await?
        {
            // A conflict: somebody else has dropped it, or made it again since.
            self.change_record(&place, version, None).await?;
        }
        Ok(())
    }

    /// What an error of a statement on a table means: whether the table is gone.
    pub(super) async fn explain(
        &self,
        purpose: Purpose,
        name: &TableName,
        error: ExecutionError,
    ) -> StoreError {
        if !errors::is_missing(&error) {
            return errors::of_read(purpose.doing(), error);
        }
        let unavailable = |source: crate::error::BoxError| StoreError::Unavailable {
            doing: purpose.doing(),
            source,
        };
        let table = self.cql_table(name);
        match self.records.get(&self.cluster, &place(&table)).await {
            Ok(Some(VersionedRecord { value: Some(_), .. })) => match self.table_id(&table).await {
                Ok(Some(_)) => errors::of_read(purpose.doing(), error),
                // It is being made or dropped, or the node has not heard of it yet.
                Ok(None) => unavailable(as_text(&error)),
                Err(error) => unavailable(error.into()),
            },
            Ok(_) => {
                self.forget_table(name);
                StoreError::NoTable {
                    table: name.to_string(),
                }
            }
            Err(error) => unavailable(error.into()),
        }
    }

    /// The id under which everybody makes a table.
    async fn agreed_id(&self, table: &CqlTable) -> Result<Uuid, StoreError> {
        let place = place(table);
        let mut current = self.records.get(&self.cluster, &place).await?;
        loop {
            let version = match current {
                Some(VersionedRecord { value: Some(id), .. }) => return read_id(&id),
                Some(VersionedRecord { version, value: None }) => version,
                None => 0,
            };
            // One that is there already was made by hand, or restored from a backup.
            let id = match self.table_id(table).await? {
                Some(id) => id,
                None => self.new_id(),
            };
            let value = Bytes::from(id.to_string());
            match self.change_record(&place, version, Some(value)).await? {
                CasOutcome::Applied { .. } => return Ok(id),
                CasOutcome::Conflict { current: stands } => current = stands,
            }
        }
    }

    fn new_id(&self) -> Uuid {
        let mut bytes = [0; 16];
        self.randomness.fill(&mut bytes);
        Builder::from_random_bytes(bytes).into_uuid()
    }

    /// The id of a table in the schema of the node that is asked.
    pub(super) async fn table_id(&self, table: &CqlTable) -> Result<Option<Uuid>, StoreError> {
        let names = (table.keyspace.as_str(), table.table.as_str());
        let rows = self
            .ask_schema(&self.schema.table_id, SchemaStatements::TABLE_ID, names)
            .await?;
        let row = rows.maybe_first_row::<(Uuid,)>();
        let row = row.map_err(|error| misread("system_schema.tables", error))?;
        Ok(row.map(|(id,)| id))
    }

    async fn ask_schema(
        &self,
        cell: &Prepared,
        text: &str,
        names: impl SerializeRow + Send,
    ) -> Result<QueryRowsResult, StoreError> {
        let purpose = Purpose::ListRecords;
        let asked = async {
            let statement = self.cluster.prepared(cell, purpose, || text.to_owned()).await?;
            let result = self.cluster.run(purpose, statement, names).await?;
            result.into_rows_result().map_err(|_| unexpected())
        };
        asked.await.map_err(|error| errors::of_read(DOING, error))
    }

    /// Makes the keyspace of a namespace, unless it is there: who made it chose its replication.
    async fn make_keyspace(&self, keyspace: &CqlName, of: &NamespaceName) -> Result<(), StoreError> {
        if self.has_keyspace(keyspace).await? {
            return Ok(());
        }
        let text = self.replication.create_keyspace(keyspace);
        self.cluster
            .change_schema(text.clone())
            .await
            .map_err(|error| self.schema_error(error, &text))?;
        tracing::info!(keyspace = %keyspace, namespace = %of, "keyspace made");
        Ok(())
    }

    pub(super) async fn has_keyspace(&self, keyspace: &CqlName) -> Result<bool, StoreError> {
        let rows = self
            .ask_schema(
                &self.schema.keyspace,
                SchemaStatements::KEYSPACE,
                (keyspace.as_str(),),
            )
            .await?;
        Ok(rows.rows_num() > 0)
    }

    pub(super) async fn await_agreement(&self) -> Result<(), StoreError> {
        let agreed = self.cluster.session().await_schema_agreement().await;
        agreed.map(drop).map_err(|error| StoreError::Unavailable {
            doing: "waiting until all nodes agree on the schema",
            source: as_text(&error),
        })
    }

    /// A change of the schema may have been made in spite of its error; making it again changes nothing.
    pub(super) fn schema_error(&self, error: ExecutionError, text: &str) -> StoreError {
        if errors::is_unauthorized(&error) {
            return StoreError::Refused {
                doing: DOING,
                reason: format!("the role has no right to; let one that has it run: {text}"),
            };
        }
        let error = errors::of_write(DOING, error, false);
        tracing::warn!(
            statement = text,
            error = anabranch_runtime::error_chain(&error),
            "schema not changed"
        );
        error
    }
}

fn place(table: &CqlTable) -> Place {
    Place::of_event_table(table.keyspace.as_str(), table.table.as_str())
}

fn read_id(stored: &Bytes) -> Result<Uuid, StoreError> {
    let text = std::str::from_utf8(stored).map_err(|error| misread("id of a table", error))?;
    Uuid::parse_str(text).map_err(|error| misread("id of a table", error))
}
