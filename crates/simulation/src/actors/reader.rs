//! Walks page by page, each page from another server, and checks every walk against the oracle.
//!
//! - R1, R2, W1: a walk returns exactly once and in order every event inside its bounds that was acked before it began;
//!   what was written since may appear, once and in its place.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anabranch_model::{Direction, EventKey, EventRecord, TimeInterval, TimeSeriesId};
use anabranch_server::context::ServedFrom;
use anabranch_server::errors::ServiceError;
use anabranch_server::read::request::{EventPage, Latency, Paging, ReadRequest, SearchRequest};

use crate::clock::sleep;
use crate::dice::Dice;
use crate::process::Process;
use crate::world::World;

/// A walk that takes more pages than this does not end.
const PAGES_MAX: usize = 5_000;
/// A walk that is refused so often in a row is given up: the store is down.
const REFUSALS_MAX: usize = 40;

/// Walks until the world ends.
pub(crate) async fn run(world: Arc<World>, dice: Dice) {
    while world.goes_on() {
        sleep(dice.duration(Duration::ZERO, world.scenario.length / 12)).await;
        let (id, interval) = (
            dice.pick(&world.scenario.ids).cloned(),
            some_interval(&world, &dice),
        );
        let Some(id) = id else { return };
        let direction = match dice.chance(500) {
            true => Direction::Ascending,
            false => Direction::Descending,
        };
        let id = (!dice.chance(150)).then_some(id);
        let mut walk = Walk::new(&world, id, interval, direction);
        walk.run(&dice, true).await;
    }
}

/// Reads one interval of an id at once and checks it; true if it could be read.
pub(crate) async fn find(world: &World, dice: &Dice, id: &TimeSeriesId, interval: TimeInterval) -> bool {
    let mut walk = Walk::new(world, Some(id.clone()), interval, Direction::Descending);
    walk.run(dice, false).await
}

/// Reads everything of everyone, in both directions; false if something could not be read.
pub(crate) async fn read_all(world: &World, dice: &Dice) -> bool {
    let mut all = true;
    for id in &world.scenario.ids {
        for direction in [Direction::Ascending, Direction::Descending] {
            let mut walk = Walk::new(world, Some(id.clone()), TimeInterval::ALL, direction);
            all &= walk.run(dice, false).await;
        }
    }
    let mut walk = Walk::new(world, None, TimeInterval::ALL, Direction::Descending);
    all && walk.run(dice, false).await
}

fn some_interval(world: &World, dice: &Dice) -> TimeInterval {
    if dice.chance(500) {
        return TimeInterval::ALL;
    }
    let reach = world.scenario.history + world.scenario.length;
    let start = world.time().saturating_sub(dice.duration(Duration::ZERO, reach));
    TimeInterval {
        start,
        end: start.saturating_add(dice.duration(Duration::from_secs(1), reach)),
    }
}

/// True when at least a part of an interval of an id is read from targets by this server.
pub(crate) async fn is_diverted(
    world: &World,
    server: &Process,
    id: &TimeSeriesId,
    interval: TimeInterval,
) -> bool {
    let paging = Paging {
        page_size: 1_000,
        page_token: String::new(),
        total_record_limit: None,
    };
    let page = read(
        world,
        server,
        Some(id.clone()),
        interval,
        Direction::Descending,
        paging,
    )
    .await;
    page.is_some_and(|page| page.is_ok_and(|page| from_targets(&page)))
}

fn from_targets(page: &EventPage) -> bool {
    let from = page.context.served_from;
    matches!(from, Some(ServedFrom::Targets | ServedFrom::Mixed))
}

/// Asks a server for a page: of an id, or of everybody, in the store's own order.
async fn read(
    world: &World,
    server: &Process,
    id: Option<TimeSeriesId>,
    interval: TimeInterval,
    direction: Direction,
    paging: Paging,
) -> Option<Result<EventPage, ServiceError>> {
    let (namespace, of) = (world.namespace.clone(), id.clone());
    let page = world
        .ask(server, |core, _| async move {
            let view = core.namespaces.view_for_read(&namespace).await?;
            match id {
                Some(time_series_id) => {
                    let request = ReadRequest {
                        namespace,
                        time_series_id,
                        interval,
                        filters: Vec::new(),
                        direction,
                        paging,
                        latency: Latency::default(),
                    };
                    core.reader.read(&view, request).await
                }
                None => {
                    let request = SearchRequest {
                        namespace,
                        interval,
                        query: None,
                        direction,
                        paging,
                        latency: Latency::default(),
                    };
                    core.reader.search(&view, request).await
                }
            }
        })
        .await;
    let number = page.as_ref().map_or(0, |page| {
        page.as_ref().map_or(1, |page| 2 + page.records.len() as u64)
    });
    world.trace.note(&server.name, "page", number, || match &page {
        None => "lost".to_owned(),
        Some(Err(error)) => error.to_string(),
        Some(Ok(page)) => {
            let keys: Vec<String> = page
                .records
                .iter()
                .map(|record| format!("{} {}", record.event.key.time, record.event.key.id))
                .collect();
            let from = page.context.served_from;
            format!("{of:?} {interval} {direction:?} from {from:?} {keys:?}")
        }
    });
    page
}

struct Walk<'a> {
    world: &'a World,
    /// Everybody's, in the store's own order, when `None`.
    id: Option<TimeSeriesId>,
    interval: TimeInterval,
    direction: Direction,
    /// What has to be found.
    due: BTreeSet<(TimeSeriesId, EventKey)>,
    found: BTreeSet<(TimeSeriesId, EventKey)>,
    last: Option<EventKey>,
    /// A page said that events may be missing.
    warned: bool,
}

impl<'a> Walk<'a> {
    fn new(world: &'a World, id: Option<TimeSeriesId>, interval: TimeInterval, direction: Direction) -> Self {
        let ids = match &id {
            Some(id) => vec![id.clone()],
            None => world.scenario.ids.clone(),
        };
        let due = ids.into_iter().flat_map(|id| {
            let keys = world.due(&id, |key| interval.contains(key.time));
            keys.into_iter().map(move |key| (id.clone(), key))
        });
        Self {
            due: due.collect(),
            world,
            id,
            interval,
            direction,
            found: BTreeSet::new(),
            last: None,
            warned: false,
        }
    }

    /// Walks to the end; false if the store was down for too long. In between things happen, if it is `slow`.
    async fn run(&mut self, dice: &Dice, slow: bool) -> bool {
        let mut token = String::new();
        let mut refusals = 0;
        let small = *dice.pick(&[1, 2, 7, 100]).unwrap_or(&7);
        for _ in 0..PAGES_MAX {
            let rows = match slow {
                _ if self.world.scenario.sips => 2,
                true if dice.chance(800) => small,
                true => 100,
                false => 1_000,
            };
            match self.page(dice, token.clone(), rows).await {
                None => refusals += 1,
                Some(Err(error)) if self.world.passes(&error) => refusals += 1,
                Some(Err(error)) => {
                    self.wrong(&format!("a page was refused with {error}"));
                    return false;
                }
                Some(Ok(page)) => {
                    refusals = 0;
                    if !self.take(&page) {
                        return false;
                    }
                    if page.next_page_token.is_empty() {
                        return self.ended();
                    }
                    token = page.next_page_token;
                }
            }
            if refusals > REFUSALS_MAX {
                return false;
            }
            if refusals > 0 {
                sleep(dice.duration(Duration::from_millis(100), Duration::from_secs(10))).await;
            } else if slow && dice.chance(60) {
                sleep(dice.duration(Duration::ZERO, Duration::from_secs(600))).await;
            }
        }
        self.wrong("the walk does not end");
        false
    }

    async fn page(
        &self,
        dice: &Dice,
        page_token: String,
        page_size: usize,
    ) -> Option<Result<EventPage, ServiceError>> {
        let server = self.world.a_server(dice).await;
        let paging = Paging {
            page_size,
            page_token,
            total_record_limit: None,
        };
        let id = self.id.clone();
        read(self.world, &server, id, self.interval, self.direction, paging).await
    }

    fn take(&mut self, page: &EventPage) -> bool {
        {
            let mut counts = self.world.counts();
            counts.pages += 1;
            counts.pages_diverted += u64::from(from_targets(page));
        }
        self.warned |= page
            .context
            .warnings
            .iter()
            .any(|warning| warning.contains("settings are old"));
        page.records.iter().all(|record| self.take_record(record))
    }

    fn take_record(&mut self, record: &EventRecord) -> bool {
        let EventRecord {
            time_series_id,
            event,
        } = record;
        let key = &event.key;
        let wrong = match self.world.model.get(time_series_id, key) {
            None => Some("was never sent"),
            Some(known) if !known.possible() => Some("was rejected each time"),
            Some(known) if *known.event != *event => Some("is not what was sent"),
            Some(_) if !self.interval.contains(key.time) => Some("lies outside of the interval"),
            Some(_) if self.id.as_ref().is_some_and(|id| id != time_series_id) => Some("is of another id"),
            Some(_) => None,
        };
        if let Some(wrong) = wrong {
            self.wrong(&format!(
                "event {} {} of {time_series_id} {wrong}",
                key.time, key.id
            ));
            return false;
        }
        if self.id.is_some()
            && let Some(last) = &self.last
            && self.direction.compare(last, key).is_ge()
        {
            self.wrong(&format!(
                "{} {} comes after {} {}",
                key.time, key.id, last.time, last.id
            ));
            return false;
        }
        self.last = Some(key.clone());
        if !self.found.insert((time_series_id.clone(), key.clone())) {
            self.wrong(&format!("{} {} comes twice", key.time, key.id));
            return false;
        }
        true
    }

    fn ended(&self) -> bool {
        let now = self.world.time();
        let missing: Vec<&(TimeSeriesId, EventKey)> = self
            .due
            .difference(&self.found)
            .filter(|(_, key)| !self.world.scenario.may_be_closed(key.time, now))
            .collect();
        if let Some((id, key)) = missing.first().filter(|_| !self.warned) {
            let count = missing.len();
            self.wrong(&format!(
                "{count} acked events are missing; the first is {} {} of {id}",
                key.time, key.id
            ));
            return false;
        }
        self.world.counts().walks += 1;
        true
    }

    fn wrong(&self, what: &str) {
        let whose = self.id.as_ref().map_or("everyone", |id| id.as_str());
        let (interval, direction) = (self.interval, self.direction);
        self.world
            .fail(format!("walk {direction:?} over {interval} of {whose}: {what}"));
    }
}
