//! Why an event is not taken, and how that is said.

use std::time::Duration;

use anabranch_catalog::Block;
use anabranch_model::{EventRecord, EventTime, NamespaceName, SliceName};

use crate::errors::{Reason, ServiceError};

/// Most refused events that an error names.
pub(super) const NAMED_MAX: usize = 100;

/// Why an event is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Its id is blocked.
    Blocked(Block),
    /// Its slice is closed or dropped.
    Closed(SliceName),
    /// It lies before what was sealed.
    Sealed(EventTime),
    /// It lies before what was frozen to be split, though not by this server's clock before the limit.
    Frozen(EventTime),
    /// It is older than the accept limit.
    TooOld {
        oldest: EventTime,
        newest: EventTime,
        limit: Duration,
    },
    /// It is further ahead than the limit.
    TooFarAhead {
        oldest: Option<EventTime>,
        newest: EventTime,
        limit: Duration,
    },
}

impl Refusal {
    /// The reason, on the wire.
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Blocked(_) => Reason::IdBlocked,
            Self::Closed(_) => Reason::TimeSliceClosed,
            Self::Sealed(_) => Reason::TimeSliceSealed,
            Self::Frozen(_) | Self::TooOld { .. } => Reason::EventTooOld,
            Self::TooFarAhead { .. } => Reason::EventTooFarAhead,
        }
    }

    /// The reason, as a metric's label.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Blocked(_) => "id_blocked",
            Self::Closed(_) => "time_slice_closed",
            Self::Sealed(_) => "time_slice_sealed",
            Self::Frozen(_) | Self::TooOld { .. } => "event_too_old",
            Self::TooFarAhead { .. } => "event_too_far_ahead",
        }
    }

    fn field(&self, index: usize) -> String {
        match self {
            Self::Blocked(_) => format!("events[{index}].time_series_id"),
            _ => format!("events[{index}].event_time"),
        }
    }

    fn describe(&self, event: &EventRecord) -> String {
        let time = event.event.key.time;
        match self {
            Self::Blocked(block) => format!(
                "time series `{}` is blocked since {}: {}",
                event.time_series_id, block.since, block.reason
            ),
            Self::Closed(slice) => {
                format!("{time} is in time slice `{slice}`, which is closed to reads and writes")
            }
            Self::Sealed(before) => format!("{time}: nothing before {before} is accepted any more"),
            Self::Frozen(before) => format!("{time}: splitting has frozen everything before {before}"),
            Self::TooOld { oldest, limit, .. } => format!(
                "{time} is older than {oldest}, the oldest time accepted now (accept_limit {}s)",
                limit.as_secs_f64()
            ),
            Self::TooFarAhead { newest, limit, .. } => format!(
                "{time} is past {newest}, the newest time accepted now (accept_ahead_limit {}s)",
                limit.as_secs_f64()
            ),
        }
    }

    fn facts(&self, error: ServiceError) -> ServiceError {
        match self {
            Self::Blocked(block) => error
                .with("blockedSince", block.since)
                .with("blockReason", &block.reason),
            Self::Closed(slice) => error.with("timeSlice", slice),
            Self::Sealed(before) => error.with("sealedBefore", before).with("acceptedFrom", before),
            Self::Frozen(before) => error.with("frozenBefore", before).with("acceptedFrom", before),
            Self::TooOld {
                oldest,
                newest,
                limit,
            } => error
                .with("acceptedFrom", oldest)
                .with("acceptedUntil", newest)
                .with("oldestAccepted", oldest)
                .with("acceptLimit", format!("{}s", limit.as_secs_f64())),
            Self::TooFarAhead {
                oldest,
                newest,
                limit,
            } => {
                let error = match oldest {
                    Some(oldest) => error.with("acceptedFrom", oldest),
                    None => error,
                };
                error
                    .with("acceptedUntil", newest)
                    .with("newestAccepted", newest)
                    .with("acceptAheadLimit", format!("{}s", limit.as_secs_f64()))
            }
        }
    }
}

/// The error for a request of which events were refused: the first one makes reason and message, every
/// one (up to a bound) is named.
pub(super) fn refused(
    namespace: &NamespaceName,
    events: &[EventRecord],
    refusals: &[(usize, Refusal)],
) -> Option<ServiceError> {
    let (index, first) = refusals.first()?;
    let event = events.get(*index)?;
    let subject = first.field(*index);
    let mut message = format!("{subject}: {}", first.describe(event));
    if refusals.len() > 1 {
        message.push_str(&format!(" (and {} more)", refusals.len() - 1));
    }
    let mut error = first
        .facts(ServiceError::new(first.reason(), message))
        .with("subject", subject)
        .with("namespace", namespace)
        .with("timeSeriesId", &event.time_series_id)
        .with("eventTime", event.event.key.time)
        .with("refused", refusals.len());
    for (index, refusal) in refusals.iter().take(NAMED_MAX) {
        if let Some(event) = events.get(*index) {
            error = error.field(refusal.field(*index), refusal.describe(event));
        }
    }
    Some(error)
}
