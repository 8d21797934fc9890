use anabranch_proto::timeseries::v1::search_query::Query;
use anabranch_proto::timeseries::v1::{
    EqualsQuery, ExistsQuery, PrefixQuery, RangeBound, RangeQuery, SearchQuery, TimeSeriesIdsQuery,
    boolean_query::Operator,
};
use proptest::prelude::*;

use super::parse::{boolean, of};
use super::*;

fn printed(text: &str) -> String {
    match parse(text) {
        Ok(query) => print(&query).unwrap(),
        Err(error) => panic!("{error}"),
    }
}

fn problem(text: &str) -> (usize, String) {
    let error = parse(text).unwrap_err();
    (error.column + 1, error.problem)
}

#[test]
fn every_condition_is_understood() {
    assert_eq!(printed("author = x"), r#"author = "x""#);
    assert_eq!(printed("author='x y'"), r#"author = "x y""#);
    assert_eq!(printed("author != x"), r#"NOT author = "x""#);
    assert_eq!(printed("path ^= core/"), r#"path ^= "core/""#);
    assert_eq!(printed("added>10"), r#"added > "10""#);
    assert_eq!(printed("added >= 10 < 20"), r#"added >= "10" < "20""#);
    assert_eq!(printed("exists(path)"), "exists(path)");
    assert_eq!(printed("id = profile:42"), r#"id = "profile:42""#);
    assert_eq!(printed("ID in (a, \"b\")"), r#"id IN ("a", "b")"#);
    assert_eq!(
        printed("kind in (play, stop)"),
        r#"kind = "play" OR kind = "stop""#
    );
    assert_eq!(printed(r#""id" = 7"#), r#""id" = "7""#);
    assert_eq!(printed("v = base64(\"AP8=\")"), "v = base64(\"AP8=\")");
}

#[test]
fn and_binds_closer_than_or_and_not_closest() {
    assert_eq!(
        printed("a=1 or b=2 and not c=3"),
        r#"a = "1" OR (b = "2" AND NOT c = "3")"#
    );
    assert_eq!(
        printed(r#"author = "x" AND (added > 10 OR NOT exists(path)) AND id IN ("a","b")"#),
        r#"author = "x" AND (added > "10" OR NOT exists(path)) AND id IN ("a", "b")"#
    );
}

#[test]
fn json_is_a_query_too() {
    let json = r#"{"timeSeriesIds": {"ids": ["a"]}}"#;
    assert_eq!(printed(json), r#"id = "a""#);
    assert!(
        parse(r#"{"nothing": 1}"#)
            .unwrap_err()
            .to_string()
            .contains("nothing")
    );
}

#[test]
fn errors_point_at_the_column() {
    assert_eq!(problem("author = "), (10, "expected a value".to_owned()));
    assert_eq!(problem("author x").0, 8);
    assert_eq!(problem("author = x extra = y").0, 12);
    assert_eq!(problem("(a = 1").0, 7);
    assert_eq!(problem("a = 1)"), (6, "this `)` closes nothing".to_owned()));
    assert_eq!(problem("a = \"b").0, 5);
    assert_eq!(problem("a = AND b = 1").0, 5);
    assert_eq!(problem("a > 1 > 2").0, 7);
    assert_eq!(problem("ü = ").0, 5);
    assert_eq!(problem("").0, 1);
    let text = parse("author = ").unwrap_err().to_string();
    assert_eq!(
        text,
        "the query does not parse at column 10: expected a value\n  author = \n           ^"
    );
}

#[test]
fn deep_nesting_is_refused_before_the_stack_ends() {
    let text = "(".repeat(100_000);
    assert!(problem(&text).1.contains("too deeply"));
}

fn bytes() -> impl Strategy<Value = bytes::Bytes> {
    prop_oneof![
        ".*".prop_map(bytes::Bytes::from),
        proptest::collection::vec(any::<u8>(), 0..8).prop_map(bytes::Bytes::from),
    ]
}

fn bound() -> impl Strategy<Value = Option<RangeBound>> {
    proptest::option::of(
        (bytes(), any::<bool>()).prop_map(|(event_item_value, inclusive)| RangeBound {
            event_item_value,
            inclusive,
        }),
    )
}

fn queries() -> impl Strategy<Value = SearchQuery> {
    let key = || prop_oneof!["[a-z_.]{1,6}", "id|AND|or|in|exists|base64|not|\\{a?", ".*"];
    let leaf = prop_oneof![
        (key(), bytes()).prop_map(
            |(event_item_key, event_item_value)| of(Query::Equals(EqualsQuery {
                event_item_key,
                event_item_value,
            }))
        ),
        (key(), bytes()).prop_map(
            |(event_item_key, event_item_value)| of(Query::Prefix(PrefixQuery {
                event_item_key,
                event_item_value,
            }))
        ),
        (key(), bound(), bound())
            .prop_filter("a range has a bound", |(_, lower, upper)| lower.is_some()
                || upper.is_some())
            .prop_map(
                |(event_item_key, lower_bound, upper_bound)| of(Query::Range(RangeQuery {
                    event_item_key,
                    lower_bound,
                    upper_bound,
                }))
            ),
        key().prop_map(|event_item_key| of(Query::Exists(ExistsQuery { event_item_key }))),
        proptest::collection::vec(".*", 1..4)
            .prop_map(|ids| of(Query::TimeSeriesIds(TimeSeriesIdsQuery { ids }))),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 2..4).prop_map(|parts| boolean(Operator::And, parts)),
            proptest::collection::vec(inner.clone(), 2..4).prop_map(|parts| boolean(Operator::Or, parts)),
            inner.prop_map(|part| boolean(Operator::Not, vec![part])),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(query in queries()) {
        let text = print(&query).unwrap();
        match parse(&text) {
            Ok(read) => prop_assert_eq!(read, query, "{}", text),
            Err(error) => prop_assert!(false, "{}", error),
        }
    }

    #[test]
    fn no_text_panics(text in ".*") {
        let _ = parse(&text);
    }
}
