//! Page tokens of the lists of the admin service: which list it is, and the name that the page ended with.
//!
//! Lists are short and sorted by name, so a name is a position that no change in between can spoil. A token
//! carries no authority: it says where to go on, not what may be seen.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use xxhash_rust::xxh3::xxh3_64;

use crate::errors::{Reason, ServiceError};

/// Rows in a page when the request does not say.
pub const PAGE_SIZE_DEFAULT: usize = 100;
/// Most rows in a page; more is silently capped.
pub const PAGE_SIZE_MAX: usize = 1_000;

const VERSION: u8 = 1;

/// A page of a list: how many rows, and the name after which they start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPage {
    /// Rows in the page.
    pub rows: usize,
    /// The name that the page before ended with.
    pub after: Option<String>,
    list: u64,
}

impl ListPage {
    /// The page that a request of `method` over `namespace` asks for.
    ///
    /// # Errors
    /// `INVALID_PAGE_SIZE`, `PAGE_TOKEN_INVALID`, `PAGE_TOKEN_MISMATCH`.
    pub fn of(method: &str, namespace: &str, page_size: i32, page_token: &str) -> Result<Self, ServiceError> {
        let rows = match usize::try_from(page_size) {
            Ok(0) => PAGE_SIZE_DEFAULT,
            Ok(rows) => rows.min(PAGE_SIZE_MAX),
            Err(_) => {
                let problem = format!("is {page_size}; use 0 for the default or a positive number");
                return Err(ServiceError::of_field(
                    Reason::InvalidPageSize,
                    "page_size",
                    problem,
                ));
            }
        };
        let list = xxh3_64(format!("{method}/{namespace}").as_bytes());
        let after = if page_token.is_empty() {
            None
        } else {
            Some(decode(page_token, list)?)
        };
        Ok(Self { rows, after, list })
    }

    /// Cuts a list, sorted by name, to this page; returns the page and the token of the next.
    pub fn cut<T>(&self, all: impl IntoIterator<Item = T>, name: impl Fn(&T) -> &str) -> (Vec<T>, String) {
        let after = self.after.as_deref();
        let mut rest = all
            .into_iter()
            .filter(|row| after.is_none_or(|after| name(row) > after));
        let page: Vec<T> = rest.by_ref().take(self.rows).collect();
        let token = match (rest.next(), page.last()) {
            (Some(_), Some(last)) => self.encode(name(last)),
            _ => String::new(),
        };
        (page, token)
    }

    fn encode(&self, last: &str) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.list.to_be_bytes());
        bytes.extend_from_slice(last.as_bytes());
        let check = xxh3_64(&bytes);
        bytes.extend_from_slice(&check.to_be_bytes()[..4]);
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

fn decode(token: &str, list: u64) -> Result<String, ServiceError> {
    let invalid = || {
        let problem = "was not made by this service, or is damaged; start again without it";
        ServiceError::of_field(Reason::PageTokenInvalid, "page_token", problem)
    };
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| invalid())?;
    let (body, check) = bytes.split_last_chunk::<4>().ok_or_else(invalid)?;
    if xxh3_64(body).to_be_bytes()[..4] != check[..] {
        return Err(invalid());
    }
    let (version, rest) = body.split_first().ok_or_else(invalid)?;
    let (of, last) = rest.split_first_chunk::<8>().ok_or_else(invalid)?;
    if *version != VERSION {
        return Err(invalid());
    }
    if u64::from_be_bytes(*of) != list {
        let problem = "belongs to another request; start again without it";
        return Err(ServiceError::of_field(
            Reason::PageTokenMismatch,
            "page_token",
            problem,
        ));
    }
    String::from_utf8(last.to_vec()).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(method: &str, size: i32, token: &str) -> Reason {
        ListPage::of(method, "ns", size, token).unwrap_err().reason
    }

    #[test]
    fn pages_of_a_list_neither_skip_nor_repeat() {
        let all: Vec<String> = (0..25).map(|n| format!("{n:02}")).collect();
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let page = ListPage::of("List", "ns", 10, &token).unwrap();
            let (rows, next) = page.cut(all.clone(), |row| row);
            found.extend(rows);
            token = next;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(found, all);
    }

    #[test]
    fn a_token_is_only_good_for_its_list() {
        let page = ListPage::of("List", "ns", 1, "").unwrap();
        let (_, token) = page.cut(["a", "b"], |row| row);
        assert_eq!(reason("Other", 1, &token), Reason::PageTokenMismatch);
        assert_eq!(reason("List", 1, "x"), Reason::PageTokenInvalid);
        assert_eq!(reason("List", 1, &token[1..]), Reason::PageTokenInvalid);
        assert_eq!(reason("List", -1, ""), Reason::InvalidPageSize);
        assert_eq!(ListPage::of("List", "ns", 5_000, "").unwrap().rows, PAGE_SIZE_MAX);
    }
}
