//! The text form of a search query.
//!
//! ```text
//! query   = and { OR and }
//! and     = not { AND not }
//! not     = NOT not | "(" query ")" | exists "(" key ")" | id | compare
//! id      = ID ( "=" | "!=" ) value | ID IN "(" value { "," value } ")"
//! compare = key ( "=" | "!=" | "^=" ) value        equal, not equal, starts with
//!         | key ( "<" | "<=" | ">" | ">=" ) value [ the other bound ]     added >= 10 < 20
//!         | key IN "(" value { "," value } ")"
//! value   = bare | "quoted" | 'quoted' | base64("…")
//! ```
//!
//! - Words are not case-sensitive; a key that is also a word (`id`, `in`, …) is quoted.
//! - An event that lacks the key is found by `!=` and by `NOT`.
//! - Text that starts with `{` is a SearchQuery in proto3 JSON.
//! - What [`print`] writes, [`parse`] reads back as the same query.

mod lex;
mod parse;
mod print;

#[cfg(test)]
mod tests;

use std::fmt;

use anabranch_proto::timeseries::v1::SearchQuery;

use crate::messages;

/// Reads a query in text or in proto3 JSON.
pub(crate) fn parse(text: &str) -> Result<SearchQuery, QueryError> {
    if text.trim_start().starts_with('{') {
        return messages::from_json_text("anabranch.timeseries.v1.SearchQuery", text).map_err(|problem| {
            QueryError {
                text: text.to_owned(),
                column: 0,
                problem,
            }
        });
    }
    parse::query(text)
}

pub(crate) use print::print;

/// What is wrong with a query, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueryError {
    text: String,
    /// Characters before the fault.
    column: usize,
    problem: String,
}

impl QueryError {
    fn at(text: &str, byte: usize, problem: impl Into<String>) -> Self {
        let before = text.get(..byte).unwrap_or(text);
        Self {
            text: text.to_owned(),
            column: before.chars().count(),
            problem: problem.into(),
        }
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.text.trim_start().starts_with('{') || self.text.contains('\n') {
            return write!(f, "the query does not parse: {}", self.problem);
        }
        write!(
            f,
            "the query does not parse at column {}: {}\n  {}\n  {:width$}^",
            self.column + 1,
            self.problem,
            self.text,
            "",
            width = self.column
        )
    }
}
