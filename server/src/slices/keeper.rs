//! The keeper's task: answers requests for slices, and looks after every namespace on a timer.
//!
//! The timer is what guarantees; requests only make it sooner. Everything is idempotent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anabranch_catalog::LoadedNamespace;
use anabranch_model::{EventTime, NamespaceName};
use anabranch_runtime::Clock;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::seen::Seen;
use super::{Keeping, Request};
use crate::errors::ServiceError;

/// Requests that are gathered into one round.
const ROUND_MAX: usize = 1_024;

pub(super) async fn run(
    keeping: Arc<Keeping>,
    mut requests: mpsc::Receiver<Request>,
    stop: CancellationToken,
) {
    let mut round = Vec::new();
    let mut seen = Seen::default();
    // A fixed moment, so that requests that keep coming do not put it off.
    let mut next_look = keeping.clock().elapsed();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = until(keeping.clock(), next_look) => {
                keeping.look_after_all(&mut seen).await;
                next_look = keeping.clock().elapsed().saturating_add(keeping.settings.keeper_interval);
            }
            received = requests.recv_many(&mut round, ROUND_MAX) => {
                if received == 0 {
                    return;
                }
                keeping.answer(round.drain(..)).await;
            }
        }
    }
}

async fn until(clock: &dyn Clock, moment: Duration) {
    clock.sleep(moment.saturating_sub(clock.elapsed())).await;
}

type Done = oneshot::Sender<Result<(), ServiceError>>;

impl Keeping {
    /// Answers a round of requests; those for one namespace are made into one.
    async fn answer(&self, round: impl Iterator<Item = Request>) {
        let mut wanted: BTreeMap<NamespaceName, (Vec<EventTime>, Vec<Done>)> = BTreeMap::new();
        let (mut wide_tables, mut deletes) = (Vec::new(), Vec::new());
        for request in round {
            match request {
                Request::Ensure {
                    namespace,
                    times,
                    done,
                } => {
                    let (all, waiting) = wanted.entry(namespace).or_default();
                    all.extend(times);
                    waiting.push(done);
                }
                Request::MakeWideTable {
                    namespace,
                    slice,
                    done,
                } => wide_tables.push((namespace, slice, done)),
                Request::FinishDelete { namespace, done } => deletes.push((namespace, done)),
            }
        }
        for (namespace, (times, waiting)) in wanted {
            let outcome = Box::pin(self.ensure(&namespace, times)).await;
            for done in waiting {
                // Nobody may be waiting any more: a deadline has come.
                let _ = done.send(outcome.clone());
            }
        }
        for (namespace, slice, done) in wide_tables {
            let _ = done.send(Box::pin(self.make_wide_table(&namespace, &slice)).await);
        }
        for (namespace, done) in deletes {
            let _ = done.send(Box::pin(self.finish_delete(&namespace)).await);
        }
    }

    async fn look_after_all(&self, seen: &mut Seen) {
        for namespace in self.namespaces.known() {
            if let Err(error) = Box::pin(self.look_after(&namespace, seen)).await {
                warn!(namespace = %namespace.name, %error, "slices could not be looked after");
            }
        }
        seen.end_round();
    }

    async fn look_after(&self, namespace: &LoadedNamespace, seen: &mut Seen) -> Result<(), ServiceError> {
        let now = self.now();
        if let Some(since) = namespace.record.deleting_since {
            // Whoever began the deletion ends it, unless it was interrupted.
            if !self.settings.shared_store || now >= since.saturating_add(self.settings.settle) {
                self.finish_delete(&namespace.name).await?;
            }
            return Ok(());
        }
        // None of them keeps the others from being done.
        let slices = self.retire_and_create(namespace, now).await;
        let openings = self.end_interrupted(namespace, now, seen).await;
        let wide_tables = self.make_wide_tables(namespace, seen).await;
        slices.and(openings).and(wide_tables)
    }

    async fn retire_and_create(
        &self,
        namespace: &LoadedNamespace,
        now: EventTime,
    ) -> Result<(), ServiceError> {
        self.retire(namespace, now).await?;
        let wanted = ahead(namespace, now);
        if !wanted.is_empty() || !namespace.unfinished().is_empty() {
            self.ensure(&namespace.name, wanted).await?;
        }
        Ok(())
    }
}

/// Now and the next slice, as far as they have none.
fn ahead(namespace: &LoadedNamespace, now: EventTime) -> Vec<EventTime> {
    let holding = |time: EventTime| {
        let after = namespace
            .slices
            .partition_point(|slice| slice.record.slice.interval.start <= time);
        let slice = &namespace.slices.get(after.checked_sub(1)?)?.record.slice;
        slice.interval.contains(time).then_some(slice)
    };
    let Some(current) = holding(now) else {
        return vec![now];
    };
    let next = current.interval.end;
    // The end of an all-time slice is the end of numbers, and has no next.
    if next > EventTime::MAX || holding(next).is_some() {
        return Vec::new();
    }
    vec![next]
}
