//! Detections on their way from the server to the planner.
//!
//! ```text
//! server: detect ─▶ publish ─▶ topic ─▶ receive ─▶ planner: intake ─▶ split record ─▶ ack
//! ```
//!
//! - A message is a nudge: it may be lost, repeated, late or out of order. The split record is the truth.
//! - A detection is handed out again until it is acked, and it is acked only after its record is stored.
//! - Detections of one partition are one: the topic is keyed by partition.
//!
//! [`conformance`] is the contract in full. Where the topic lives is chosen by the binary through [`open`]: in the store, or
//! in Kafka (feature `kafka`); nobody else asks.

pub mod conformance;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod open;
mod store;
mod wire;

use std::fmt;

use anabranch_model::{NamespaceName, PartitionKey};
use anabranch_storage::StoreError;
use async_trait::async_trait;

pub use self::store::StoreBus;

/// A partition that a read found wide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detection {
    /// The namespace.
    pub namespace: NamespaceName,
    /// The partition.
    pub partition: PartitionKey,
    /// Bytes of it that were read.
    pub bytes: u64,
    /// What the server held of it: the planner looks for itself.
    pub immutable: bool,
}

/// A detection that was handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The detection.
    pub detection: Detection,
    /// What acks it.
    pub receipt: u64,
}

/// Where detections wait for a planner.
#[async_trait]
pub trait DetectionBus: fmt::Debug + Send + Sync + 'static {
    /// Hands a detection over; it will be delivered, or an error says that it may not be.
    async fn publish(&self, detection: &Detection) -> Result<(), BusError>;

    /// Detections that wait, one a partition, at once or after a moment; those that were delivered and not acked come again.
    ///
    /// A bus has one receiver. By asking again it says that it has let go of what it was handed before.
    async fn receive(&self, detections_max: usize) -> Result<Vec<Delivery>, BusError>;

    /// The detection is dealt with. Nothing happens if a newer one of the partition has come since, which stays, or if it was
    /// recalled.
    async fn ack(&self, delivery: &Delivery) -> Result<(), BusError>;

    /// Returns when there may be something to receive that was not there before. Only a nudge: a planner also looks on
    /// a timer.
    async fn arrived(&self);

    /// Returns when something that was handed out last belongs to another receiver from now on: work on all of it has to
    /// stop. The bus waits a while for the next `receive` before it lets the other one begin.
    async fn recalled(&self);
}

/// Why the bus could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// The topic is kept in the store, which failed.
    #[error("detections could not be kept in the store")]
    Store(#[from] StoreError),
    /// Bytes that are no detection.
    #[error("detection can not be read: {problem}")]
    Unreadable {
        /// What is wrong.
        problem: String,
    },
    /// The topic is in Kafka, which did not do it.
    #[cfg(feature = "kafka")]
    #[error("kafka failed")]
    Kafka(#[from] kafka::KafkaError),
}
