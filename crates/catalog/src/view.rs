//! A namespace as one request sees it: read once, never changed under it.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_model::{
    Direction, EventTime, NamespaceName, NamespaceSettings, SliceName, SliceState, TimeInterval,
    TimeSeriesId, TimeSlice,
};

/// Why an id is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What the operator gave as the reason.
    pub reason: String,
    /// When it was blocked.
    pub since: EventTime,
}

/// A namespace's settings, slices and blocked ids at one moment.
#[derive(Clone, Debug)]
pub struct NamespaceView {
    /// Its name.
    pub name: NamespaceName,
    /// What it is set to.
    pub settings: NamespaceSettings,
    /// Version of the settings' record.
    pub version: u64,
    /// Tells apart namespaces that had the same name one after the other.
    pub incarnation: u64,
    /// No event before this is accepted any more, whether its time has a slice or not. The slices'
    /// own `sealed_before` follow from it.
    pub sealed_before: Option<EventTime>,
    /// Every slice, ascending by start; they do not overlap.
    pub slices: Arc<Vec<TimeSlice>>,
    /// Ids that are refused.
    pub blocked: Arc<BTreeMap<TimeSeriesId, Block>>,
}

impl NamespaceView {
    /// The slice that holds a time, if there is one, whatever its state.
    pub fn slice_of(&self, time: EventTime) -> Option<&TimeSlice> {
        let after = self.slices.partition_point(|slice| slice.interval.start <= time);
        let slice = self.slices.get(after.checked_sub(1)?)?;
        slice.interval.contains(time).then_some(slice)
    }

    /// The slice of a name, whatever its state.
    pub fn slice_named(&self, name: &SliceName) -> Option<&TimeSlice> {
        self.slices.iter().find(|slice| slice.name == *name)
    }

    /// The open slices that an interval touches, in the order of a walk.
    pub fn slices_of(&self, interval: &TimeInterval, direction: Direction) -> Vec<&TimeSlice> {
        let touched = |slice: &&TimeSlice| {
            slice.state == SliceState::Open && !slice.interval.intersection(interval).is_empty()
        };
        match direction {
            Direction::Ascending => self.slices.iter().filter(touched).collect(),
            Direction::Descending => self.slices.iter().rev().filter(touched).collect(),
        }
    }
}
