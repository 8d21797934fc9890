//! Reads a page of a partition: whole events, until there are enough of them or of their bytes.
//!
//! ```text
//! bounds ─▶ one stretch [from, to) of (event_time, event_id) ─▶ pages of rows ─▶ whole events
//!               ▲                                                   │
//!               └──────────── after the last whole event ◀──────────┘
//! ```
//!
//! - R1: an event counts only when it is seen to end, by a row of the next event or by the end of the stretch. The
//!   rows of one that a page of the driver cuts are read again with the next: pages are answered by different
//!   replicas, and one may know an event that the other has not heard of yet. So no event is in part of its items.
//! - Nothing of the driver's paging is kept from one page of ours to the next.

use std::ops::Bound;

use anabranch_model::{
    Direction, Event, EventId, EventItem, EventKey, EventTime, ItemKey, PartitionKey, TimeSeriesId,
};
use bytes::Bytes;
use scylla::errors::ExecutionError;
use scylla::response::PagingState;
use scylla::statement::prepared::PreparedStatement;

use super::cluster::{Rows, misread};
use super::events_cql::EventStatement;
use super::policy::Purpose;
use super::record_place::event_bucket;
use super::{CassandraStore, EventTable};
use crate::error::StoreError;
use crate::events::{EventBounds, ScanPage, ScanRequest};
use crate::keys::row_bytes;

/// Most rows of one event (`anabranch_model::names`), and one more.
const EVENT_ROWS: i32 = 1_025;
/// Item keys that a page remembers: events of one partition share them.
const ITEM_KEYS_KNOWN: usize = 16;

/// A place between events: before those of this time whose id is not less.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    time: i64,
    id: String,
}

impl Point {
    fn before_time(time: i64) -> Self {
        Self {
            time,
            id: String::new(),
        }
    }

    fn before(key: &EventKey) -> Self {
        Self {
            time: key.time.micros(),
            id: key.id.as_str().to_owned(),
        }
    }

    /// No text is between an id and the same with a zero byte behind it.
    fn after(key: &EventKey) -> Self {
        Self {
            time: key.time.micros(),
            id: format!("{}\0", key.id),
        }
    }
}

/// A stretch of a partition: its start is in it, its end is not.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stretch {
    from: Point,
    to: Point,
}

impl Stretch {
    fn of(bounds: &EventBounds) -> Self {
        let mut from = Point::before_time(bounds.interval.start.micros());
        match &bounds.lower {
            Bound::Unbounded => {}
            Bound::Included(key) => from = from.max(Point::before(key)),
            Bound::Excluded(key) => from = from.max(Point::after(key)),
        }
        let mut to = Point::before_time(bounds.interval.end.micros());
        match &bounds.upper {
            Bound::Unbounded => {}
            Bound::Included(key) => to = to.min(Point::after(key)),
            Bound::Excluded(key) => to = to.min(Point::before(key)),
        }
        Self { from, to }
    }

    fn is_empty(&self) -> bool {
        self.from >= self.to
    }

    /// What is left of it behind an event.
    fn go_on(&mut self, after: &EventKey, direction: Direction) {
        match direction {
            Direction::Ascending => self.from = Point::after(after),
            Direction::Descending => self.to = Point::before(after),
        }
    }
}

impl CassandraStore {
    pub(super) async fn scan_page(&self, request: &ScanRequest) -> Result<ScanPage, StoreError> {
        let table = self.event_table(&request.table);
        let explain = |error| self.explain(Purpose::ReadEvents, &request.table, error);
        let bucket = event_bucket(&request.partition)?;
        let mut stretch = Stretch::of(&request.bounds);
        let mut page = PageBuilder::new(request);
        while !stretch.is_empty() {
            let rows = table.density.rows_for(page.events_left(), page.bytes_left());
            let fetched = match self.fetch(&table, request, bucket, &stretch, rows).await {
                Ok(fetched) => fetched,
                Err(error) => return Err(explain(error).await),
            };
            let more = fetched.next.is_some();
            let mut events = page.read(&fetched)?;
            let cut = more.then(|| events.pop()).flatten();
            if let (true, Some(cut)) = (events.is_empty(), cut) {
                // One event fills the page, or is all there is of it.
                match self.read_event(&table, request, bucket, &cut.key).await {
                    Ok(rows) => events = page.read_all(rows)?,
                    Err(error) => return Err(explain(error).await),
                }
                // Gone since: deleted beside us.
                if events.is_empty() {
                    stretch.go_on(&cut.key, request.direction);
                }
            }
            let measured = page.measure(&events);
            table.density.observe(events.len(), measured.0, measured.1);
            for event in events {
                if page.is_full() {
                    return Ok(page.finish(true));
                }
                stretch.go_on(&event.key, request.direction);
                page.push(event);
            }
            if !more {
                return Ok(page.finish(false));
            }
            if page.is_full() {
                return Ok(page.finish(true));
            }
        }
        Ok(page.finish(false))
    }

    /// A statement at the consistency that a request asks for.
    async fn scanning(
        &self,
        table: &EventTable,
        statement: EventStatement,
        request: &ScanRequest,
    ) -> Result<PreparedStatement, ExecutionError> {
        let mut statement = self.event_statement(table, statement).await?.clone();
        statement.set_consistency(self.levels.scan(request.consistency));
        Ok(statement)
    }

    /// The first rows of a stretch.
    async fn fetch(
        &self,
        table: &EventTable,
        request: &ScanRequest,
        bucket: i32,
        stretch: &Stretch,
        rows_max: i32,
    ) -> Result<Rows, ExecutionError> {
        let statement = match request.direction {
            Direction::Ascending => EventStatement::Oldest,
            Direction::Descending => EventStatement::Newest,
        };
        let statement = self.scanning(table, statement, request).await?;
        let values = (
            request.partition.time_series_id.as_str(),
            request.partition.time_bucket,
            bucket,
            stretch.from.time,
            stretch.from.id.as_str(),
            stretch.to.time,
            stretch.to.id.as_str(),
        );
        let mut from = PagingState::start();
        loop {
            let page = self
                .cluster
                .page(Purpose::ReadEvents, &statement, values, rows_max, from)
                .await?;
            match page.next {
                // A page may be empty and still not be the last.
                Some(ref next) if page.rows.rows_num() == 0 => from = next.clone(),
                _ => return Ok(page),
            }
        }
    }

    /// The rows of one event.
    async fn read_event(
        &self,
        table: &EventTable,
        request: &ScanRequest,
        bucket: i32,
        key: &EventKey,
    ) -> Result<Vec<Rows>, ExecutionError> {
        let statement = self.scanning(table, EventStatement::Event, request).await?;
        let values = (
            request.partition.time_series_id.as_str(),
            request.partition.time_bucket,
            bucket,
            key.time.micros(),
            key.id.as_str(),
        );
        let mut pages = Vec::new();
        let mut from = Some(PagingState::start());
        while let Some(state) = from {
            let page = self
                .cluster
                .page(Purpose::ReadEvents, &statement, values, EVENT_ROWS, state)
                .await?;
            from = page.next.clone();
            pages.push(page);
        }
        Ok(pages)
    }
}

type EventRow<'a> = (i64, &'a str, &'a str, Option<Bytes>, Option<&'a [u8]>);

struct PageBuilder<'a> {
    request: &'a ScanRequest,
    events: Vec<Event>,
    bytes_read: u64,
    item_keys: Vec<ItemKey>,
}

impl<'a> PageBuilder<'a> {
    fn new(request: &'a ScanRequest) -> Self {
        Self {
            request,
            events: Vec::new(),
            bytes_read: 0,
            item_keys: Vec::new(),
        }
    }

    fn events_left(&self) -> usize {
        self.request.events_max.saturating_sub(self.events.len())
    }

    fn bytes_left(&self) -> u64 {
        (self.request.bytes_max as u64).saturating_sub(self.bytes_read)
    }

    /// True when the next event belongs to the next page.
    fn is_full(&self) -> bool {
        !self.events.is_empty() && (self.events_left() == 0 || self.bytes_left() == 0)
    }

    fn push(&mut self, event: Event) {
        self.bytes_read += event_bytes(&self.request.partition.time_series_id, &event);
        self.events.push(event);
    }

    /// Rows and bytes of events.
    fn measure(&self, events: &[Event]) -> (usize, u64) {
        let id = &self.request.partition.time_series_id;
        let rows = events.iter().map(|event| event.items.len()).sum();
        (rows, events.iter().map(|event| event_bytes(id, event)).sum())
    }

    /// Rows as events, items ascending. The last one may be cut.
    fn read(&mut self, page: &Rows) -> Result<Vec<Event>, StoreError> {
        let mut events = Vec::new();
        self.add(page, &mut events)?;
        if self.request.direction == Direction::Ascending {
            // Rows came backwards.
            events.iter_mut().for_each(|event| event.items.reverse());
        }
        Ok(events)
    }

    /// Rows of one event, in the order of the table whatever the direction.
    fn read_all(&mut self, pages: Vec<Rows>) -> Result<Vec<Event>, StoreError> {
        let mut events = Vec::new();
        for page in &pages {
            self.add(page, &mut events)?;
        }
        Ok(events)
    }

    fn add(&mut self, page: &Rows, events: &mut Vec<Event>) -> Result<(), StoreError> {
        let partition = &self.request.partition;
        let rows = page.rows.rows::<EventRow<'_>>();
        for row in rows.map_err(|error| broken(partition, error))? {
            let (time, id, item_key, value, metadata) = row.map_err(|error| broken(partition, error))?;
            if metadata.is_some() {
                return Err(broken(partition, "value_metadata is of a later version"));
            }
            let value = value.ok_or_else(|| broken(partition, "a row has no value"))?;
            let item = EventItem {
                key: self.item_key(item_key)?,
                value,
            };
            match events.last_mut() {
                Some(event) if event.key.time.micros() == time && event.key.id.as_str() == id => {
                    event.items.push(item);
                }
                _ => events.push(Event {
                    key: EventKey {
                        time: EventTime::from_micros(time),
                        id: EventId::new(id).map_err(|error| broken(partition, error))?,
                    },
                    items: vec![item],
                }),
            }
        }
        Ok(())
    }

    fn item_key(&mut self, text: &str) -> Result<ItemKey, StoreError> {
        if let Some(known) = self.item_keys.iter().find(|known| known.as_str() == text) {
            return Ok(known.clone());
        }
        let key = ItemKey::new(text).map_err(|error| broken(&self.request.partition, error))?;
        if self.item_keys.len() < ITEM_KEYS_KNOWN {
            self.item_keys.push(key.clone());
        }
        Ok(key)
    }

    fn finish(self, more: bool) -> ScanPage {
        ScanPage::of(self.events, self.bytes_read, more)
    }
}

fn event_bytes(id: &TimeSeriesId, event: &Event) -> u64 {
    let of_item = |item: &EventItem| row_bytes(id, &event.key.id, &item.key, &item.value);
    event.items.iter().map(of_item).sum()
}

fn broken(partition: &PartitionKey, error: impl std::fmt::Display) -> StoreError {
    misread(&format!("row of partition {partition}"), error)
}

#[cfg(test)]
mod tests {
    use std::ops::Bound::{Excluded, Included, Unbounded};

    use anabranch_model::TimeInterval;

    use super::*;

    fn key(time: i64, id: &str) -> EventKey {
        EventKey {
            time: EventTime::from_micros(time),
            id: EventId::new(id).unwrap(),
        }
    }

    fn within(stretch: &Stretch, key: &EventKey) -> bool {
        let point = Point::before(key);
        stretch.from <= point && point < stretch.to
    }

    #[test]
    fn a_stretch_holds_what_the_bounds_hold() {
        let keys: Vec<EventKey> = (0..4)
            .flat_map(|time| ["a", "a\0", "ab", "b"].map(|id| key(time, id)))
            .collect();
        let ends: Vec<Bound<EventKey>> = keys
            .iter()
            .flat_map(|key| [Included(key.clone()), Excluded(key.clone())])
            .chain([Unbounded])
            .collect();
        for lower in &ends {
            for upper in &ends {
                for (start, end) in [(i64::MIN, i64::MAX), (1, 3), (2, 2), (3, 1)] {
                    let bounds = EventBounds {
                        lower: lower.clone(),
                        upper: upper.clone(),
                        interval: TimeInterval {
                            start: EventTime::from_micros(start),
                            end: EventTime::from_micros(end),
                        },
                    };
                    let stretch = Stretch::of(&bounds);
                    for key in &keys {
                        let held = !stretch.is_empty() && within(&stretch, key);
                        assert_eq!(held, bounds.contains(key), "{bounds:?} {key:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_stretch_goes_on_behind_an_event() {
        let all = Stretch::of(&EventBounds::of_interval(TimeInterval::ALL));
        let mut upwards = all.clone();
        upwards.go_on(&key(1, "b"), Direction::Ascending);
        assert!(!within(&upwards, &key(1, "b")) && within(&upwards, &key(1, "b\0")));
        let mut downwards = all;
        downwards.go_on(&key(1, "b"), Direction::Descending);
        assert!(!within(&downwards, &key(1, "b")) && within(&downwards, &key(1, "az")));
    }
}
