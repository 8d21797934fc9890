//! The bus of one process: detections wait as records in the store, one a partition.
//!
//! ```text
//! publish ─▶ compare-and-set of the partition's record ─▶ ring         receive ─▶ list, on from where it stopped
//!                                                                      ack ─▶ compare-and-set: removed, if still the same
//! ```
//!
//! - Durable when `publish` returns, so a crash loses no detection that was handed over.
//! - The receipt is the record's version: an ack of what has been replaced since removes nothing.
//! - Nothing is delivered for the second time before everything that waits was delivered once: detections that nobody
//!   can ack do not stand in the way of the others.
//! - A record that can not be read is removed and counted; it was a hint, and the next wide read gives it again.

use std::sync::{Arc, Mutex, PoisonError};

use anabranch_runtime::error_chain;
use anabranch_runtime::telemetry::Metrics;
use anabranch_storage::{CasOutcome, RecordKey, RecordPrefix, RecordStore, VersionedRecord};
use async_trait::async_trait;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::Notify;
use tracing::warn;

use crate::{BusError, Delivery, Detection, DetectionBus};

/// Detections that wait in the store. Clones share the bell.
#[derive(Clone, Debug)]
pub struct StoreBus(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    records: Arc<dyn RecordStore>,
    ring: Notify,
    /// What was delivered last; the next delivery goes on behind it.
    delivered: Mutex<Option<RecordKey>>,
    unreadable: Counter,
}

impl StoreBus {
    /// The bus in a store's records.
    pub fn new(records: Arc<dyn RecordStore>, metrics: &Metrics) -> Self {
        let unreadable = Counter::default();
        metrics.register(|registry| {
            registry.register(
                "detections_unreadable",
                "Waiting detections that could not be read, and were removed",
                unreadable.clone(),
            );
        });
        let ring = Notify::new();
        // What an earlier process left may wait.
        ring.notify_one();
        Self(Arc::new(Inner {
            records,
            ring,
            delivered: Mutex::new(None),
            unreadable,
        }))
    }

    /// Takes what can be read, and removes what can not.
    async fn deliver(&self, key: &RecordKey, record: VersionedRecord) -> Result<Option<Delivery>, BusError> {
        let receipt = record.version;
        match read(key, &record.value.unwrap_or_default()) {
            Ok(detection) => Ok(Some(Delivery { detection, receipt })),
            Err(error) => {
                warn!(?key, error = %error_chain(&error), "detection is removed");
                self.0.unreadable.inc();
                self.0.records.compare_and_set(key, receipt, None).await?;
                Ok(None)
            }
        }
    }
}

#[async_trait]
impl DetectionBus for StoreBus {
    async fn publish(&self, detection: &Detection) -> Result<(), BusError> {
        let key = key(detection);
        let bytes = detection.encode();
        let mut current = self.0.records.get(&key).await?;
        // Ends: a conflict means that somebody else's change went through.
        loop {
            let waiting = current.as_ref().and_then(|record| record.value.as_ref());
            let told = waiting.and_then(|bytes| read(&key, bytes).ok());
            if told.is_some_and(|told| told.bytes >= detection.bytes) {
                return Ok(());
            }
            let version = current.map_or(0, |record| record.version);
            match self
                .0
                .records
                .compare_and_set(&key, version, Some(bytes.clone()))
                .await?
            {
                CasOutcome::Applied { .. } => break,
                CasOutcome::Conflict { current: stands } => current = stands,
            }
        }
        self.0.ring.notify_one();
        Ok(())
    }

    async fn receive(&self, detections_max: usize) -> Result<Vec<Delivery>, BusError> {
        let last = |inner: &Inner| {
            inner
                .delivered
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()
        };
        let from = last(&self.0);
        let list = |after: Option<RecordKey>, max: usize| async move {
            let prefix = RecordPrefix::Detections;
            self.0.records.list(&prefix, after.as_ref(), max).await
        };
        let mut found = list(from.clone(), detections_max).await?;
        if let Some(from) = from
            && found.len() < detections_max
        {
            // Round to the start, and no further than where it began.
            let again = list(None, detections_max - found.len()).await?;
            found.extend(again.into_iter().take_while(|(key, _)| *key <= from));
        }
        if let Some((key, _)) = found.last() {
            *self.0.delivered.lock().unwrap_or_else(PoisonError::into_inner) = Some(key.clone());
        }
        let mut deliveries = Vec::with_capacity(found.len());
        for (key, record) in found {
            deliveries.extend(self.deliver(&key, record).await?);
        }
        Ok(deliveries)
    }

    async fn ack(&self, delivery: &Delivery) -> Result<(), BusError> {
        let key = key(&delivery.detection);
        // A conflict: a newer one came, or another ack was first. Either is as it should be.
        self.0
            .records
            .compare_and_set(&key, delivery.receipt, None)
            .await?;
        Ok(())
    }

    async fn arrived(&self) {
        self.0.ring.notified().await;
    }

    async fn recalled(&self) {
        // There is no other receiver.
        std::future::pending().await
    }
}

fn key(detection: &Detection) -> RecordKey {
    RecordKey::Detection {
        namespace: detection.namespace.clone(),
        partition: detection.partition.clone(),
    }
}

/// The detection under a key: it has to tell of the partition whose key it is.
fn read(of: &RecordKey, bytes: &[u8]) -> Result<Detection, BusError> {
    let detection = Detection::decode(bytes)?;
    if key(&detection) == *of {
        return Ok(detection);
    }
    Err(BusError::Unreadable {
        problem: format!("it tells of {}", detection.partition),
    })
}

#[cfg(test)]
mod tests {
    use anabranch_storage::memory::MemoryStore;
    use bytes::Bytes;

    use super::*;
    use crate::conformance::{self, Arrival, Topic, detection};

    /// A store with a bus in it.
    struct InStore(Arc<MemoryStore>);

    #[async_trait]
    impl Topic for InStore {
        async fn open(&mut self) -> Arc<dyn DetectionBus> {
            Arc::new(bus(&self.0).0)
        }

        async fn close(&mut self) {}
    }

    fn bus(records: &Arc<MemoryStore>) -> (StoreBus, Metrics) {
        let metrics = Metrics::default();
        (StoreBus::new(records.clone(), &metrics), metrics)
    }

    #[tokio::test]
    async fn the_bus_in_the_store_conforms() {
        conformance::run(Arrival::AtOnce, || async {
            InStore(Arc::new(MemoryStore::new()))
        })
        .await;
    }

    #[tokio::test]
    async fn what_an_earlier_process_left_is_delivered() {
        let records = Arc::new(MemoryStore::new());
        bus(&records).0.publish(&detection("a", 5)).await.unwrap();
        let (later, _) = bus(&records);
        later.arrived().await;
        let delivered = later.receive(10).await.unwrap();
        assert_eq!(delivered[0].detection, detection("a", 5));
    }

    #[tokio::test]
    async fn a_record_that_is_no_detection_is_removed_and_counted() {
        let records = Arc::new(MemoryStore::new());
        let (bus, metrics) = bus(&records);
        for (id, bytes) in [
            ("a", Bytes::from_static(b"\xff\xff")),
            ("c", detection("other", 1).encode()),
        ] {
            let key = key(&detection(id, 1));
            records.compare_and_set(&key, 0, Some(bytes)).await.unwrap();
        }
        bus.publish(&detection("b", 5)).await.unwrap();
        let delivered = bus.receive(10).await.unwrap();
        assert_eq!(delivered.len(), 1);
        assert_eq!(delivered[0].detection, detection("b", 5));
        let left = records.list(&RecordPrefix::Detections, None, 10).await.unwrap();
        assert_eq!(left.len(), 1);
        assert!(
            metrics
                .encode()
                .unwrap()
                .contains("anabranch_detections_unreadable_total 2")
        );
    }

    #[tokio::test]
    async fn a_record_that_is_no_detection_gives_way_to_one() {
        let records = Arc::new(MemoryStore::new());
        let (bus, _) = bus(&records);
        let key = key(&detection("a", 1));
        let damaged = Some(Bytes::from_static(b"\xff\xff"));
        records.compare_and_set(&key, 0, damaged).await.unwrap();
        bus.publish(&detection("a", 1)).await.unwrap();
        assert_eq!(bus.receive(10).await.unwrap()[0].detection, detection("a", 1));
    }
}
