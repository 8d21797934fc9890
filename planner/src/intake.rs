//! Detections become records.
//!
//! Idempotent: a detection that comes twice finds its record. The record is stored first, and only then is the detection
//! acked, so one that was handed out to a planner that died comes again. What the bus recalls is let go of at once, wherever it
//! stands: who gets it begins anew.

use std::collections::BTreeMap;

use anabranch_bus::{Delivery, Detection};
use anabranch_catalog::{LoadedNamespace, load};
use anabranch_model::namespace::Rollout;
use anabranch_model::{EventTime, NamespaceName};
use anabranch_split::planted::{Bug, planted};
use anabranch_split::{Basis, SplitRecord, Step};
use anabranch_storage::{Moved, SplitSlot};

use crate::{Planning, RoundError};

/// Times that a record is tried again when others move it.
const ATTEMPTS_MAX: usize = 4;

/// What a detection finds in the catalog.
struct Place {
    basis: Basis,
    end: EventTime,
}

impl Planning {
    /// Takes in what waits on the bus, once. How many detections that was.
    pub(crate) async fn intake(&self) -> Result<usize, RoundError> {
        let deliveries = self.parts.bus.receive(self.settings.detections_max).await?;
        let count = deliveries.len();
        tokio::select! {
            biased;
            () = self.parts.bus.recalled() => self.metrics.recalled(),
            taken = Box::pin(self.take_in(deliveries)) => taken?,
        }
        Ok(count)
    }

    async fn take_in(&self, deliveries: Vec<Delivery>) -> Result<(), RoundError> {
        let mut loaded: BTreeMap<NamespaceName, Option<LoadedNamespace>> = BTreeMap::new();
        for delivery in deliveries {
            if planted(Bug::IntakeAcksFirst) {
                self.parts.bus.ack(&delivery).await?;
            }
            let detection = &delivery.detection;
            let name = &detection.namespace;
            if !loaded.contains_key(name) {
                let namespace = load(&*self.parts.records, name, None).await?;
                loaded.insert(name.clone(), namespace);
            }
            let outcome = match place(loaded.get(name).and_then(Option::as_ref), detection) {
                Err(outcome) => Some(outcome),
                Ok(place) => self.record(detection, &place).await?,
            };
            // One that others kept from its record stays on the bus.
            if let Some(outcome) = outcome {
                self.parts.bus.ack(&delivery).await?;
                self.metrics.detection(outcome);
            }
        }
        Ok(())
    }

    async fn record(&self, detection: &Detection, place: &Place) -> Result<Option<&'static str>, RoundError> {
        let (namespace, partition) = (&detection.namespace, &detection.partition);
        for _ in 0..ATTEMPTS_MAX {
            let now = self.now();
            // Even when the record is known: its marker may have been lost.
            self.note(namespace, partition);
            let (moved, outcome) = match self.splits.get(namespace, partition).await? {
                SplitSlot::Free { version } => {
                    let record = SplitRecord::detected(partition.clone(), detection.bytes, now);
                    (self.splits.create(namespace, version, record).await?, "new")
                }
                SplitSlot::Taken(stored) if stored.record.wants_detection(place.basis, place.end) => {
                    let bytes = detection.bytes;
                    let step = Step::Detect { bytes };
                    (self.splits.step(namespace, &stored, step, now).await?, "again")
                }
                SplitSlot::Taken(_) => return Ok(Some("known")),
                // Whoever can read it knows what to do.
                SplitSlot::Unreadable(_) => return Ok(Some("unreadable")),
            };
            if let Moved::To(_) = moved {
                return Ok(Some(outcome));
            }
        }
        Ok(None)
    }
}

/// What a detection is about, or why it is about nothing.
fn place(namespace: Option<&LoadedNamespace>, detection: &Detection) -> Result<Place, &'static str> {
    let namespace = namespace.ok_or("unknown")?;
    let partition = &detection.partition;
    if namespace.record.settings.wide_partition.rollout == Rollout::Off {
        return Err("off");
    }
    let mut slices = namespace.slices.iter();
    let slice = slices
        .find(|slice| slice.record.slice.name == partition.slice)
        .ok_or("unknown")?;
    let ground = anabranch_catalog::Ground::of(&namespace.record, &slice.record).ok_or("closed")?;
    let bucket = ground.slice.bucket_interval(partition.time_bucket);
    if bucket.is_empty() || partition.event_bucket >= ground.slice.settings.event_buckets.max(1) {
        return Err("unknown");
    }
    Ok(Place {
        basis: ground.basis,
        end: bucket.end,
    })
}

#[cfg(test)]
mod tests;
