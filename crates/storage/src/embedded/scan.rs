//! Events to rows and back: what is written, and how a page of a partition is read.
//!
//! Rows of a partition lie newest first, items ascending (`keys`). A walk `Descending` reads them as they
//! lie; `Ascending` reads them backwards and turns the items of each event round.

use std::ops::Bound;

use anabranch_model::{Direction, Event, EventItem, EventKey, ItemKey, PartitionKey, TimeSeriesId};
use bytes::Bytes;

use super::engine::{EngineError, Snapshot};
use super::{read_error, rows};
use crate::error::StoreError;
use crate::events::{EventBounds, ScanPage, ScanRequest, TableName};
use crate::keys;

/// Rows passed over one by one before a new seek is cheaper.
const STEPS_BEFORE_SEEK: usize = 24;

/// Hands on the rows of a partition's events, in order; the flag says which begin an event.
pub(super) fn put_rows(
    partition: &PartitionKey,
    events: Vec<Event>,
    mut put: impl FnMut(bool, Bytes, Bytes),
) {
    let prefix = keys::partition_prefix(partition);
    for event in events {
        let mut event_key = prefix.clone();
        keys::put_event(&mut event_key, &event.key);
        for (n, item) in event.items.into_iter().enumerate() {
            let mut key = event_key.clone();
            keys::put_item_key(&mut key, &item.key);
            put(n == 0, Bytes::from(key), rows::encode(&item.value));
        }
    }
}

/// Reads a page of one partition.
pub(super) fn scan(snapshot: &Snapshot, request: &ScanRequest) -> Result<ScanPage, StoreError> {
    let prefix = keys::partition_prefix(&request.partition);
    let mut page = PageBuilder::new(request, prefix.len());
    if let Some((from, to)) = key_range(&prefix, &request.bounds) {
        let range = snapshot.range(Bound::Included(&from), Bound::Excluded(&to));
        match request.direction {
            Direction::Descending => page.fill(range)?,
            Direction::Ascending => page.fill(range.rev())?,
        }
    }
    Ok(page.finish())
}

/// First key inside the bounds and first key after them, or `None` when they hold nothing.
fn key_range(prefix: &[u8], bounds: &EventBounds) -> Option<(Vec<u8>, Vec<u8>)> {
    if bounds.interval.is_empty() {
        return None;
    }
    let of_time = |micros: i64| {
        let mut key = prefix.to_vec();
        keys::put_event_time(&mut key, anabranch_model::EventTime::from_micros(micros));
        key
    };
    let of_event = |event: &EventKey| {
        let mut key = prefix.to_vec();
        keys::put_event(&mut key, event);
        key
    };
    // Newest first: the upper bound of events is the lower bound of keys.
    let mut from = of_time(bounds.interval.end.micros() - 1);
    match &bounds.upper {
        Bound::Unbounded => {}
        Bound::Included(event) => from = from.max(of_event(event)),
        Bound::Excluded(event) => from = from.max(keys::prefix_end(&of_event(event))?),
    }
    let mut to =
        keys::prefix_end(&of_time(bounds.interval.start.micros())).or_else(|| keys::prefix_end(prefix))?;
    match &bounds.lower {
        Bound::Unbounded => {}
        Bound::Included(event) => to = to.min(keys::prefix_end(&of_event(event))?),
        Bound::Excluded(event) => to = to.min(of_event(event)),
    }
    (from < to).then_some((from, to))
}

/// Item keys that a page remembers.
const ITEM_KEYS_KNOWN: usize = 16;

struct PageBuilder<'a> {
    request: &'a ScanRequest,
    prefix_bytes: usize,
    events: Vec<Event>,
    bytes_read: u64,
    /// Bytes of the key of the event being read, up to its item key.
    event_key: Bytes,
    /// Item keys met so far: events of one partition share them, so they are taken apart once.
    item_keys: Vec<(Vec<u8>, ItemKey)>,
    /// Items of the event before: the next one likely has as many.
    items_before: usize,
    more: bool,
}

impl<'a> PageBuilder<'a> {
    fn new(request: &'a ScanRequest, prefix_bytes: usize) -> Self {
        Self {
            request,
            prefix_bytes,
            events: Vec::new(),
            bytes_read: 0,
            event_key: Bytes::new(),
            items_before: 1,
            item_keys: Vec::new(),
            more: false,
        }
    }

    fn fill(
        &mut self,
        range: impl Iterator<Item = Result<(Bytes, Bytes), EngineError>>,
    ) -> Result<(), StoreError> {
        for row in range {
            let (key, value) = row.map_err(|error| read_error(&self.request.table, error))?;
            let same_event = !self.event_key.is_empty() && key.starts_with(&self.event_key);
            if !same_event && self.is_full() {
                self.more = true;
                return Ok(());
            }
            self.bytes_read += (key.len() + value.len()) as u64;
            self.add(same_event, &key, &value)?;
        }
        Ok(())
    }

    /// True when the next event belongs to the next page. An event is never cut, and never left out for
    /// being larger than a page.
    fn is_full(&self) -> bool {
        !self.events.is_empty()
            && (self.events.len() >= self.request.events_max
                || self.bytes_read >= self.request.bytes_max as u64)
    }

    fn add(&mut self, same_event: bool, key: &Bytes, value: &Bytes) -> Result<(), StoreError> {
        let value = rows::decode(value)?;
        if !same_event {
            self.turn_items();
            let (event, item_key_at) = keys::read_event(key, self.prefix_bytes)?;
            self.event_key = key.slice(..item_key_at);
            self.events.push(Event {
                key: event,
                items: Vec::with_capacity(self.items_before),
            });
        }
        let item_key = self.item_key(key.get(self.event_key.len()..).unwrap_or_default())?;
        if let Some(event) = self.events.last_mut() {
            event.items.push(EventItem { key: item_key, value });
            self.items_before = event.items.len();
        }
        Ok(())
    }

    fn item_key(&mut self, raw: &[u8]) -> Result<ItemKey, StoreError> {
        if let Some((_, known)) = self.item_keys.iter().find(|(bytes, _)| bytes == raw) {
            return Ok(known.clone());
        }
        let item_key = keys::read_item_key(raw)?;
        if self.item_keys.len() < ITEM_KEYS_KNOWN {
            self.item_keys.push((raw.to_vec(), item_key.clone()));
        }
        Ok(item_key)
    }

    /// The items of the event just read came backwards in an ascending walk.
    fn turn_items(&mut self) {
        if let (Direction::Ascending, Some(last)) = (self.request.direction, self.events.last_mut()) {
            last.items.reverse();
        }
    }

    fn finish(mut self) -> ScanPage {
        self.turn_items();
        ScanPage::of(self.events, self.bytes_read, self.more)
    }
}

/// The first time bucket of an id in a range of them, in the direction of a walk.
pub(super) fn next_time_bucket(
    snapshot: &Snapshot,
    table: &TableName,
    time_series_id: &TimeSeriesId,
    from: i64,
    to: i64,
    direction: Direction,
) -> Result<Option<i64>, StoreError> {
    let (low, high) = match direction {
        Direction::Ascending => (from, to),
        Direction::Descending => (to, from),
    };
    if low > high {
        return Ok(None);
    }
    let lower = keys::bucket_prefix(time_series_id, low);
    let upper = keys::prefix_end(&keys::bucket_prefix(time_series_id, high));
    let upper = upper.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let mut range = snapshot.range(Bound::Included(&lower), upper);
    let row = match direction {
        Direction::Ascending => range.next(),
        Direction::Descending => range.next_back(),
    };
    let Some(row) = row else { return Ok(None) };
    let (key, _) = row.map_err(|error| read_error(table, error))?;
    Ok(Some(keys::read_row_key(&key)?.time_bucket))
}

/// The table's partitions in the order of their keys.
pub(super) fn partitions(
    snapshot: &Snapshot,
    table: &TableName,
    after: Option<&PartitionKey>,
    partitions_max: usize,
) -> Result<Vec<PartitionKey>, StoreError> {
    let mut found: Vec<PartitionKey> = Vec::new();
    let mut passed = after.map(keys::partition_prefix).unwrap_or_default();
    while found.len() < partitions_max {
        let lower = if passed.is_empty() {
            Some(Vec::new())
        } else {
            keys::prefix_end(&passed)
        };
        let Some(lower) = lower else { break };
        let mut steps = 0;
        let mut at_end = true;
        for row in snapshot.range(Bound::Included(&lower), Bound::Unbounded) {
            let (key, _) = row.map_err(|error| read_error(table, error))?;
            if !passed.is_empty() && key.starts_with(&passed) {
                steps += 1;
                if steps < STEPS_BEFORE_SEEK {
                    continue;
                }
                at_end = false;
                break;
            }
            if found.len() == partitions_max {
                break;
            }
            let row = keys::read_row_key(&key)?;
            let partition = PartitionKey {
                slice: table.slice.clone(),
                time_series_id: row.time_series_id,
                time_bucket: row.time_bucket,
                event_bucket: row.event_bucket,
            };
            passed = keys::partition_prefix(&partition);
            steps = 0;
            found.push(partition);
        }
        if at_end {
            break;
        }
    }
    Ok(found)
}
