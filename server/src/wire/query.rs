//! Search queries, in.

use anabranch_model::query::{BooleanOperator, SearchQuery, ValueBound};
use anabranch_proto::timeseries::v1 as pb;
use pb::boolean_query::Operator;
use pb::search_query::Query;

use super::fields;
use crate::errors::{Reason, ServiceError};
use crate::read::request::QUERY_IDS_MAX;

/// Queries inside queries, at most.
const DEPTH_MAX: usize = 16;
/// Queries in one request, at most.
const QUERIES_MAX: usize = 256;

/// A request's query; `None` when it has none.
///
/// # Errors
/// `INVALID_SEARCH_QUERY` with the path of the part that is wrong.
pub fn search(query: Option<pb::SearchQuery>) -> Result<Option<SearchQuery>, ServiceError> {
    let mut queries_left = QUERIES_MAX;
    query
        .map(|query| convert(query, "search_query", DEPTH_MAX, &mut queries_left))
        .transpose()
}

fn wrong(path: &str, problem: impl Into<String>) -> ServiceError {
    ServiceError::of_field(Reason::InvalidSearchQuery, path, problem)
}

fn convert(
    query: pb::SearchQuery,
    path: &str,
    depth_left: usize,
    queries_left: &mut usize,
) -> Result<SearchQuery, ServiceError> {
    let Some(depth_left) = depth_left.checked_sub(1) else {
        return Err(wrong(
            path,
            format!("lies deeper than {DEPTH_MAX} queries inside each other"),
        ));
    };
    let Some(left) = queries_left.checked_sub(1) else {
        return Err(wrong(
            path,
            format!("is one more than the {QUERIES_MAX} queries that are allowed"),
        ));
    };
    *queries_left = left;
    let key = |kind: &str, key: &str| {
        fields::item_key(
            Reason::InvalidSearchQuery,
            &format!("{path}.{kind}.event_item_key"),
            key,
        )
    };
    let kinds = "set one of boolean_query, equals, range, prefix, exists, time_series_ids";
    Ok(match query.query.ok_or_else(|| wrong(path, kinds))? {
        Query::BooleanQuery(boolean) => {
            let path = format!("{path}.boolean_query");
            let operator = operator(&boolean, &path)?;
            let inner = |(index, query)| {
                let path = format!("{path}.search_query[{index}]");
                convert(query, &path, depth_left, queries_left)
            };
            let queries = boolean.search_query.into_iter().enumerate();
            SearchQuery::Boolean {
                operator,
                queries: queries.map(inner).collect::<Result<_, _>>()?,
            }
        }
        Query::Equals(equals) => SearchQuery::Equals {
            item_key: key("equals", &equals.event_item_key)?,
            value: equals.event_item_value,
        },
        Query::Range(range) => {
            if range.lower_bound.is_none() && range.upper_bound.is_none() {
                return Err(wrong(
                    &format!("{path}.range"),
                    "has no bound; set lower_bound or upper_bound, or use exists",
                ));
            }
            SearchQuery::Range {
                item_key: key("range", &range.event_item_key)?,
                lower: range.lower_bound.map(bound),
                upper: range.upper_bound.map(bound),
            }
        }
        Query::Prefix(prefix) => SearchQuery::Prefix {
            item_key: key("prefix", &prefix.event_item_key)?,
            value: prefix.event_item_value,
        },
        Query::Exists(exists) => SearchQuery::Exists {
            item_key: key("exists", &exists.event_item_key)?,
        },
        Query::TimeSeriesIds(ids) => {
            let path = format!("{path}.time_series_ids.ids");
            if ids.ids.is_empty() {
                return Err(wrong(&path, "is empty; name at least one id"));
            }
            if ids.ids.len() > QUERY_IDS_MAX {
                let problem = format!("has {} ids, at most {QUERY_IDS_MAX} are allowed", ids.ids.len());
                return Err(wrong(&path, problem));
            }
            let id = |(index, id): (usize, String)| {
                anabranch_model::TimeSeriesId::new(id).map_err(|why| {
                    fields::refused(Reason::InvalidSearchQuery, &format!("{path}[{index}]"), &why)
                })
            };
            SearchQuery::TimeSeriesIds(
                ids.ids
                    .into_iter()
                    .enumerate()
                    .map(id)
                    .collect::<Result<_, _>>()?,
            )
        }
    })
}

fn operator(boolean: &pb::BooleanQuery, path: &str) -> Result<BooleanOperator, ServiceError> {
    let operator = match Operator::try_from(boolean.operator) {
        Ok(Operator::And) => BooleanOperator::And,
        Ok(Operator::Or) => BooleanOperator::Or,
        Ok(Operator::Not) => BooleanOperator::Not,
        Ok(Operator::Unspecified) | Err(_) => {
            return Err(wrong(&format!("{path}.operator"), "use AND, OR or NOT"));
        }
    };
    if boolean.search_query.is_empty() {
        let problem = "is empty; give at least one query";
        return Err(wrong(&format!("{path}.search_query"), problem));
    }
    Ok(operator)
}

fn bound(bound: pb::RangeBound) -> ValueBound {
    ValueBound {
        value: bound.event_item_value,
        inclusive: bound.inclusive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: Query) -> pb::SearchQuery {
        pb::SearchQuery { query: Some(query) }
    }

    fn exists(key: &str) -> pb::SearchQuery {
        of(Query::Exists(pb::ExistsQuery {
            event_item_key: key.into(),
        }))
    }

    fn boolean(operator: Operator, search_query: Vec<pb::SearchQuery>) -> pb::SearchQuery {
        let operator = operator.into();
        of(Query::BooleanQuery(pb::BooleanQuery {
            operator,
            search_query,
        }))
    }

    fn path_of(query: pb::SearchQuery) -> String {
        let error = search(Some(query)).unwrap_err();
        assert_eq!(error.reason, Reason::InvalidSearchQuery);
        error.fields[0].0.clone()
    }

    #[test]
    fn every_kind_is_kept() {
        let bound_of = |value: &'static str, inclusive| pb::RangeBound {
            event_item_value: value.into(),
            inclusive,
        };
        let query = boolean(
            Operator::Or,
            vec![
                of(Query::Equals(pb::EqualsQuery {
                    event_item_key: "k".into(),
                    event_item_value: "v".into(),
                })),
                of(Query::Range(pb::RangeQuery {
                    event_item_key: "k".into(),
                    lower_bound: Some(bound_of("1", true)),
                    upper_bound: None,
                })),
                of(Query::Prefix(pb::PrefixQuery {
                    event_item_key: "k".into(),
                    event_item_value: "p".into(),
                })),
                boolean(Operator::Not, vec![exists("k")]),
                of(Query::TimeSeriesIds(pb::TimeSeriesIdsQuery {
                    ids: vec!["a".into()],
                })),
            ],
        );
        let Some(SearchQuery::Boolean { operator, queries }) = search(Some(query)).unwrap() else {
            panic!("not a boolean query");
        };
        assert_eq!((operator, queries.len()), (BooleanOperator::Or, 5));
        let lower = Some(ValueBound {
            value: "1".into(),
            inclusive: true,
        });
        assert!(
            matches!(&queries[1], SearchQuery::Range { lower: found, upper: None, .. } if *found == lower)
        );
        assert!(matches!(
            &queries[3],
            SearchQuery::Boolean {
                operator: BooleanOperator::Not,
                ..
            }
        ));
        assert_eq!(search(None).unwrap(), None);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_path() {
        assert_eq!(path_of(pb::SearchQuery::default()), "search_query");
        assert_eq!(path_of(exists("")), "search_query.exists.event_item_key");
        assert_eq!(
            path_of(boolean(Operator::And, vec![])),
            "search_query.boolean_query.search_query"
        );
        assert_eq!(
            path_of(boolean(Operator::Unspecified, vec![exists("k")])),
            "search_query.boolean_query.operator"
        );
        assert_eq!(
            path_of(boolean(Operator::And, vec![exists("k"), exists("")])),
            "search_query.boolean_query.search_query[1].exists.event_item_key"
        );
        let range = pb::RangeQuery {
            event_item_key: "k".into(),
            ..Default::default()
        };
        assert_eq!(path_of(of(Query::Range(range))), "search_query.range");
        let ids = |ids: Vec<String>| of(Query::TimeSeriesIds(pb::TimeSeriesIdsQuery { ids }));
        assert_eq!(path_of(ids(vec![])), "search_query.time_series_ids.ids");
        assert_eq!(
            path_of(ids(vec![String::new()])),
            "search_query.time_series_ids.ids[0]"
        );
        assert_eq!(
            path_of(ids(vec!["a".into(); QUERY_IDS_MAX + 1])),
            "search_query.time_series_ids.ids"
        );
    }

    #[test]
    fn depth_and_number_of_queries_are_bounded() {
        let mut deep = exists("k");
        for _ in 0..DEPTH_MAX {
            deep = boolean(Operator::Not, vec![deep]);
        }
        assert!(search(Some(deep)).is_err());
        let wide = boolean(Operator::And, vec![exists("k"); QUERIES_MAX]);
        assert!(search(Some(wide)).is_err());
        let fits = boolean(Operator::And, vec![exists("k"); QUERIES_MAX - 1]);
        assert!(search(Some(fits)).is_ok());
    }
}
