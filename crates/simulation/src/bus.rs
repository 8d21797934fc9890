//! A topic that loses, repeats and shuffles: a detection is a nudge, and everything has to come out right without it.

use std::sync::{Arc, Mutex, PoisonError};

use anabranch_bus::{BusError, Delivery, Detection, DetectionBus};
use async_trait::async_trait;

use crate::dice::Dice;
use crate::store::Disk;

/// A process's way to the topic.
#[derive(Debug)]
pub(crate) struct FaultyBus {
    inner: Arc<dyn DetectionBus>,
    disk: Arc<Disk>,
    dice: Dice,
    /// Deliveries that may be handed out once more.
    earlier: Mutex<Vec<Delivery>>,
}

/// Deliveries of which some come again.
const EARLIER_MAX: usize = 8;

impl FaultyBus {
    pub(crate) fn new(inner: Arc<dyn DetectionBus>, disk: Arc<Disk>, dice: Dice) -> Self {
        Self {
            inner,
            disk,
            dice,
            earlier: Mutex::default(),
        }
    }

    fn shuffle(&self, deliveries: &mut [Delivery]) {
        for at in (1..deliveries.len()).rev() {
            let other = usize::try_from(self.dice.below(at as u64 + 1)).unwrap_or(at);
            deliveries.swap(at, other);
        }
    }
}

#[async_trait]
impl DetectionBus for FaultyBus {
    async fn publish(&self, detection: &Detection) -> Result<(), BusError> {
        if self.dice.chance(100) {
            return Ok(());
        }
        self.inner.publish(detection).await
    }

    async fn receive(&self, detections_max: usize) -> Result<Vec<Delivery>, BusError> {
        let mut deliveries = self.inner.receive(detections_max).await?;
        {
            let mut earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
            if !earlier.is_empty() && deliveries.len() < detections_max && self.dice.chance(200) {
                let again = self.dice.pick(&earlier).cloned();
                deliveries.extend(again);
            }
            earlier.extend(deliveries.iter().cloned());
            let surplus = earlier.len().saturating_sub(EARLIER_MAX);
            earlier.drain(..surplus);
        }
        self.shuffle(&mut deliveries);
        Ok(deliveries)
    }

    async fn ack(&self, delivery: &Delivery) -> Result<(), BusError> {
        let Disk { memory, .. } = &*self.disk;
        self.disk.conduct().acks(memory, &delivery.detection).await;
        self.inner.ack(delivery).await
    }

    async fn arrived(&self) {
        self.inner.arrived().await;
    }

    async fn recalled(&self) {
        self.inner.recalled().await;
    }
}
