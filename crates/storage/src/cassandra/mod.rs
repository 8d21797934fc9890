//! The store on Apache Cassandra or ScyllaDB, on the driver `scylla`.
//!
//! ```text
//! EventStore  ─▶ append, scan, walk ─┐            <keyspace>_<namespace>.data_<slice>, wide_data_<slice>
//! RecordStore ─▶ records ────────────┼▶ cluster ─▶ <keyspace>.namespace, time_slice, wide_row, …
//!                tables ─────────────┘  (prepared, timed, bounded; policy says how each is sent)
//! ```
//!
//! - W1: a write is answered for when the replicas that the consistency asks for have it; a read asks so many that
//!   one of those is among them, unless its namespace is content with one (`levels`).
//! - W2: a row is its key; every attempt at a write carries one write time.
//! - R1: a scan yields whole events in event order (`scan`).
//! - Names are made of checked parts (`names`), everything else is bound; every statement binds the whole partition
//!   key, but for those that walk over all partitions.
//! - What may have happened is *unknown*, and for records it is found out (`records`).
//!
//! Tables, columns and what is kept in them are in `docs/formats.md`. Write times are the store's own: the trait has
//! no place for one, neither backend beside this keeps any, and nothing depends on them, because events do not
//! change and every attempt at a split has target partitions of its own (decision 0008).

mod append;
mod cluster;
mod connect;
mod density;
pub mod direct;
mod errors;
mod events_cql;
mod levels;
mod metrics;
pub mod names;
mod policy;
mod record_place;
mod records;
mod records_cql;
mod replication;
mod scan;
pub mod settings;
mod tables;
mod tls;
mod walk;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anabranch_model::{Direction, PartitionKey, TimeSeriesId};
use anabranch_runtime::{Clock, Randomness};
use async_trait::async_trait;
use bytes::Bytes;
use scylla::errors::ExecutionError;
use scylla::statement::prepared::PreparedStatement;

use self::cluster::{Cluster, Prepared, unexpected};
pub use self::connect::{open, shared_schema};
use self::density::Density;
use self::events_cql::EventStatement;
use self::levels::Levels;
use self::names::{CqlTable, KeyspaceName};
use self::policy::Purpose;
use self::record_place::{Place, event_bucket};
use self::records::Records;
use self::replication::Replication;
use self::tables::SchemaStatements;
use crate::error::StoreError;
use crate::events::{AppendFailure, EventStore, PartitionAppend, ScanPage, ScanRequest, TableName};
use crate::open::StoreStatus;
use crate::records::{CasOutcome, RecordKey, RecordPrefix, RecordStore, VersionedRecord};

/// The store on a cluster.
pub struct CassandraStore {
    cluster: Cluster,
    levels: Levels,
    keyspace: KeyspaceName,
    replication: Replication,
    records: Records,
    schema: SchemaStatements,
    /// Of one process one change of the schema at a time.
    schema_turn: tokio::sync::Mutex<()>,
    tables: Mutex<HashMap<TableName, Arc<EventTable>>>,
    clock: Arc<dyn Clock>,
    randomness: Randomness,
    /// How long it is tried to find out what became of a change of a record.
    patience: Duration,
    /// What an append may take at most, of however many batches.
    append_max: Duration,
}

/// What is known of a table of events.
#[derive(Debug)]
struct EventTable {
    name: CqlTable,
    statements: [Prepared; EventStatement::ALL.len()],
    density: Density,
}

impl CassandraStore {
    fn cql_table(&self, name: &TableName) -> CqlTable {
        CqlTable::of(&self.keyspace, name)
    }

    fn tables(&self) -> MutexGuard<'_, HashMap<TableName, Arc<EventTable>>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn event_table(&self, name: &TableName) -> Arc<EventTable> {
        let mut tables = self.tables();
        if let Some(known) = tables.get(name) {
            return known.clone();
        }
        let table = Arc::new(EventTable {
            name: self.cql_table(name),
            statements: Default::default(),
            density: Density::default(),
        });
        tables.insert(name.clone(), table.clone());
        table
    }

    fn forget_table(&self, name: &TableName) {
        self.tables().remove(name);
    }

    async fn event_statement<'a>(
        &self,
        table: &'a EventTable,
        statement: EventStatement,
    ) -> Result<&'a PreparedStatement, ExecutionError> {
        let cell = table.statements.get(statement as usize).ok_or_else(unexpected)?;
        let purpose = match statement {
            EventStatement::Insert | EventStatement::Delete => Purpose::WriteEvents,
            EventStatement::Newest | EventStatement::Oldest | EventStatement::Event => Purpose::ReadEvents,
            EventStatement::WalkFirst | EventStatement::WalkOn => Purpose::Walk,
        };
        self.cluster
            .prepared(cell, purpose, || statement.text(&table.name))
            .await
    }

    async fn change_record(
        &self,
        place: &Place,
        expected: u64,
        value: Option<Bytes>,
    ) -> Result<CasOutcome, StoreError> {
        self.records
            .compare_and_set(&self.cluster, &*self.clock, self.patience, place, expected, value)
            .await
    }
}

#[async_trait]
impl EventStore for CassandraStore {
    async fn create_table(&self, table: &TableName) -> Result<(), StoreError> {
        self.make_table(table).await
    }

    async fn drop_table(&self, table: &TableName) -> Result<(), StoreError> {
        self.remove_table(table).await
    }

    async fn append(&self, parts: Vec<PartitionAppend>) -> Result<(), AppendFailure> {
        self.append_parts(parts).await
    }

    async fn delete_partition(&self, table: &TableName, partition: &PartitionKey) -> Result<(), StoreError> {
        let purpose = Purpose::WriteEvents;
        let of = self.event_table(table);
        let statement = match self.event_statement(&of, EventStatement::Delete).await {
            Ok(statement) => statement,
            Err(error) => return Err(self.explain(purpose, table, error).await),
        };
        let values = (
            partition.time_series_id.as_str(),
            partition.time_bucket,
            event_bucket(partition)?,
        );
        match self
            .cluster
            .write(statement, values, self.cluster.write_time())
            .await
        {
            Ok(()) => Ok(()),
            Err(failed) if failed.nothing => Err(self.explain(purpose, table, failed.error).await),
            Err(failed) => Err(failed.into_error(purpose)),
        }
    }

    async fn scan(&self, request: &ScanRequest) -> Result<ScanPage, StoreError> {
        self.scan_page(request).await
    }

    fn finds_time_buckets(&self) -> bool {
        false
    }

    async fn next_time_bucket(
        &self,
        _table: &TableName,
        _time_series_id: &TimeSeriesId,
        from: i64,
        to: i64,
        direction: Direction,
    ) -> Result<Option<i64>, StoreError> {
        // The buckets of an id lie all over the ring: which of them there are can not be known but by asking each.
        let holds = match direction {
            Direction::Ascending => from <= to,
            Direction::Descending => from >= to,
        };
        Ok(holds.then_some(from))
    }

    async fn partitions(
        &self,
        table: &TableName,
        after: Option<&PartitionKey>,
        partitions_max: usize,
    ) -> Result<Vec<PartitionKey>, StoreError> {
        self.list_partitions(table, after, partitions_max).await
    }
}

#[async_trait]
impl RecordStore for CassandraStore {
    async fn get(&self, key: &RecordKey) -> Result<Option<VersionedRecord>, StoreError> {
        self.records.get(&self.cluster, &Place::of(key)?).await
    }

    async fn look_up(&self, key: &RecordKey) -> Result<Option<VersionedRecord>, StoreError> {
        self.records.look_up(&self.cluster, &Place::of(key)?).await
    }

    async fn compare_and_set(
        &self,
        key: &RecordKey,
        expected: u64,
        value: Option<Bytes>,
    ) -> Result<CasOutcome, StoreError> {
        if let RecordKey::Split { namespace, partition } = key {
            self.records
                .note_wide_slice(&self.cluster, namespace, &partition.slice)
                .await?;
        }
        self.change_record(&Place::of(key)?, expected, value).await
    }

    async fn list(
        &self,
        prefix: &RecordPrefix,
        after: Option<&RecordKey>,
        records_max: usize,
    ) -> Result<Vec<(RecordKey, VersionedRecord)>, StoreError> {
        self.records.list(&self.cluster, prefix, after, records_max).await
    }
}

impl StoreStatus for CassandraStore {
    fn kind(&self) -> &'static str {
        "cassandra"
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let state = self.cluster.session().get_cluster_state();
        let here = |node: &&Arc<scylla::cluster::Node>| {
            node.datacenter.as_deref() == Some(self.replication.datacenter())
        };
        let nodes: Vec<_> = state.get_nodes_info().iter().filter(here).collect();
        let connected = nodes.iter().filter(|node| node.is_connected()).count();
        vec![
            ("cluster", state.cluster_name().to_owned()),
            ("datacenter", self.replication.datacenter().to_owned()),
            ("keyspace", self.keyspace.to_string()),
            ("nodes of the datacenter", nodes.len().to_string()),
            ("nodes connected", connected.to_string()),
        ]
    }

    fn close(&self) -> Result<(), StoreError> {
        // Everything acked is on the nodes; connections end with the session.
        Ok(())
    }
}

impl fmt::Debug for CassandraStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CassandraStore")
            .field("keyspace", &self.keyspace)
            .field("replication", &self.replication)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod statements_tests;
