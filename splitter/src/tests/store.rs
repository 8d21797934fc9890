//! A store in which things happen: calls that fail, that wait, or beside which something else is done.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use anabranch_model::{Direction, PartitionKey, TimeSeriesId};
use anabranch_storage::memory::MemoryStore;
use anabranch_storage::{
    AppendFailure, CasOutcome, EventStore, PartitionAppend, RecordKey, RecordPrefix, RecordStore, ScanPage,
    ScanRequest, StoreError, TableKind, TableName, VersionedRecord,
};
use async_trait::async_trait;
use bytes::Bytes;

type Deed = Box<dyn Fn(Arc<MemoryStore>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// The memory store, and what happens in it.
pub(super) struct Eventful {
    pub(super) inner: Arc<MemoryStore>,
    /// Calls so far.
    pub(super) calls: AtomicU64,
    /// Calls from this one on fail…
    pub(super) fail_from: AtomicU64,
    /// … up to this one.
    pub(super) fail_until: AtomicU64,
    /// Before this call, the deed is done.
    pub(super) deed_at: AtomicU64,
    /// So many removals of partitions do nothing.
    pub(super) deaf_to_removals: AtomicU64,
    /// Before each first scan of a target in a generation, the deed is done.
    pub(super) deed_before_reading_back: Mutex<bool>,
    /// What was done to which kind of table, at which consistency.
    pub(super) asked: Mutex<BTreeSet<(&'static str, &'static str)>>,
    deed: Mutex<Option<Arc<Deed>>>,
    appended: Mutex<bool>,
}

impl fmt::Debug for Eventful {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Eventful")
    }
}

impl Eventful {
    pub(super) fn over(inner: Arc<MemoryStore>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            calls: AtomicU64::new(0),
            fail_from: AtomicU64::new(u64::MAX),
            fail_until: AtomicU64::new(u64::MAX),
            deed_at: AtomicU64::new(u64::MAX),
            deaf_to_removals: AtomicU64::new(0),
            deed_before_reading_back: Mutex::new(false),
            asked: Mutex::default(),
            deed: Mutex::new(None),
            appended: Mutex::new(false),
        })
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    pub(super) fn fail(&self, from: u64, until: u64) {
        self.fail_from.store(from, Ordering::Relaxed);
        self.fail_until.store(until, Ordering::Relaxed);
    }

    pub(super) fn on<F, D>(&self, deed: D)
    where
        D: Fn(Arc<MemoryStore>) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let boxed: Deed = Box::new(move |store| Box::pin(deed(store)));
        *self.deed.lock().unwrap() = Some(Arc::new(boxed));
    }

    async fn call(&self) -> Result<(), StoreError> {
        // Others get their turn between any two calls.
        tokio::task::yield_now().await;
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        if call == self.deed_at.load(Ordering::Relaxed) {
            self.do_deed().await;
        }
        if (self.fail_from.load(Ordering::Relaxed)..self.fail_until.load(Ordering::Relaxed)).contains(&call) {
            return Err(StoreError::Unavailable {
                doing: "a call of a test",
                source: "it is broken".into(),
            });
        }
        Ok(())
    }

    async fn do_deed(&self) {
        let deed = self.deed.lock().unwrap().clone();
        if let Some(deed) = deed {
            deed(self.inner.clone()).await;
        }
    }
}

#[async_trait]
impl EventStore for Eventful {
    async fn create_table(&self, table: &TableName) -> Result<(), StoreError> {
        self.call().await?;
        self.inner.create_table(table).await
    }

    async fn drop_table(&self, table: &TableName) -> Result<(), StoreError> {
        self.call().await?;
        self.inner.drop_table(table).await
    }

    async fn append(&self, parts: Vec<PartitionAppend>) -> Result<(), AppendFailure> {
        if let Err(error) = self.call().await {
            return Err(AppendFailure {
                failed: vec![(0, error)],
            });
        }
        *self.appended.lock().unwrap() = true;
        for part in &parts {
            let asked = ("write a target", part.consistency.as_str());
            self.asked.lock().unwrap().insert(asked);
        }
        self.inner.append(parts).await
    }

    async fn delete_partition(&self, table: &TableName, partition: &PartitionKey) -> Result<(), StoreError> {
        self.call().await?;
        let deaf = self.deaf_to_removals.load(Ordering::Relaxed);
        if deaf > 0 {
            self.deaf_to_removals.store(deaf - 1, Ordering::Relaxed);
            return Ok(());
        }
        self.inner.delete_partition(table, partition).await
    }

    async fn scan(&self, request: &ScanRequest) -> Result<ScanPage, StoreError> {
        self.call().await?;
        let reads_back = request.table.kind == TableKind::Wide;
        let what = if reads_back {
            "read a target"
        } else {
            "read an original"
        };
        self.asked
            .lock()
            .unwrap()
            .insert((what, request.consistency.as_str()));
        let first = reads_back && std::mem::take(&mut *self.appended.lock().unwrap());
        if first && *self.deed_before_reading_back.lock().unwrap() {
            self.do_deed().await;
        }
        self.inner.scan(request).await
    }

    fn finds_time_buckets(&self) -> bool {
        self.inner.finds_time_buckets()
    }

    async fn next_time_bucket(
        &self,
        table: &TableName,
        time_series_id: &TimeSeriesId,
        from: i64,
        to: i64,
        direction: Direction,
    ) -> Result<Option<i64>, StoreError> {
        self.inner
            .next_time_bucket(table, time_series_id, from, to, direction)
            .await
    }

    async fn partitions(
        &self,
        table: &TableName,
        after: Option<&PartitionKey>,
        partitions_max: usize,
    ) -> Result<Vec<PartitionKey>, StoreError> {
        self.inner.partitions(table, after, partitions_max).await
    }
}

#[async_trait]
impl RecordStore for Eventful {
    async fn get(&self, key: &RecordKey) -> Result<Option<VersionedRecord>, StoreError> {
        self.call().await?;
        self.inner.get(key).await
    }

    async fn compare_and_set(
        &self,
        key: &RecordKey,
        expected: u64,
        value: Option<Bytes>,
    ) -> Result<CasOutcome, StoreError> {
        self.call().await?;
        self.inner.compare_and_set(key, expected, value).await
    }

    async fn list(
        &self,
        prefix: &RecordPrefix,
        after: Option<&RecordKey>,
        records_max: usize,
    ) -> Result<Vec<(RecordKey, VersionedRecord)>, StoreError> {
        self.call().await?;
        self.inner.list(prefix, after, records_max).await
    }
}
