//! How long the keeper has seen what it waits for: on its own elapsed time, never by a stored time, which
//! is of another machine's clock.

use std::collections::BTreeMap;
use std::time::Duration;

use anabranch_model::{EventTime, NamespaceName, SliceName};

/// Something of a slice that should be over after a while.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wait {
    pub namespace: NamespaceName,
    pub slice: SliceName,
    pub what: What,
}

/// What should be over.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// An opening, told by the epoch that it began.
    Opening { incarnation: u64, epoch: u64 },
    /// Another keeper that makes the table of targets.
    Maker { owner: u64, since: EventTime },
}

/// When each wait was first seen. What is not seen in a round is forgotten.
#[derive(Debug, Default)]
pub(super) struct Seen {
    earlier: BTreeMap<Wait, Duration>,
    this_round: BTreeMap<Wait, Duration>,
}

impl Seen {
    /// How long a wait has been seen, this time included.
    pub(super) fn stood(&mut self, wait: Wait, elapsed: Duration) -> Duration {
        let first = self.earlier.get(&wait).copied().unwrap_or(elapsed);
        self.this_round.insert(wait, first);
        elapsed.saturating_sub(first)
    }

    /// Forgets what was not seen since the last call.
    pub(super) fn end_round(&mut self) {
        self.earlier = std::mem::take(&mut self.this_round);
    }
}
