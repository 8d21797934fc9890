//! What a search goes over, decided apart from how it is carried out.
//!
//! ```text
//! query ─▶ bounded ids? ─yes▶ those ids, in event order
//!                       └no─▶ every partition of the interval's slices, in partition order
//! ```
//!
//! An index that turns conditions into ids has its place here.

use std::collections::BTreeSet;
use std::sync::Arc;

use anabranch_model::TimeSeriesId;
use anabranch_model::query::{BooleanOperator, SearchQuery};

use crate::context::RecordOrder;
use crate::errors::{Reason, ServiceError};
use crate::namespaces::NamespaceView;

/// The ids that a walk goes over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// These, in event order over all of them.
    Ids(Arc<[TimeSeriesId]>),
    /// All there are, in partition order.
    Everything,
}

impl Scope {
    pub(super) fn order(&self) -> RecordOrder {
        match self {
            Self::Ids(_) => RecordOrder::Event,
            Self::Everything => RecordOrder::Partition,
        }
    }

    /// The scope of a query. A blocked id that it names is refused.
    pub(super) fn of_query(query: Option<&SearchQuery>, view: &NamespaceView) -> Result<Self, ServiceError> {
        let Some(ids) = query.and_then(bounded_ids) else {
            return Ok(Self::Everything);
        };
        for id in &ids {
            refuse_blocked(id, view)?;
        }
        Ok(Self::Ids(ids.into_iter().collect()))
    }
}

/// The only ids that a query can match, if it says so.
pub(super) fn bounded_ids(query: &SearchQuery) -> Option<BTreeSet<TimeSeriesId>> {
    match query {
        SearchQuery::TimeSeriesIds(ids) => Some(ids.iter().cloned().collect()),
        SearchQuery::Boolean { operator, queries } => match operator {
            BooleanOperator::And => queries
                .iter()
                .filter_map(bounded_ids)
                .reduce(|a, b| a.intersection(&b).cloned().collect()),
            BooleanOperator::Or => queries
                .iter()
                .map(bounded_ids)
                .collect::<Option<Vec<_>>>()
                .map(|sets| sets.into_iter().flatten().collect()),
            BooleanOperator::Not => None,
        },
        SearchQuery::Equals { .. }
        | SearchQuery::Range { .. }
        | SearchQuery::Prefix { .. }
        | SearchQuery::Exists { .. } => None,
    }
}

/// A blocked id is not read.
pub(super) fn refuse_blocked(id: &TimeSeriesId, view: &NamespaceView) -> Result<(), ServiceError> {
    let Some(block) = view.blocked.get(id) else {
        return Ok(());
    };
    Err(ServiceError::new(
        Reason::IdBlocked,
        format!(
            "time_series_id `{id}` is blocked since {}: {}",
            block.since, block.reason
        ),
    )
    .with("timeSeriesId", id)
    .with("blockedReason", &block.reason)
    .with("blockedSince", block.since))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_model::ItemKey;
    use anabranch_model::query::SearchQuery as Query;

    fn ids(names: &[&str]) -> Query {
        Query::TimeSeriesIds(
            names
                .iter()
                .map(|name| TimeSeriesId::new(*name).unwrap())
                .collect(),
        )
    }

    fn exists() -> Query {
        Query::Exists {
            item_key: ItemKey::new("k").unwrap(),
        }
    }

    fn join(operator: BooleanOperator, queries: Vec<Query>) -> Query {
        Query::Boolean { operator, queries }
    }

    fn found(query: &Query) -> Option<Vec<String>> {
        bounded_ids(query).map(|ids| ids.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn ids_bound_a_query_where_every_match_must_be_one_of_them() {
        use BooleanOperator::{And, Not, Or};
        let all = |names: &[&str]| Some(names.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(found(&ids(&["b", "a", "b"])), all(&["a", "b"]));
        assert_eq!(found(&exists()), None);
        assert_eq!(
            found(&join(And, vec![exists(), ids(&["a", "b"]), ids(&["b", "c"])])),
            all(&["b"])
        );
        assert_eq!(found(&join(And, vec![ids(&["a"]), ids(&["b"])])), all(&[]));
        assert_eq!(found(&join(And, vec![exists(), exists()])), None);
        assert_eq!(found(&join(Or, vec![ids(&["a"]), ids(&["b"])])), all(&["a", "b"]));
        assert_eq!(found(&join(Or, vec![ids(&["a"]), exists()])), None);
        assert_eq!(found(&join(Not, vec![ids(&["a"])])), None);
        assert_eq!(
            found(&join(And, vec![ids(&["a", "b"]), join(Not, vec![ids(&["a"])])])),
            all(&["a", "b"])
        );
    }
}
