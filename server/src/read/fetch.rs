//! One request's calls to the store: bounded, counted, and forgiving of slices that went away.
//!
//! - A permit is held for one call only, never while a stream waits for its turn in a merge, so
//!   requests can not lock each other out.
//! - A table that is gone was dropped by retention under the request: its slice is skipped, and the
//!   answer's warnings say so. Every other failure fails the request.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anabranch_model::{Direction, PartitionKey, TimeSeriesId};
use anabranch_storage::{ErrorKind, EventStore, ScanEnd, ScanPage, ScanRequest, StoreError, TableName};
use tokio::sync::Semaphore;

use super::ahead::ReadAhead;
use super::diversion::Diversion;
use super::metrics::ReadMetrics;
use crate::detect::Detector;

/// Bytes that a request reads before it lets others run.
const BYTES_UNYIELDED: u64 = 2 << 20;

#[derive(Debug)]
pub(super) struct Fetch {
    events: Arc<dyn EventStore>,
    server: Arc<Semaphore>,
    request: Semaphore,
    request_partitions_max: usize,
    metrics: Arc<ReadMetrics>,
    partitions_read: AtomicU64,
    bytes_read: AtomicU64,
    /// `bytes_read` when the request last let others run.
    bytes_yielded: AtomicU64,
    warnings: Mutex<BTreeSet<String>>,
    diversion: Diversion,
    detector: Option<Detector>,
    /// What was and is read ahead, and how many targets ahead of this request.
    ahead: Option<(Arc<ReadAhead>, usize)>,
}

impl Fetch {
    pub(super) fn new(
        events: Arc<dyn EventStore>,
        server: Arc<Semaphore>,
        request_partitions_max: usize,
        metrics: Arc<ReadMetrics>,
        diversion: Diversion,
        detector: Option<Detector>,
    ) -> Self {
        Self {
            events,
            server,
            request: Semaphore::new(request_partitions_max.max(1)),
            request_partitions_max,
            metrics,
            partitions_read: AtomicU64::new(0),
            bytes_read: AtomicU64::new(0),
            bytes_yielded: AtomicU64::new(0),
            warnings: Mutex::default(),
            diversion,
            detector,
            ahead: None,
        }
    }

    /// The same, with so many targets read ahead.
    pub(super) fn reading_ahead(self, ahead: Arc<ReadAhead>, targets: usize) -> Self {
        Self {
            ahead: Some((ahead, targets)),
            ..self
        }
    }

    /// The same request once more, from originals. What was spent so far stays counted.
    pub(super) fn again(&self) -> Self {
        let again = Self::new(
            self.events.clone(),
            self.server.clone(),
            self.request_partitions_max,
            self.metrics.clone(),
            self.diversion.again(),
            self.detector.clone(),
        );
        let (partitions, bytes) = (self.partitions_read(), self.bytes_read());
        again.partitions_read.store(partitions, Ordering::Relaxed);
        again.bytes_read.store(bytes, Ordering::Relaxed);
        again.bytes_yielded.store(bytes, Ordering::Relaxed);
        again
    }

    pub(super) fn diversion(&self) -> &Diversion {
        &self.diversion
    }

    /// Begins to read the targets that a stream comes to: incarnation, request and bytes of each, those behind the first.
    pub(super) fn read_ahead<'a>(&self, targets: impl Iterator<Item = (u64, &'a ScanRequest, u64)>) {
        if let Some((ahead, count)) = &self.ahead {
            for (incarnation, scan, bytes) in targets.skip(1).take(*count) {
                ahead.begin(incarnation, scan, bytes);
            }
        }
    }

    /// A page of a target. A table that is gone is trouble like any other: its original is there.
    pub(super) async fn scan_target(
        &self,
        request: &ScanRequest,
        incarnation: u64,
    ) -> Result<ScanPage, StoreError> {
        if let Some((ahead, _)) = &self.ahead
            && let Some(page) = ahead.page(incarnation, request).await
        {
            self.bytes_read.fetch_add(page.bytes_read, Ordering::Relaxed);
            return Ok(page);
        }
        let _request = self.request.acquire().await;
        let _server = self.server.acquire().await;
        let page = self.events.scan(request).await?;
        self.bytes_read.fetch_add(page.bytes_read, Ordering::Relaxed);
        Ok(page)
    }

    /// A page of a partition; an empty last one when the table is gone.
    pub(super) async fn scan(&self, request: &ScanRequest) -> Result<ScanPage, StoreError> {
        let _request = self.request.acquire().await;
        let _server = self.server.acquire().await;
        let page = match self.events.scan(request).await {
            Err(error) => {
                self.forgive(&request.table, error)?;
                ScanPage {
                    events: Vec::new(),
                    bytes_read: 0,
                    end: ScanEnd::Exhausted,
                }
            }
            Ok(page) => page,
        };
        self.bytes_read.fetch_add(page.bytes_read, Ordering::Relaxed);
        Ok(page)
    }

    /// The next bucket in which the id may have events; none when the table is gone.
    pub(super) async fn next_time_bucket(
        &self,
        table: &TableName,
        id: &TimeSeriesId,
        from: i64,
        to: i64,
        direction: Direction,
    ) -> Result<Option<i64>, StoreError> {
        let _request = self.request.acquire().await;
        let _server = self.server.acquire().await;
        match self.events.next_time_bucket(table, id, from, to, direction).await {
            Err(error) => self.forgive(table, error).map(|()| None),
            found => found,
        }
    }

    /// The next partitions of a table in the store's own order; none when the table is gone.
    pub(super) async fn partitions(
        &self,
        table: &TableName,
        after: Option<&PartitionKey>,
        partitions_max: usize,
    ) -> Result<Vec<PartitionKey>, StoreError> {
        let _request = self.request.acquire().await;
        let _server = self.server.acquire().await;
        match self.events.partitions(table, after, partitions_max).await {
            Err(error) => self.forgive(table, error).map(|()| Vec::new()),
            found => found,
        }
    }

    pub(super) fn partition_opened(&self) {
        self.partitions_read.fetch_add(1, Ordering::Relaxed);
    }

    /// A partition is read no further: so many bytes of its original by this request, and by the pages before it, and
    /// of targets.
    pub(super) fn partition_left(
        &self,
        partition: &PartitionKey,
        original_bytes: u64,
        carried_bytes: u64,
        target_bytes: u64,
    ) {
        if let Some(detector) = &self.detector {
            detector.offer(
                self.diversion.view(),
                partition,
                carried_bytes.saturating_add(original_bytes),
            );
        }
        let bytes = original_bytes.saturating_add(target_bytes);
        // Histograms are of floats; a partition has far fewer bytes than a float counts exactly.
        #[expect(clippy::cast_precision_loss, reason = "see above")]
        self.metrics.partition_bytes.observe(bytes as f64);
    }

    /// Lets other requests run when this one has read a lot. A store in this process answers without ever
    /// waiting, so a long walk would otherwise keep its thread to itself.
    pub(super) async fn give_way(&self) {
        let read = self.bytes_read();
        if read.saturating_sub(self.bytes_yielded.load(Ordering::Relaxed)) >= BYTES_UNYIELDED {
            self.bytes_yielded.store(read, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    }

    pub(super) fn warn(&self, warning: String) {
        self.warnings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(warning);
    }

    pub(super) fn partitions_read(&self) -> u64 {
        self.partitions_read.load(Ordering::Relaxed)
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    pub(super) fn take_warnings(&self) -> Vec<String> {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *warnings).into_iter().collect()
    }

    fn forgive(&self, table: &TableName, error: StoreError) -> Result<(), StoreError> {
        if error.kind() != ErrorKind::NotFound {
            return Err(error);
        }
        let slice = &table.slice;
        self.warn(format!("time slice `{slice}` was dropped and is left out"));
        Ok(())
    }
}
