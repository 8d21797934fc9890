//! Pages of lists: an opaque cursor that says after which entry to go on.
//!
//! Nothing in it is secret and nothing in it is trusted: it is checked for being of this list, and a
//! forged one only moves the caller about in what it may read anyway. So it is not signed.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::errors::{Reason, ServiceError};

/// Entries in a page when the request does not say.
pub const ADMIN_PAGE_SIZE_DEFAULT: usize = 100;
/// Most entries in a page; more is silently capped.
pub const ADMIN_PAGE_SIZE_MAX: usize = 1_000;

/// Which page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// Entries in a page: 0 is the default, more than the maximum is capped.
    pub page_size: usize,
    /// Where the last page ended; empty for the first.
    pub page_token: String,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The entries.
    pub entries: Vec<T>,
    /// Where to go on; empty at the end, and only there.
    pub next_page_token: String,
}

/// Which list a cursor belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum List {
    Namespaces,
    TimeSlices,
    BlockedIds,
    Splits,
}

/// Goes on after an entry of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor {
    version: u8,
    list: List,
    namespace: String,
    pub after: String,
}

impl Cursor {
    pub(super) fn new(list: List, namespace: &str, after: &str) -> Self {
        Self {
            version: 1,
            list,
            namespace: namespace.to_owned(),
            after: after.to_owned(),
        }
    }

    /// What it goes on after, where that is a number.
    pub(super) fn after_micros(&self) -> Result<i64, ServiceError> {
        self.after.parse().map_err(|_| invalid())
    }

    pub(super) fn token(&self) -> String {
        // Four plain fields always encode; an empty token would only end the list early.
        postcard::to_stdvec(self).map_or_else(|_| String::new(), |bytes| URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl PageRequest {
    /// Entries in the page.
    pub(super) fn size(&self) -> usize {
        match self.page_size {
            0 => ADMIN_PAGE_SIZE_DEFAULT,
            size => size.min(ADMIN_PAGE_SIZE_MAX),
        }
    }

    /// Where to go on; `None` for the first page.
    pub(super) fn cursor(&self, list: List, namespace: &str) -> Result<Option<Cursor>, ServiceError> {
        if self.page_token.is_empty() {
            return Ok(None);
        }
        let bytes = URL_SAFE_NO_PAD.decode(&self.page_token).map_err(|_| invalid())?;
        let cursor: Cursor = postcard::from_bytes(&bytes).map_err(|_| invalid())?;
        if cursor.version != 1 {
            return Err(invalid());
        }
        if cursor.list != list || cursor.namespace != namespace {
            let problem = "belongs to another request; begin again without it";
            return Err(
                ServiceError::new(Reason::PageTokenMismatch, format!("page_token: {problem}"))
                    .with("field", "page_token")
                    .with("problem", problem)
                    .field("page_token", problem),
            );
        }
        Ok(Some(cursor))
    }

    /// The page of the entries found, of which one more than fit were asked for.
    pub(super) fn cut<T>(&self, mut entries: Vec<T>, cursor: impl Fn(&T) -> Cursor) -> Page<T> {
        let more = entries.len() > self.size();
        entries.truncate(self.size());
        let last = entries.last().filter(|_| more);
        let next_page_token = last.map(|last| cursor(last).token()).unwrap_or_default();
        Page {
            entries,
            next_page_token,
        }
    }
}

/// The error for a token that is none of this server's.
pub(super) fn invalid() -> ServiceError {
    let problem = "was not made by this server, or is damaged; begin again without it";
    ServiceError::new(Reason::PageTokenInvalid, format!("page_token: {problem}"))
        .with("field", "page_token")
        .with("problem", problem)
        .field("page_token", problem)
}
