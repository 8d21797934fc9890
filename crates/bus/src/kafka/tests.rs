//! The bus in Kafka: against brokers inside this process (`mock`), and against real ones that `ANABRANCH_TEST_KAFKA` names
//! (`real`).

mod mock;
mod real;

use std::sync::Arc;
use std::time::Duration;

use anabranch_runtime::telemetry::Metrics;
use anabranch_runtime::{SystemClock, Tasks};

use super::testing::unique;
use super::*;

/// A bus with the process around it.
struct Process {
    bus: Arc<KafkaBus>,
    tasks: Tasks,
    metrics: Metrics,
    clock: Arc<SystemClock>,
}

impl Process {
    async fn start(settings: &KafkaSettings) -> Self {
        let (clock, tasks, metrics) = (SystemClock::new(), Tasks::new(), Metrics::default());
        let bus = KafkaBus::open(settings, clock.clone(), &tasks, &metrics)
            .await
            .unwrap();
        Self {
            bus: Arc::new(bus),
            tasks,
            metrics,
            clock,
        }
    }

    async fn stop(self) {
        assert!(self.tasks.stop(&*self.clock, Duration::from_secs(30)).await);
    }

    fn counted(&self, metric: &str) -> u64 {
        let text = self.metrics.encode().unwrap();
        let lines = text
            .lines()
            .filter(|line| line.starts_with(&format!("anabranch_kafka_{metric}")));
        lines
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
            .sum()
    }

    /// Receives until a condition holds of all that came, acking what is to be.
    async fn receive_until(
        &self,
        mut take: impl FnMut(&Delivery) -> bool,
        until: impl Fn(&[Delivery]) -> bool,
    ) -> Vec<Delivery> {
        let mut all = Vec::new();
        for _ in 0..600 {
            for delivery in self.bus.receive(100).await.unwrap_or_default() {
                if take(&delivery) {
                    self.bus.ack(&delivery).await.unwrap();
                }
                all.push(delivery);
            }
            if until(&all) {
                return all;
            }
            // What is not acked comes at once, again and again.
            tokio::select! {
                () = self.bus.arrived() => {}
                () = self.clock.sleep(Duration::from_millis(50)) => {}
            }
        }
        panic!("it does not come; {} came", all.len());
    }
}

/// Settings with names of their own.
fn settings(brokers: &str, name: &str) -> KafkaSettings {
    let topic = unique(name);
    KafkaSettings {
        dead_letter_topic: format!("{topic}.dead"),
        group: format!("{topic}.group"),
        topic,
        create_topics: true,
        partitions: 3,
        commit_every: Duration::from_millis(100),
        session: Duration::from_secs(6),
        ..KafkaSettings::to(brokers)
    }
}
