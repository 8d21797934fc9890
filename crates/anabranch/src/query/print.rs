//! Writes a query in its text form.

use anabranch_proto::timeseries::v1::search_query::Query;
use anabranch_proto::timeseries::v1::{SearchQuery, boolean_query::Operator};
use base64::Engine as _;

use super::lex::is_bare;

/// Words of the language, which a bare key can not be.
const WORDS: [&str; 7] = ["and", "or", "not", "in", "id", "exists", "base64"];

/// The text of a query. `None` for one that has no text: a condition that is not set, or AND and OR of
/// fewer than two.
pub(crate) fn print(query: &SearchQuery) -> Option<String> {
    Some(match query.query.as_ref()? {
        Query::BooleanQuery(boolean) => {
            let parts = boolean
                .search_query
                .iter()
                .map(part)
                .collect::<Option<Vec<_>>>()?;
            match (boolean.operator(), parts.len()) {
                (Operator::Not, 1) => format!("NOT {}", parts[0]),
                (Operator::And, 2..) => parts.join(" AND "),
                (Operator::Or, 2..) => parts.join(" OR "),
                _ => return None,
            }
        }
        Query::Equals(equals) => {
            format!(
                "{} = {}",
                key(&equals.event_item_key),
                value(&equals.event_item_value)
            )
        }
        Query::Range(range) => {
            let mut text = key(&range.event_item_key);
            for (bound, sign) in [(&range.lower_bound, ">"), (&range.upper_bound, "<")] {
                if let Some(bound) = bound {
                    let equal = if bound.inclusive { "=" } else { "" };
                    text.push_str(&format!(" {sign}{equal} {}", value(&bound.event_item_value)));
                }
            }
            text
        }
        Query::Prefix(prefix) => {
            format!(
                "{} ^= {}",
                key(&prefix.event_item_key),
                value(&prefix.event_item_value)
            )
        }
        Query::Exists(exists) => format!("exists({})", key(&exists.event_item_key)),
        Query::TimeSeriesIds(ids) => {
            let ids: Vec<_> = ids.ids.iter().map(|id| quote(id)).collect();
            match &ids[..] {
                [one] => format!("id = {one}"),
                several => format!("id IN ({})", several.join(", ")),
            }
        }
    })
}

/// A condition inside another: in parentheses when it has an operator of its own.
fn part(query: &SearchQuery) -> Option<String> {
    let text = print(query)?;
    Some(match &query.query {
        Some(Query::BooleanQuery(boolean)) if boolean.operator() != Operator::Not => format!("({text})"),
        _ => text,
    })
}

fn key(key: &str) -> String {
    let word = WORDS.iter().any(|word| key.eq_ignore_ascii_case(word));
    // A text that begins so is a query in JSON.
    let json = key.starts_with('{');
    if !key.is_empty() && !word && !json && key.chars().all(is_bare) {
        key.to_owned()
    } else {
        quote(key)
    }
}

fn value(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => quote(text),
        Err(_) => format!(
            "base64(\"{}\")",
            base64::engine::general_purpose::STANDARD.encode(bytes)
        ),
    }
}

fn quote(text: &str) -> String {
    let escaped = text
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
        .replace('\t', "\\t")
        .replace('\r', "\\r");
    format!("\"{escaped}\"")
}
