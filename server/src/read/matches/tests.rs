use super::*;
use anabranch_model::{EventId, EventItem, EventKey, EventTime};

fn settings() -> NamespaceSettings {
    NamespaceSettings {
        field_mapping: [
            ("int", FieldType::Integer),
            ("dbl", FieldType::Double),
            ("bool", FieldType::Boolean),
            ("time", FieldType::Timestamp),
        ]
        .map(|(key, field_type)| (key.to_owned(), field_type))
        .into(),
        ..NamespaceSettings::default()
    }
}

fn key(text: &str) -> ItemKey {
    ItemKey::new(text).unwrap()
}

fn text(value: &str) -> Bytes {
    Bytes::copy_from_slice(value.as_bytes())
}

fn equals(item_key: &str, value: &str) -> SearchQuery {
    SearchQuery::Equals {
        item_key: key(item_key),
        value: text(value),
    }
}

fn bound(value: &str, inclusive: bool) -> Option<ValueBound> {
    Some(ValueBound {
        value: text(value),
        inclusive,
    })
}

fn range(item_key: &str, lower: Option<ValueBound>, upper: Option<ValueBound>) -> SearchQuery {
    SearchQuery::Range {
        item_key: key(item_key),
        lower,
        upper,
    }
}

fn matches(query: &SearchQuery, item_key: &str, value: &str) -> bool {
    let event = Event {
        key: EventKey {
            time: EventTime::from_micros(0),
            id: EventId::new("e").unwrap(),
        },
        items: vec![EventItem {
            key: key(item_key),
            value: text(value),
        }],
    };
    let id = TimeSeriesId::new("id").unwrap();
    Matcher::of_query(query, &settings()).unwrap().keeps(&id, &event)
}

fn refused(query: &SearchQuery) -> ServiceError {
    Matcher::of_query(query, &settings()).unwrap_err()
}

#[test]
fn values_equal_by_their_type() {
    for (item_key, query, stored, equal) in [
        ("kw", "01", "1", false),
        ("kw", "1", "1", true),
        ("int", "1", "01", true),
        ("int", "1", "+1", true),
        ("int", "1", "1.0", false),
        ("int", "1", " 1", false),
        ("dbl", "1", "1.0", true),
        ("dbl", "1e2", "100", true),
        ("dbl", "0", "-0.0", true),
        ("dbl", "0", "NaN", false),
        ("dbl", "inf", "inf", true),
        ("bool", "true", "true", true),
        ("bool", "true", "TRUE", false),
        ("bool", "true", "1", false),
        ("time", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00", true),
        (
            "time",
            "2026-01-01T00:00:00.0000001Z",
            "2026-01-01T00:00:00Z",
            true,
        ),
        (
            "time",
            "2026-01-01T00:00:00.000001Z",
            "2026-01-01T00:00:00Z",
            false,
        ),
        (
            "time",
            "1969-12-31T23:59:59.9999999Z",
            "1969-12-31T23:59:59.999999Z",
            true,
        ),
        ("time", "2026-01-01T00:00:00Z", "yesterday", false),
    ] {
        assert_eq!(
            matches(&equals(item_key, query), item_key, stored),
            equal,
            "{item_key}: {query} = {stored}"
        );
    }
}

#[test]
fn ranges_compare_by_type_and_honour_their_ends() {
    for (item_key, lower, upper, stored, inside) in [
        ("kw", bound("10", true), bound("2", false), "11", true),
        ("kw", bound("10", true), bound("2", false), "9", false),
        ("int", bound("2", true), bound("10", false), "9", true),
        ("int", bound("2", true), bound("10", false), "10", false),
        ("int", bound("2", true), bound("10", true), "10", true),
        ("int", bound("2", false), None, "2", false),
        ("int", bound("2", true), None, "many", false),
        ("int", None, bound("-1", true), "-5", true),
        ("dbl", bound("-inf", true), bound("inf", true), "NaN", false),
        ("dbl", bound("0.1", true), bound("0.3", true), "0.2", true),
        ("bool", bound("false", false), None, "true", true),
        (
            "time",
            bound("2026-01-01T00:00:00Z", true),
            bound("2026-01-02T00:00:00Z", false),
            "2026-01-01T23:00:00-02:00",
            false,
        ),
        (
            "time",
            bound("2026-01-01T00:00:00Z", true),
            bound("2026-01-02T00:00:00Z", false),
            "2026-01-01T23:00:00Z",
            true,
        ),
    ] {
        let query = range(item_key, lower, upper);
        assert_eq!(
            matches(&query, item_key, stored),
            inside,
            "{query:?} holds {stored}"
        );
    }
}

#[test]
fn prefixes_are_of_bytes_and_missing_items_match_nothing() {
    let prefix = |value| SearchQuery::Prefix {
        item_key: key("int"),
        value: text(value),
    };
    assert!(matches(&prefix("1"), "int", "12"));
    assert!(!matches(&prefix("1"), "int", "21"));
    assert!(!matches(&prefix("1"), "kw", "12"));
    assert!(!matches(&equals("kw", "1"), "other", "1"));
    assert!(matches(&SearchQuery::Exists { item_key: key("kw") }, "kw", ""));
}

#[test]
fn not_is_none_of_its_queries() {
    let not = SearchQuery::Boolean {
        operator: BooleanOperator::Not,
        queries: vec![equals("kw", "1"), equals("kw", "2")],
    };
    assert!(!matches(&not, "kw", "2"));
    assert!(matches(&not, "kw", "3"));
}

#[test]
fn a_value_of_the_wrong_type_is_refused_by_its_path() {
    let query = SearchQuery::Boolean {
        operator: BooleanOperator::And,
        queries: vec![equals("kw", "x"), range("int", bound("ten", true), None)],
    };
    let error = refused(&query);
    assert_eq!(error.reason, Reason::InvalidSearchQuery);
    let (path, what) = &error.fields[0];
    assert_eq!(
        path,
        "search_query.boolean_query.search_query[1].range.lower_bound.event_item_value"
    );
    assert!(
        what.contains("INTEGER") && what.contains("`ten`") && what.contains("such as 42"),
        "{what}"
    );
    assert_eq!(
        refused(&equals("dbl", "NaN")).fields[0].0,
        "search_query.equals.event_item_value"
    );
}

#[test]
fn queries_are_bounded_in_depth_conditions_and_ids() {
    let nest = |depth: usize| {
        (1..depth).fold(equals("kw", "1"), |query, _| SearchQuery::Boolean {
            operator: BooleanOperator::And,
            queries: vec![query],
        })
    };
    assert!(Matcher::of_query(&nest(QUERY_DEPTH_MAX), &settings()).is_ok());
    assert_eq!(
        refused(&nest(QUERY_DEPTH_MAX + 1)).reason,
        Reason::InvalidSearchQuery
    );
    let wide = |leaves| SearchQuery::Boolean {
        operator: BooleanOperator::Or,
        queries: vec![equals("kw", "1"); leaves],
    };
    assert!(Matcher::of_query(&wide(QUERY_LEAVES_MAX), &settings()).is_ok());
    assert_eq!(
        refused(&wide(QUERY_LEAVES_MAX + 1)).reason,
        Reason::InvalidSearchQuery
    );
    assert_eq!(
        refused(&wide(0)).fields[0].0,
        "search_query.boolean_query.search_query"
    );
    let ids = |count| SearchQuery::TimeSeriesIds(vec![TimeSeriesId::new("id").unwrap(); count]);
    assert!(Matcher::of_query(&ids(QUERY_IDS_MAX), &settings()).is_ok());
    assert_eq!(
        refused(&ids(QUERY_IDS_MAX + 1)).fields[0].0,
        "search_query.time_series_ids.ids"
    );
    assert_eq!(refused(&ids(0)).reason, Reason::InvalidSearchQuery);
    assert_eq!(
        refused(&range("kw", None, None)).fields[0].0,
        "search_query.range"
    );
}
