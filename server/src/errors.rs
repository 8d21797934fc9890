//! Why a request failed, as the catalogue in `errors.toml` lists it.
//!
//! Inside the server an error is a [`Reason`] and its facts; code, message, fix and the wire form are
//! looked up in the catalogue at the edge.

use std::collections::BTreeMap;
use std::time::Duration;

use anabranch_storage::{ErrorKind, StoreError};

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Every reason in the catalogue.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name on the wire.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

reasons! {
    /// The name breaks a rule.
    InvalidNamespaceName = "INVALID_NAMESPACE_NAME",
    /// A field of an event breaks a rule.
    InvalidEvent = "INVALID_EVENT",
    /// A time is outside years 1 to 9999 or malformed.
    InvalidTimestamp = "INVALID_TIMESTAMP",
    /// An interval ends before it starts.
    InvalidTimeInterval = "INVALID_TIME_INTERVAL",
    /// A page size is negative.
    InvalidPageSize = "INVALID_PAGE_SIZE",
    /// A search query breaks a rule.
    InvalidSearchQuery = "INVALID_SEARCH_QUERY",
    /// An aggregation breaks a rule.
    InvalidAggregation = "INVALID_AGGREGATION",
    /// A page token was not made by this store, or is damaged.
    PageTokenInvalid = "PAGE_TOKEN_INVALID",
    /// A page token belongs to another request.
    PageTokenMismatch = "PAGE_TOKEN_MISMATCH",
    /// A setting breaks a rule.
    InvalidSetting = "INVALID_SETTING",
    /// No such namespace.
    NamespaceNotFound = "NAMESPACE_NOT_FOUND",
    /// The name is taken.
    NamespaceAlreadyExists = "NAMESPACE_ALREADY_EXISTS",
    /// Somebody changed it at the same time.
    NamespaceChanged = "NAMESPACE_CHANGED",
    /// The event's slice takes no more reads or writes.
    TimeSliceClosed = "TIME_SLICE_CLOSED",
    /// The event lies before what was sealed.
    TimeSliceSealed = "TIME_SLICE_SEALED",
    /// The event is older than the accept limit.
    EventTooOld = "EVENT_TOO_OLD",
    /// The event is further ahead than the accept-ahead limit.
    EventTooFarAhead = "EVENT_TOO_FAR_AHEAD",
    /// The id is blocked.
    IdBlocked = "ID_BLOCKED",
    /// Some partitions of a write failed.
    WritePartlyFailed = "WRITE_PARTLY_FAILED",
    /// The queue of writes is full.
    WriteQueueFull = "WRITE_QUEUE_FULL",
    /// More is in flight than the server takes.
    ServerOverloaded = "SERVER_OVERLOADED",
    /// The deadline came before any answer.
    DeadlineExceeded = "DEADLINE_EXCEEDED",
    /// The store did not answer.
    StoreUnreachable = "STORE_UNREACHABLE",
    /// The store did not say whether the write happened.
    StoreOutcomeUnknown = "STORE_OUTCOME_UNKNOWN",
    /// Stored bytes break their own rules.
    StoreCorrupt = "STORE_CORRUPT",
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", .reason.name())]
pub struct ServiceError {
    /// Which entry of the catalogue.
    pub reason: Reason,
    /// What happened, with the values: lowercase, no full stop.
    pub message: String,
    /// Fields of the request that are at fault, by path (`events[3].event_id`), and why.
    pub fields: Vec<(String, String)>,
    /// Every variable in the message, by lowerCamel name.
    pub metadata: BTreeMap<String, String>,
    /// When to send the same request again.
    pub retry_after: Option<Duration>,
}

impl ServiceError {
    /// An error of a reason, with what happened.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            fields: Vec::new(),
            metadata: BTreeMap::new(),
            retry_after: None,
        }
    }

    /// Names a field at fault.
    #[must_use]
    pub fn field(mut self, path: impl Into<String>, description: impl Into<String>) -> Self {
        self.fields.push((path.into(), description.into()));
        self
    }

    /// Adds a variable of the message.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.metadata.insert(name.to_owned(), value.to_string());
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        let message = chain(&error);
        let retry = Duration::from_millis(200);
        match error.kind() {
            ErrorKind::Overloaded => Self::new(Reason::ServerOverloaded, message).retry_after(retry),
            ErrorKind::Corrupt => Self::new(Reason::StoreCorrupt, message),
            ErrorKind::Unknown => Self::new(Reason::StoreOutcomeUnknown, message).retry_after(retry),
            // A table that is not there any more was dropped under the request: try again and the slice is gone.
            ErrorKind::Unavailable | ErrorKind::NotFound | ErrorKind::Invalid => {
                Self::new(Reason::StoreUnreachable, message).retry_after(retry)
            }
        }
    }
}

/// An error and everything that caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
