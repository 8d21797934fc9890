//! How many copies there are of what, and what is made of it in a statement.

use super::names::CqlName;

/// How keyspaces are replicated that are made here.
#[derive(Clone, Debug)]
pub(super) struct Replication {
    datacenter: String,
    factor: u32,
    /// ScyllaDB spreads tables by tablets unless told otherwise, and has no compare-and-set on those.
    scylladb: bool,
}

impl Replication {
    pub(super) fn new(datacenter: String, factor: u32, scylladb: bool) -> Self {
        Self {
            datacenter,
            factor,
            scylladb,
        }
    }

    pub(super) fn datacenter(&self) -> &str {
        &self.datacenter
    }

    pub(super) fn factor(&self) -> u32 {
        self.factor
    }

    /// Makes a keyspace of events.
    pub(super) fn create_keyspace(&self, keyspace: &CqlName) -> String {
        // The name of a data centre is the cluster's own, or an operator's.
        let datacenter = self.datacenter.replace('\'', "''");
        format!(
            "CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = \
             {{'class': 'NetworkTopologyStrategy', '{datacenter}': {}}}",
            self.factor
        )
    }

    /// Makes the keyspace of records, which are changed by compare-and-set.
    pub(super) fn create_shared_keyspace(&self, keyspace: &CqlName) -> String {
        let tablets = if self.scylladb {
            " AND tablets = {'enabled': false}"
        } else {
            ""
        };
        format!("{}{tablets}", self.create_keyspace(keyspace))
    }
}
