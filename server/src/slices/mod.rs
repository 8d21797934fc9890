//! Time slices: made ahead of need, closed, dropped.
//!
//! ```text
//! create   namespace record: `creating` = slices, settings frozen ─▶ table ─▶ slice record     now visible
//! retire   slice record: Closed ─▶ wait ─▶ drop table ─▶ slice record: Dropped                 kept for good
//! freeze   slice record: `frozen_before` ─▶ table of targets                                   then splits
//! open     epochs of the slices ─▶ the setting ─▶ `frozen_before` back                         then writes
//! ```
//!
//! - W1: a slice is visible only after its table is there; its table is dropped only after every server
//!   has stopped reading and writing it.
//! - W2: what a slice is frozen with is stored before its table, by one compare-and-set a namespace: two
//!   keepers never cut one time twice, with one width or with two.
//! - W3: before anything that was immutable takes writes again, its slice has a new epoch; what is frozen
//!   takes none, whatever any clock says.
//!
//! One task makes slices on this server. Across servers the owner in `creating` does, and another takes
//! over when the owner has been silent for the lease.

mod create;
mod delete;
mod freeze;
mod keeper;
mod open;
mod retention;
mod seal;
mod seen;
pub mod tiling;
mod wide;

use std::sync::Arc;
use std::time::Duration;

use anabranch_catalog::{SliceRecord, store_slice};
use anabranch_model::{EventTime, NamespaceName, SliceName};
use anabranch_runtime::telemetry::Metrics;
use anabranch_runtime::{Clock, Randomness, Tasks};
use anabranch_storage::{Store, TableKind, TableName};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{mpsc, oneshot};

use crate::errors::{Reason, ServiceError};
use crate::namespaces::Namespaces;
use crate::write::InFlight;

pub use self::seal::SealedSlices;

/// How slices are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlicesSettings {
    /// How often the keeper looks at every namespace.
    pub keeper_interval: Duration,
    /// Most slices in a namespace, dropped ones included: each open one is a table.
    pub slices_max: usize,
    /// Tables that are made at the same time. 1 where making tables at once is not safe.
    pub creations_max: usize,
    /// True when other servers use the store too, so that they have to be waited for.
    pub shared_store: bool,
    /// How long another keeper's creation may take before this one takes it over.
    pub creation_lease: Duration,
    /// How long after a change of settings no other server writes or reads under the old ones:
    /// the settings' lifetime, the longest write and a margin.
    pub settle: Duration,
}

impl Default for SlicesSettings {
    fn default() -> Self {
        Self {
            keeper_interval: Duration::from_secs(1),
            slices_max: 20_000,
            creations_max: 16,
            shared_store: false,
            creation_lease: Duration::from_secs(30),
            settle: Duration::from_secs(30),
        }
    }
}

/// Handle on the one task that makes slices on this server.
#[derive(Clone, Debug)]
pub struct SliceKeeper {
    core: Arc<Keeping>,
    requests: mpsc::Sender<Request>,
}

/// What the keeper works with.
#[derive(Debug)]
struct Keeping {
    store: Store,
    namespaces: Namespaces,
    in_flight: InFlight,
    tasks: Tasks,
    settings: SlicesSettings,
    /// Tells this keeper from others on the same store.
    owner: u64,
    created: Counter,
    wide_tables_created: Counter,
    dropped: Counter,
}

#[derive(Debug)]
enum Request {
    /// Each of these times shall have a slice.
    Ensure {
        namespace: NamespaceName,
        times: Vec<EventTime>,
        done: oneshot::Sender<Result<(), ServiceError>>,
    },
    /// This slice's table of targets is wanted at once.
    MakeWideTable {
        namespace: NamespaceName,
        slice: SliceName,
        done: oneshot::Sender<Result<(), ServiceError>>,
    },
    /// A namespace that is marked shall go.
    FinishDelete {
        namespace: NamespaceName,
        done: oneshot::Sender<Result<(), ServiceError>>,
    },
}

impl SliceKeeper {
    /// Starts the keeper's task.
    pub fn start(
        store: Store,
        namespaces: Namespaces,
        randomness: &Randomness,
        tasks: &Tasks,
        metrics: &Metrics,
        in_flight: InFlight,
        settings: SlicesSettings,
    ) -> Self {
        let (created, wide_tables_created, dropped) =
            (Counter::default(), Counter::default(), Counter::default());
        metrics.register(|registry| {
            registry.register("slices_created", "Time slices made", created.clone());
            registry.register(
                "wide_tables_created",
                "Tables made for targets of splits",
                wide_tables_created.clone(),
            );
            registry.register("slices_dropped", "Time slices dropped", dropped.clone());
        });
        let core = Arc::new(Keeping {
            store,
            namespaces,
            in_flight,
            tasks: tasks.clone(),
            settings,
            owner: randomness.next_u64(),
            created,
            wide_tables_created,
            dropped,
        });
        let (requests, waiting) = mpsc::channel(1_024);
        tasks.spawn(
            "keep slices",
            keeper::run(core.clone(), waiting, tasks.stopping()),
        );
        Self { core, requests }
    }

    /// Makes sure that each of these times has a slice.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND`; `SERVER_OVERLOADED` when the namespace would have too many slices; those
    /// of the store.
    pub async fn ensure(&self, namespace: &NamespaceName, times: Vec<EventTime>) -> Result<(), ServiceError> {
        let namespace = namespace.clone();
        self.ask(|done| Request::Ensure {
            namespace,
            times,
            done,
        })
        .await
    }

    async fn ask(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<(), ServiceError>>) -> Request,
    ) -> Result<(), ServiceError> {
        let (done, answer) = oneshot::channel();
        if self.requests.send(request(done)).await.is_err() {
            return Err(stopping());
        }
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }
}

fn stopping() -> ServiceError {
    let problem = "server is stopping and makes no more time slices";
    ServiceError::new(Reason::ServerDraining, problem)
        .with("problem", problem)
        .retry_after(Duration::from_secs(1))
}

impl Keeping {
    fn clock(&self) -> &dyn Clock {
        &**self.namespaces.clock()
    }

    fn now(&self) -> EventTime {
        self.namespaces.now()
    }

    /// Stores a slice's record over a version of it; false when somebody else was first.
    async fn store_slice(
        &self,
        namespace: &NamespaceName,
        version: u64,
        record: &SliceRecord,
    ) -> Result<bool, ServiceError> {
        let stored = store_slice(&*self.store.records, namespace, version, record).await?;
        Ok(stored.is_some())
    }
}

fn data_table(namespace: &NamespaceName, slice: &SliceName) -> TableName {
    table(namespace, TableKind::Data, slice)
}

fn wide_table(namespace: &NamespaceName, slice: &SliceName) -> TableName {
    table(namespace, TableKind::Wide, slice)
}

fn table(namespace: &NamespaceName, kind: TableKind, slice: &SliceName) -> TableName {
    TableName {
        namespace: namespace.clone(),
        kind,
        slice: slice.clone(),
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
