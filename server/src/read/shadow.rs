//! The second read of a comparison: the same span of a walk, through targets whatever the rollout says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anabranch_model::{EventRecord, PartitionKey};
use anabranch_runtime::Clock;
use anabranch_split::Serving;
use anabranch_storage::StoreError;

use super::cursor::{Position, Reach};
use super::fan_out::FanOut;
use super::fetch::Fetch;
use super::matches::Matcher;
use super::plan::Route;
use super::request::PAGE_BYTES;
use super::walk::{Demand, Step, Walk};
use crate::split::{Compared, Span};

/// A page that was answered from originals, and what it takes to read it again.
#[derive(Debug)]
pub(super) struct Shadow {
    pub(super) route: Route,
    pub(super) matcher: Matcher,
    pub(super) start: Position,
    pub(super) end: Position,
    pub(super) records: Vec<EventRecord>,
    pub(super) original_took: Duration,
    pub(super) fan_out: FanOut,
    pub(super) fetch: Arc<Fetch>,
    pub(super) clock: Arc<dyn Clock>,
    /// Events after which it is given up.
    pub(super) events_max: usize,
}

impl Shadow {
    pub(super) async fn compare(self) -> Compared {
        let began = self.clock.elapsed();
        let read = self.read().await;
        let targets_took = self.clock.elapsed().saturating_sub(began);
        let diversion = self.fetch.diversion();
        diversion.report().await;
        let Ok(Some(found)) = read else {
            return Compared::GivenUp;
        };
        let served = diversion.served();
        Compared::Done(Span {
            namespace: diversion.view().name.clone(),
            targets: self.in_targets(found, &served),
            original: self.in_targets(self.records.clone(), &served),
            served,
            original_took: self.original_took,
            targets_took,
        })
    }

    /// Everything from the start to the end of the page; `None` when that is too much.
    async fn read(&self) -> Result<Option<Vec<EventRecord>>, StoreError> {
        let view = self.fetch.diversion().view();
        let mut walk = Walk::new(
            view,
            self.route.clone(),
            self.start.clone(),
            Vec::new(),
            self.fan_out,
            self.fetch.clone(),
        );
        let demand = Demand {
            events: self.records.len() + 1,
            bytes: PAGE_BYTES,
        };
        let (mut found, mut examined) = (Vec::new(), 0);
        loop {
            while let Some((id, event)) = walk.peek() {
                let keeps = self.matcher.keeps(id, event);
                if walk.next_is_after(&self.end) {
                    return Ok(Some(found));
                }
                let Some((time_series_id, event)) = walk.take() else {
                    break;
                };
                examined += 1;
                if examined > self.events_max {
                    return Ok(None);
                }
                if keeps {
                    found.push(EventRecord {
                        time_series_id,
                        event,
                    });
                }
            }
            walk.settle();
            match walk.reach(&self.end) {
                Reach::At | Reach::Missed => return Ok(Some(found)),
                Reach::Before => {}
            }
            if walk.step(demand).await? == Step::Ended {
                return Ok(Some(found));
            }
        }
    }

    /// The records that targets claim to hold: others may have been written since.
    fn in_targets(
        &self,
        records: Vec<EventRecord>,
        served: &BTreeMap<PartitionKey, Arc<Serving>>,
    ) -> Vec<(PartitionKey, EventRecord)> {
        let view = self.fetch.diversion().view();
        let held = |record: EventRecord| {
            let key = &record.event.key;
            let partition = view.slice_of(key.time)?.partition_of(&record.time_series_id, key);
            let boundary = served.get(&partition)?.boundary;
            (key.time < boundary).then_some((partition, record))
        };
        records.into_iter().filter_map(held).collect()
    }
}
