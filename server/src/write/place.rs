//! Decides for every event where it goes and whether it may: a function of the view and the time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use anabranch_model::{
    Consistency, Event, EventItem, EventRecord, EventTime, NamespaceName, PartitionKey, SliceState, TimeSlice,
};
use anabranch_split::planted::{Bug, planted};
use anabranch_storage::{PartitionAppend, TableKind, TableName};

use super::refusal::Refusal;
use crate::namespaces::NamespaceView;
use crate::slices::tiling;

/// What is to become of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Placement<'a> {
    /// It goes into this slice.
    Into(&'a TimeSlice),
    /// It may be written, but its time has no slice yet.
    NoSlice,
    /// It may not be written.
    Refused(Refusal),
}

/// Says of one event where it goes, or why not. Earlier rules are those that an operator set on purpose.
pub(super) fn place<'a>(view: &'a NamespaceView, event: &EventRecord, now: EventTime) -> Placement<'a> {
    let time = event.event.key.time;
    if let Some(block) = view.blocked.get(&event.time_series_id) {
        return Placement::Refused(Refusal::Blocked(block.clone()));
    }
    let slice = view.slice_of(time);
    if let Some(slice) = slice
        && slice.state != SliceState::Open
    {
        return Placement::Refused(Refusal::Closed(slice.name.clone()));
    }
    if let Some(before) = view.sealed_before
        && time < before
    {
        return Placement::Refused(Refusal::Sealed(before));
    }
    let settings = &view.settings;
    let oldest = now.saturating_sub(settings.accept_limit);
    let newest = now.saturating_add(settings.accept_ahead_limit);
    if !settings.accept_limit.is_zero() && time < oldest {
        return Placement::Refused(Refusal::TooOld {
            oldest,
            newest,
            limit: settings.accept_limit,
        });
    }
    if time > newest {
        return Placement::Refused(Refusal::TooFarAhead {
            oldest: (!settings.accept_limit.is_zero()).then_some(oldest),
            newest,
            limit: settings.accept_ahead_limit,
        });
    }
    if let Some(before) = slice.and_then(|slice| slice.frozen_before)
        && time < before
        && !planted(Bug::FreezeNotEnforced)
    {
        return Placement::Refused(Refusal::Frozen(before));
    }
    match slice {
        Some(slice) => Placement::Into(slice),
        None => match born_closed(view, time, now) {
            Some(refusal) => Placement::Refused(refusal),
            None => Placement::NoSlice,
        },
    }
}

/// A slice that retention would close at once is not made for a write.
fn born_closed(view: &NamespaceView, time: EventTime, now: EventTime) -> Option<Refusal> {
    let after = view.settings.retention.close_after?;
    let slices = tiling::missing(&view.slices, &view.settings, &[time]).ok()?;
    let slice = slices.into_iter().next()?;
    (now >= slice.interval.end.saturating_add(after)).then_some(Refusal::Closed(slice.name))
}

/// The appends of a request, and which of its events each one holds.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub appends: Vec<PartitionAppend>,
    pub indices: Vec<Vec<usize>>,
}

/// Groups events by partition. Items of equal events are merged, the later value stays (W2).
pub(super) fn group(
    namespace: &NamespaceName,
    consistency: Consistency,
    events: Vec<(usize, EventRecord, TimeSlice)>,
) -> Parts {
    let mut parts = Parts::default();
    let mut by_partition: HashMap<PartitionKey, usize> = HashMap::new();
    for (index, event, slice) in events {
        let partition = slice.partition_of(&event.time_series_id, &event.event.key);
        let at = match by_partition.entry(partition) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                parts.appends.push(PartitionAppend {
                    table: TableName {
                        namespace: namespace.clone(),
                        kind: TableKind::Data,
                        slice: slice.name.clone(),
                    },
                    partition: entry.key().clone(),
                    events: Vec::new(),
                    consistency,
                });
                parts.indices.push(Vec::new());
                *entry.insert(parts.appends.len() - 1)
            }
        };
        if let (Some(append), Some(indices)) = (parts.appends.get_mut(at), parts.indices.get_mut(at)) {
            append.events.push(event.event);
            indices.push(index);
        }
    }
    for append in &mut parts.appends {
        let events = std::mem::take(&mut append.events);
        append.events = merge_equal(events);
    }
    parts
}

fn merge_equal(mut events: Vec<Event>) -> Vec<Event> {
    // Stable, so that among equal keys the later one of the request stays later.
    events.sort_by(|a, b| a.key.cmp(&b.key));
    let mut merged: Vec<Event> = Vec::with_capacity(events.len());
    for event in events {
        match merged.last_mut().filter(|last| last.key == event.key) {
            Some(last) => merge_items(&mut last.items, event.items),
            None => merged.push(event),
        }
    }
    merged
}

fn merge_items(items: &mut Vec<EventItem>, later: Vec<EventItem>) {
    for item in later {
        match items.binary_search_by(|known| known.key.cmp(&item.key)) {
            Ok(at) => {
                if let Some(known) = items.get_mut(at) {
                    known.value = item.value;
                }
            }
            Err(at) => items.insert(at, item),
        }
    }
}
