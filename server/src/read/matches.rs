//! Which events a read keeps: its filters or its query, compiled once and asked for every event.
//!
//! A query value is parsed under its key's type here, so a value that is none is refused before
//! anything is read.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use anabranch_model::query::{BooleanOperator, EventFilter, SearchQuery, ValueBound};
use anabranch_model::{Event, FieldType, ItemKey, NamespaceSettings, TimeSeriesId};
use bytes::Bytes;

use super::field::{self, FieldValue};
use super::request::QUERY_IDS_MAX;
use crate::errors::{Reason, ServiceError};

/// Deepest nesting of a query.
pub(super) const QUERY_DEPTH_MAX: usize = 16;
/// Most conditions that are not boolean in a query.
pub(super) const QUERY_LEAVES_MAX: usize = 256;

/// What an event must be to be answered.
#[derive(Debug)]
pub(super) enum Matcher {
    All,
    Filters(Vec<EventFilter>),
    Query(Node),
}

#[derive(Debug)]
pub(super) enum Node {
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Vec<Node>),
    Equals {
        item_key: ItemKey,
        field_type: FieldType,
        value: FieldValue,
    },
    Range {
        item_key: ItemKey,
        field_type: FieldType,
        lower: Option<(FieldValue, bool)>,
        upper: Option<(FieldValue, bool)>,
    },
    Prefix {
        item_key: ItemKey,
        value: Bytes,
    },
    Exists {
        item_key: ItemKey,
    },
    Ids(BTreeSet<TimeSeriesId>),
}

impl Matcher {
    pub(super) fn of_filters(filters: Vec<EventFilter>) -> Self {
        if filters.is_empty() {
            Self::All
        } else {
            Self::Filters(filters)
        }
    }

    /// Compiles a query under a namespace's field types.
    pub(super) fn of_query(query: &SearchQuery, settings: &NamespaceSettings) -> Result<Self, ServiceError> {
        let mut compiler = Compiler {
            settings,
            leaves: 0,
            ids: 0,
        };
        compiler.node(query, "search_query", 1).map(Self::Query)
    }

    /// True when every event is kept, so that what is read is what is answered.
    pub(super) fn keeps_all(&self) -> bool {
        match self {
            Self::All => true,
            Self::Query(Node::Ids(_)) => true,
            Self::Filters(_) | Self::Query(_) => false,
        }
    }

    pub(super) fn keeps(&self, id: &TimeSeriesId, event: &Event) -> bool {
        match self {
            Self::All => true,
            Self::Filters(filters) => filters.iter().all(|filter| passes(filter, event)),
            Self::Query(node) => node.matches(id, event),
        }
    }
}

fn passes(filter: &EventFilter, event: &Event) -> bool {
    match (event.item(filter.item_key.as_str()), &filter.item_value) {
        (Some(found), Some(wanted)) => found == wanted,
        (found, None) => found.is_some(),
        (None, Some(_)) => false,
    }
}

impl Node {
    fn matches(&self, id: &TimeSeriesId, event: &Event) -> bool {
        match self {
            Self::And(nodes) => nodes.iter().all(|node| node.matches(id, event)),
            Self::Or(nodes) => nodes.iter().any(|node| node.matches(id, event)),
            Self::Not(nodes) => !nodes.iter().any(|node| node.matches(id, event)),
            Self::Equals {
                item_key,
                field_type,
                value,
            } => read(event, item_key, *field_type)
                .is_some_and(|found| found.compare(value) == Some(Ordering::Equal)),
            Self::Range {
                item_key,
                field_type,
                lower,
                upper,
            } => read(event, item_key, *field_type).is_some_and(|found| {
                within(&found, lower.as_ref(), Ordering::Greater)
                    && within(&found, upper.as_ref(), Ordering::Less)
            }),
            Self::Prefix { item_key, value } => event
                .item(item_key.as_str())
                .is_some_and(|found| found.starts_with(value)),
            Self::Exists { item_key } => event.item(item_key.as_str()).is_some(),
            Self::Ids(ids) => ids.contains(id),
        }
    }
}

fn read(event: &Event, item_key: &ItemKey, field_type: FieldType) -> Option<FieldValue> {
    field::parse(field_type, event.item(item_key.as_str())?)
}

fn within(found: &FieldValue, bound: Option<&(FieldValue, bool)>, side: Ordering) -> bool {
    bound.is_none_or(|(value, inclusive)| match found.compare(value) {
        Some(Ordering::Equal) => *inclusive,
        ordering => ordering == Some(side),
    })
}

struct Compiler<'a> {
    settings: &'a NamespaceSettings,
    leaves: usize,
    ids: usize,
}

impl Compiler<'_> {
    fn node(&mut self, query: &SearchQuery, path: &str, depth: usize) -> Result<Node, ServiceError> {
        if depth > QUERY_DEPTH_MAX {
            return Err(broken(
                path,
                format!("lies more than {QUERY_DEPTH_MAX} queries deep; join conditions in fewer levels"),
            ));
        }
        if let SearchQuery::Boolean { operator, queries } = query {
            return self.boolean(*operator, queries, path, depth);
        }
        self.leaves += 1;
        if self.leaves > QUERY_LEAVES_MAX {
            return Err(broken(
                path,
                format!(
                    "is one condition more than the {QUERY_LEAVES_MAX} that a query may hold; ask in several requests"
                ),
            ));
        }
        self.leaf(query, path)
    }

    fn boolean(
        &mut self,
        operator: BooleanOperator,
        queries: &[SearchQuery],
        path: &str,
        depth: usize,
    ) -> Result<Node, ServiceError> {
        let path = format!("{path}.boolean_query.search_query");
        if queries.is_empty() {
            return Err(broken(&path, "is empty; give at least one query to combine"));
        }
        let nodes = queries
            .iter()
            .enumerate()
            .map(|(index, query)| self.node(query, &format!("{path}[{index}]"), depth + 1))
            .collect::<Result<_, _>>()?;
        Ok(match operator {
            BooleanOperator::And => Node::And(nodes),
            BooleanOperator::Or => Node::Or(nodes),
            BooleanOperator::Not => Node::Not(nodes),
        })
    }

    fn leaf(&mut self, query: &SearchQuery, path: &str) -> Result<Node, ServiceError> {
        match query {
            SearchQuery::Boolean { .. } => Err(broken(path, "is not a condition")),
            SearchQuery::Equals { item_key, value } => Ok(Node::Equals {
                field_type: self.type_of(item_key),
                value: self.value(item_key, value, || format!("{path}.equals.event_item_value"))?,
                item_key: item_key.clone(),
            }),
            SearchQuery::Range {
                item_key,
                lower,
                upper,
            } => {
                if lower.is_none() && upper.is_none() {
                    return Err(broken(
                        &format!("{path}.range"),
                        "has no bound; give lower_bound or upper_bound, or use exists",
                    ));
                }
                let path = format!("{path}.range");
                Ok(Node::Range {
                    lower: self.bound(item_key, lower.as_ref(), &format!("{path}.lower_bound"))?,
                    upper: self.bound(item_key, upper.as_ref(), &format!("{path}.upper_bound"))?,
                    field_type: self.type_of(item_key),
                    item_key: item_key.clone(),
                })
            }
            SearchQuery::Prefix { item_key, value } => Ok(Node::Prefix {
                item_key: item_key.clone(),
                value: value.clone(),
            }),
            SearchQuery::Exists { item_key } => Ok(Node::Exists {
                item_key: item_key.clone(),
            }),
            SearchQuery::TimeSeriesIds(ids) => {
                let path = format!("{path}.time_series_ids.ids");
                if ids.is_empty() {
                    return Err(broken(&path, "is empty; name at least one id"));
                }
                self.ids += ids.len();
                if self.ids > QUERY_IDS_MAX {
                    return Err(broken(
                        &path,
                        format!(
                            "brings the query to {} ids, at most {QUERY_IDS_MAX} are allowed; ask in several requests",
                            self.ids
                        ),
                    ));
                }
                Ok(Node::Ids(ids.iter().cloned().collect()))
            }
        }
    }

    fn type_of(&self, item_key: &ItemKey) -> FieldType {
        field::type_of(self.settings, item_key.as_str())
    }

    fn bound(
        &self,
        item_key: &ItemKey,
        bound: Option<&ValueBound>,
        path: &str,
    ) -> Result<Option<(FieldValue, bool)>, ServiceError> {
        let Some(bound) = bound else {
            return Ok(None);
        };
        let value = self.value(item_key, &bound.value, || format!("{path}.event_item_value"))?;
        Ok(Some((value, bound.inclusive)))
    }

    fn value(
        &self,
        item_key: &ItemKey,
        value: &Bytes,
        path: impl FnOnce() -> String,
    ) -> Result<FieldValue, ServiceError> {
        let field_type = self.type_of(item_key);
        field::parse(field_type, value).ok_or_else(|| {
            let shown: String = String::from_utf8_lossy(value).chars().take(64).collect();
            let (name, example) = (field::name(field_type), field::example(field_type));
            broken(
                &path(),
                format!("`{shown}` is no {name}, which field_mapping gives for `{item_key}`; use {example}"),
            )
            .with("fieldType", name)
            .with("eventItemKey", item_key)
        })
    }
}

fn broken(path: &str, what: impl Into<String>) -> ServiceError {
    let what = what.into();
    ServiceError::new(Reason::InvalidSearchQuery, format!("{path} {what}")).field(path, what)
}

#[cfg(test)]
mod tests;
