//! Random operations against the real server, compared with a model of a few lines.
//!
//! Writes, repeats, reads, searches, aggregates, seals, blocks and restarts, over few ids, few times and few values, so
//! that everything collides. `ANABRANCH_ORACLE_SEEDS` says how many runs (6), `ANABRANCH_ORACLE_OPERATIONS` how long each
//! is (250), `ANABRANCH_SEED` where they begin.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, reports on stdout, and runs a real process in real time"
)]

mod harness;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use anabranch_proto::admin::v1 as admin;
use anabranch_proto::timeseries::v1 as wire;
use bytes::Bytes;
use harness::made::Dice;
use harness::{Admin, Events, Server};
use wire::aggregation_query::Aggregation;
use wire::boolean_query::Operator;
use wire::search_query::Query;

const NAMESPACE: &str = "oracle";
const START: i64 = 1_767_571_200_000_000;
const IDS: [&str; 6] = ["a", "aa", "b", "ä/😀", "z z", "\u{1}"];

/// What an item key holds, and some values: several texts of one value, and some that do not fit their type.
const KEYS: [(&str, Kind, &[&str]); 6] = [
    (
        "number",
        Kind::Integer,
        &[
            "0",
            "7",
            "-7",
            "10",
            "9",
            "9223372036854775807",
            "-9223372036854775808",
            "x",
            "",
        ],
    ),
    (
        "real",
        Kind::Double,
        &["0.5", "1.5", "1.50", "-2", "10", "9", "1e3", "1000", "word"],
    ),
    ("flag", Kind::Boolean, &["true", "false", "TRUE", "1"]),
    (
        "at",
        Kind::Timestamp,
        &[
            "2026-01-05T00:00:00Z",
            "2026-01-05T00:00:00.5Z",
            "2025-12-31T23:59:59Z",
            "yesterday",
        ],
    ),
    (
        "word",
        Kind::Keyword,
        &["", "a", "ab", "abc", "b", "10", "9", "é"],
    ),
    ("raw", Kind::Keyword, &["\u{0}", "\u{0}\u{0}", "x"]),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Keyword,
    Integer,
    Double,
    Boolean,
    Timestamp,
}

/// A value as its type reads it.
#[derive(Clone, Debug, PartialEq)]
enum Typed {
    Keyword(Vec<u8>),
    Integer(i64),
    Double(f64),
    Boolean(bool),
    Timestamp(i64),
}

fn kind_of(key: &str) -> Kind {
    KEYS.iter()
        .find(|(name, ..)| *name == key)
        .map_or(Kind::Keyword, |(_, kind, _)| *kind)
}

fn typed(kind: Kind, bytes: &[u8]) -> Option<Typed> {
    let text = std::str::from_utf8(bytes).ok();
    match kind {
        Kind::Keyword => Some(Typed::Keyword(bytes.to_vec())),
        Kind::Integer => text?.parse().ok().map(Typed::Integer),
        Kind::Double => text?.parse().ok().map(Typed::Double),
        Kind::Boolean => match text? {
            "true" => Some(Typed::Boolean(true)),
            "false" => Some(Typed::Boolean(false)),
            _ => None,
        },
        Kind::Timestamp => text?
            .parse::<jiff::Timestamp>()
            .ok()
            .map(|time| Typed::Timestamp(time.as_microsecond())),
    }
}

impl Typed {
    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Keyword(a), Self::Keyword(b)) => a.cmp(b),
            (Self::Integer(a), Self::Integer(b)) | (Self::Timestamp(a), Self::Timestamp(b)) => a.cmp(b),
            (Self::Double(a), Self::Double(b)) => a.partial_cmp(b).unwrap(),
            (Self::Boolean(a), Self::Boolean(b)) => a.cmp(b),
            _ => panic!("two types of one key"),
        }
    }
}

type Items = BTreeMap<String, Vec<u8>>;

/// One event of the model.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    time: i64,
    event_id: String,
    id: String,
    items: Items,
}

impl Event {
    fn to_wire(&self) -> wire::EventRecord {
        wire::EventRecord {
            time_series_id: self.id.clone(),
            event_time: Some(harness::timestamp(self.time)),
            event_id: self.event_id.clone(),
            event_items: self
                .items
                .iter()
                .map(|(key, value)| wire::EventItem {
                    event_item_key: key.clone(),
                    event_item_value: Bytes::from(value.clone()),
                })
                .collect(),
        }
    }

    fn of_wire(record: &wire::EventRecord) -> Self {
        let keys: Vec<_> = record
            .event_items
            .iter()
            .map(|item| &item.event_item_key)
            .collect();
        assert!(
            keys.is_sorted() && keys.windows(2).all(|two| two[0] != two[1]),
            "items out of order: {record:?}"
        );
        let items = record
            .event_items
            .iter()
            .map(|i| (i.event_item_key.clone(), i.event_item_value.to_vec()));
        Self {
            time: harness::micros(record.event_time.as_ref().unwrap()),
            event_id: record.event_id.clone(),
            id: record.time_series_id.clone(),
            items: items.collect(),
        }
    }
}

/// What the server should hold.
#[derive(Debug, Default)]
struct Model {
    events: BTreeMap<(String, i64, String), Items>,
    sealed_before: Option<i64>,
    blocked: BTreeSet<String>,
}

impl Model {
    fn write(&mut self, event: &Event) {
        let key = (event.id.clone(), event.time, event.event_id.clone());
        self.events.entry(key).or_default().extend(event.items.clone());
    }

    /// Every event of an interval, oldest first.
    fn of(&self, (start, end): Interval) -> Vec<Event> {
        let mut events: Vec<Event> = self
            .events
            .iter()
            .filter(|((_, time, _), _)| {
                start.is_none_or(|start| *time >= start) && end.is_none_or(|end| *time < end)
            })
            .map(|((id, time, event_id), items)| Event {
                id: id.clone(),
                time: *time,
                event_id: event_id.clone(),
                items: items.clone(),
            })
            .collect();
        events.sort();
        events
    }
}

type Interval = (Option<i64>, Option<i64>);

fn holds(query: &wire::SearchQuery, event: &Event) -> bool {
    let stored = |key: &str| event.items.get(key).and_then(|value| typed(kind_of(key), value));
    match query.query.as_ref().unwrap() {
        Query::BooleanQuery(several) => {
            let mut parts = several.search_query.iter().map(|query| holds(query, event));
            match several.operator() {
                Operator::And => parts.all(|holds| holds),
                Operator::Or => parts.any(|holds| holds),
                Operator::Not => !parts.next().unwrap(),
                Operator::Unspecified => panic!("not made"),
            }
        }
        Query::Equals(equals) => {
            let wanted = typed(kind_of(&equals.event_item_key), &equals.event_item_value).unwrap();
            stored(&equals.event_item_key).is_some_and(|value| value.compare(&wanted) == Ordering::Equal)
        }
        Query::Range(range) => stored(&range.event_item_key).is_some_and(|value| {
            let bound = |bound: &wire::RangeBound, outside: Ordering| {
                let order =
                    value.compare(&typed(kind_of(&range.event_item_key), &bound.event_item_value).unwrap());
                order != outside && (bound.inclusive || order != Ordering::Equal)
            };
            range
                .lower_bound
                .as_ref()
                .is_none_or(|lower| bound(lower, Ordering::Less))
                && range
                    .upper_bound
                    .as_ref()
                    .is_none_or(|upper| bound(upper, Ordering::Greater))
        }),
        Query::Prefix(prefix) => event
            .items
            .get(&prefix.event_item_key)
            .is_some_and(|value| value.starts_with(&prefix.event_item_value)),
        Query::Exists(exists) => event.items.contains_key(&exists.event_item_key),
        Query::TimeSeriesIds(ids) => ids.ids.contains(&event.id),
    }
}

/// A run: a server, its model, and the dice that decide.
struct Run {
    server: Option<Server>,
    events: Events,
    admin: Admin,
    model: Model,
    dice: Dice,
    written: Vec<Vec<Event>>,
    span_micros: u64,
}

impl Run {
    fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.dice.below(end as u64)).unwrap()
    }

    fn time(&mut self) -> i64 {
        // Few instants, some a microsecond from a boundary of buckets.
        let steps = self.dice.below(24);
        let offset = [0, 0, 0, 1, -1][self.index(5)];
        START + i64::try_from(self.span_micros / 24 * steps).unwrap() + offset
    }

    fn interval(&mut self) -> Interval {
        let (a, b) = (self.time(), self.time());
        match self.dice.below(5) {
            0 | 1 => (None, None),
            2 => (Some(a), None),
            3 => (None, Some(a)),
            _ => (Some(a.min(b)), Some(a.max(b))),
        }
    }

    fn value(&mut self, key: usize, fitting: bool) -> Vec<u8> {
        let (_, kind, values) = KEYS[key];
        loop {
            let value = values[self.index(values.len())].as_bytes();
            if !fitting || typed(kind, value).is_some() {
                return value.to_vec();
            }
        }
    }

    fn event(&mut self) -> Event {
        let mut items = Items::new();
        for _ in 0..=self.dice.below(4) {
            let key = self.index(KEYS.len());
            let value = self.value(key, false);
            items.insert(KEYS[key].0.to_owned(), value);
        }
        Event {
            id: IDS[self.index(IDS.len())].to_owned(),
            time: self.time(),
            event_id: format!("e{}", self.dice.below(4)),
            items,
        }
    }

    async fn step(&mut self, place: &std::path::Path) -> &'static str {
        match self.dice.below(100) {
            0..25 => self.write_new().await,
            25..30 => self.write_again().await,
            30..58 => self.read().await,
            58..75 => self.search().await,
            75..90 => self.aggregate().await,
            90..92 => self.seal().await,
            92..94 => self.unseal().await,
            94..96 => self.block().await,
            96..98 => self.unblock().await,
            _ => self.restart(place).await,
        }
    }

    async fn write_new(&mut self) -> &'static str {
        let mut keys = BTreeSet::new();
        let mut batch = Vec::new();
        for _ in 0..1 + self.dice.below(12) {
            let event = self.event();
            if keys.insert((event.id.clone(), event.time, event.event_id.clone())) {
                batch.push(event);
            }
        }
        // A request is all before the seal or all after it.
        let sealed = |event: &Event, before: Option<i64>| before.is_some_and(|before| event.time < before);
        let refused = sealed(&batch[0], self.model.sealed_before);
        batch.retain(|event| sealed(event, self.model.sealed_before) == refused);
        let blocked = |event: &Event| self.model.blocked.contains(&event.id);
        if refused {
            // The first event that is refused gives the reason.
            let reason = if blocked(&batch[0]) {
                "ID_BLOCKED"
            } else {
                "TIME_SLICE_SEALED"
            };
            let status = self.send(&batch).await.unwrap_err();
            assert_eq!(harness::reason(&status).as_deref(), Some(reason), "{status:?}");
            return "refused writes";
        }
        if batch.iter().any(blocked) {
            // All or nothing: one blocked id, and nothing of the request is written.
            let status = self.send(&batch).await.unwrap_err();
            assert_eq!(
                harness::reason(&status).as_deref(),
                Some("ID_BLOCKED"),
                "{status:?}"
            );
            batch.retain(|event| !self.model.blocked.contains(&event.id));
            if batch.is_empty() {
                return "refused writes";
            }
        }
        self.send(&batch).await.unwrap();
        for event in &batch {
            self.model.write(event);
        }
        self.written.push(batch);
        "writes"
    }

    /// What was written and not changed since is written again: nothing changes.
    async fn write_again(&mut self) -> &'static str {
        if self.written.is_empty() {
            return "writes";
        }
        let at = self.index(self.written.len());
        let mut batch = self.written[at].clone();
        batch.retain(|event| {
            let there = &self.model.events[&(event.id.clone(), event.time, event.event_id.clone())];
            event
                .items
                .iter()
                .all(|(key, value)| there.get(key) == Some(value))
                && self.model.sealed_before.is_none_or(|before| event.time >= before)
                && !self.model.blocked.contains(&event.id)
        });
        if !batch.is_empty() {
            self.send(&batch).await.unwrap();
        }
        "repeated writes"
    }

    async fn send(&mut self, batch: &[Event]) -> Result<(), tonic::Status> {
        let events: Vec<_> = batch.iter().map(Event::to_wire).collect();
        let namespace = NAMESPACE.to_owned();
        if self.dice.below(3) > 0 {
            let request = wire::WriteEventRecordsSyncRequest { namespace, events };
            let answer = self.events.write_event_records_sync(request).await?.into_inner();
            assert_eq!(usize::try_from(answer.written), Ok(batch.len()));
            return Ok(());
        }
        let request = wire::IngestEventRecordsRequest {
            namespace,
            batch_id: "one".into(),
            events,
        };
        let mut answers = self
            .events
            .ingest_event_records(tokio_stream::iter([request]))
            .await?
            .into_inner();
        let answer = answers.message().await?.unwrap();
        assert_eq!(answer.batch_id, "one");
        assert!(answers.message().await?.is_none());
        match answer.status {
            None => Ok(()),
            Some(status) => {
                let code = tonic::Code::from_i32(status.code);
                let details = prost::Message::encode_to_vec(&status).into();
                Err(tonic::Status::with_details(code, status.message, details))
            }
        }
    }

    fn page_size(&mut self) -> i32 {
        [1, 2, 7, 100, 0][self.index(5)]
    }

    async fn read(&mut self) -> &'static str {
        let id = IDS[self.index(IDS.len())].to_owned();
        let interval = self.interval();
        let ascending = self.dice.below(2) == 0;
        let limit = if self.dice.below(5) == 0 {
            1 + self.dice.below(20)
        } else {
            0
        };
        let mut filters = Vec::new();
        for _ in 0..self.dice.below(3).saturating_sub(self.dice.below(2)) {
            let key = self.index(KEYS.len());
            let value = (self.dice.below(2) == 0).then(|| Bytes::from(self.value(key, false)));
            filters.push(wire::EventFilter {
                match_event_item_key: KEYS[key].0.to_owned(),
                match_event_item_value: value,
            });
        }
        let request = wire::ReadEventRecordsRequest {
            namespace: NAMESPACE.into(),
            time_series_id: id.clone(),
            time_interval: wire_interval(interval),
            event_filters: filters.clone(),
            direction: direction(ascending),
            page_size: self.page_size(),
            total_record_limit: i64::try_from(limit).unwrap(),
            latency_slo: Some(harness::duration(30)),
            ..wire::ReadEventRecordsRequest::default()
        };
        if self.model.blocked.contains(&id) {
            let status = self.events.read_event_records(request).await.unwrap_err();
            assert_eq!(
                harness::reason(&status).as_deref(),
                Some("ID_BLOCKED"),
                "{status:?}"
            );
            return "refused reads";
        }
        let mut expected = self.model.of(interval);
        expected.retain(|event| {
            event.id == id
                && filters.iter().all(|filter| {
                    let value = event.items.get(&filter.match_event_item_key);
                    value.is_some_and(|v| {
                        filter
                            .match_event_item_value
                            .as_ref()
                            .is_none_or(|wanted| v == wanted)
                    })
                })
        });
        if !ascending {
            expected.reverse();
        }
        if limit > 0 {
            expected.truncate(usize::try_from(limit).unwrap());
        }
        let records = harness::walk(&mut self.events, request.clone()).await.unwrap();
        let found: Vec<_> = records.iter().map(Event::of_wire).collect();
        assert_eq!(found, expected, "{request:?}");
        "reads"
    }

    fn query(&mut self, depth: u64) -> wire::SearchQuery {
        let key = self.index(KEYS.len());
        let event_item_key = KEYS[key].0.to_owned();
        let value = |run: &mut Self| Bytes::from(run.value(key, true));
        let query = match self.dice.below(if depth == 0 { 8 } else { 14 }) {
            0 | 1 => Query::Equals(wire::EqualsQuery {
                event_item_key,
                event_item_value: value(self),
            }),
            2 | 3 => {
                let mut bound = || wire::RangeBound {
                    event_item_value: value(self),
                    inclusive: self.dice.below(2) == 0,
                };
                let (lower, upper) = (bound(), bound());
                let kept = self.dice.below(3);
                Query::Range(wire::RangeQuery {
                    event_item_key,
                    lower_bound: (kept != 1).then_some(lower),
                    upper_bound: (kept != 2).then_some(upper),
                })
            }
            4 | 5 if KEYS[key].1 == Kind::Keyword => Query::Prefix(wire::PrefixQuery {
                event_item_key,
                event_item_value: value(self),
            }),
            4..7 => Query::Exists(wire::ExistsQuery { event_item_key }),
            7 => {
                let ids = (0..1 + self.dice.below(3)).map(|_| IDS[self.index(IDS.len())].to_owned());
                Query::TimeSeriesIds(wire::TimeSeriesIdsQuery { ids: ids.collect() })
            }
            number => {
                let operator =
                    [Operator::And, Operator::Or, Operator::Not][usize::try_from((number - 8) % 3).unwrap()];
                let count = if operator == Operator::Not {
                    1
                } else {
                    1 + self.dice.below(3)
                };
                let search_query = (0..count).map(|_| self.query(depth - 1)).collect();
                Query::BooleanQuery(wire::BooleanQuery {
                    operator: operator.into(),
                    search_query,
                })
            }
        };
        wire::SearchQuery { query: Some(query) }
    }

    async fn search(&mut self) -> &'static str {
        if !self.model.blocked.is_empty() {
            return self.unblock().await;
        }
        let interval = self.interval();
        let ascending = self.dice.below(2) == 0;
        let limit = if self.dice.below(5) == 0 {
            1 + self.dice.below(20)
        } else {
            0
        };
        let query = (self.dice.below(8) > 0).then(|| self.query(3));
        let mut request = wire::SearchEventRecordsRequest {
            namespace: NAMESPACE.into(),
            time_interval: wire_interval(interval),
            search_query: query.clone(),
            direction: direction(ascending),
            page_size: self.page_size(),
            total_record_limit: i64::try_from(limit).unwrap(),
            latency_slo: Some(harness::duration(30)),
            ..wire::SearchEventRecordsRequest::default()
        };
        let mut found = Vec::new();
        let mut ordered = false;
        loop {
            let page = self
                .events
                .search_event_records(request.clone())
                .await
                .unwrap()
                .into_inner();
            ordered |= page.response_context[0].order() == wire::response_context::Order::Event;
            found.extend(page.records.iter().map(Event::of_wire));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        let mut expected = self.model.of(interval);
        expected.retain(|event| query.as_ref().is_none_or(|query| holds(query, event)));
        if ordered {
            let key = |event: &Event| (event.time, event.event_id.clone());
            let mut keys: Vec<_> = found.iter().map(key).collect();
            if !ascending {
                keys.reverse();
            }
            assert!(keys.is_sorted(), "out of event order: {request:?}");
            if limit > 0 {
                let mut first: Vec<_> = expected.iter().map(key).collect();
                if !ascending {
                    first.reverse();
                }
                first.truncate(usize::try_from(limit).unwrap());
                if !ascending {
                    first.reverse();
                }
                assert_eq!(keys, first, "not the first of all: {request:?}");
            }
        }
        found.sort();
        assert!(
            found.windows(2).all(|two| two[0] != two[1]),
            "an event twice: {request:?}"
        );
        if limit == 0 {
            assert_eq!(found, expected, "{request:?}");
        } else {
            assert_eq!(
                found.len(),
                expected.len().min(usize::try_from(limit).unwrap()),
                "{request:?}"
            );
            assert!(
                found.iter().all(|event| expected.binary_search(event).is_ok()),
                "{request:?}"
            );
        }
        if ordered { "ordered searches" } else { "scans" }
    }

    async fn aggregate(&mut self) -> &'static str {
        if !self.model.blocked.is_empty() {
            return self.unblock().await;
        }
        let interval = self.interval();
        let query = (self.dice.below(3) > 0).then(|| self.query(2));
        let key = self.index(KEYS.len());
        let (name, kind, _) = KEYS[key];
        let event_item_key = name.to_owned();
        let number = matches!(kind, Kind::Integer | Kind::Double);
        let aggregation = match self.dice.below(if number { 6 } else { 4 }) {
            0 if self.dice.below(2) == 0 => Aggregation::Count(wire::CountAggregation::default()),
            0 => Aggregation::Count(wire::CountAggregation { event_item_key }),
            // Only where values and their bytes are the same thing.
            1 if kind == Kind::Keyword => Aggregation::Distinct(wire::DistinctAggregation { event_item_key }),
            1 | 2 => Aggregation::Min(wire::MinAggregation { event_item_key }),
            3 => Aggregation::Max(wire::MaxAggregation { event_item_key }),
            4 => Aggregation::Sum(wire::SumAggregation { event_item_key }),
            _ => Aggregation::Avg(wire::AvgAggregation { event_item_key }),
        };
        let by_key = self.index(KEYS.len());
        let width = [60, 1_800, 86_400][self.index(3)];
        let group_by = match self.dice.below(3) {
            0 => None,
            1 => Some(wire::group_by::GroupBy::TimeWidth(harness::duration(width))),
            _ => Some(wire::group_by::GroupBy::EventItemKey(KEYS[by_key].0.to_owned())),
        };
        let mut request = wire::AggregateEventRecordsRequest {
            namespace: NAMESPACE.into(),
            time_interval: wire_interval(interval),
            search_query: query.clone(),
            aggregation_query: Some(wire::AggregationQuery {
                aggregation: Some(aggregation.clone()),
                group_by: group_by.clone().map(|group_by| wire::GroupBy {
                    group_by: Some(group_by),
                }),
            }),
            page_size: self.page_size(),
            latency_slo: Some(harness::duration(30)),
            ..wire::AggregateEventRecordsRequest::default()
        };
        let mut rows = Vec::new();
        loop {
            let page = self
                .events
                .aggregate_event_records(request.clone())
                .await
                .unwrap()
                .into_inner();
            assert!(!page.partial, "{request:?}");
            rows.extend(page.rows);
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        // Rows that no value entered say nothing.
        rows.retain(|row| row.count > 0);
        let found: Vec<_> = rows.iter().map(|row| found_row(row, &aggregation)).collect();
        let mut expected: BTreeMap<RowKey, Vec<Option<Typed>>> = BTreeMap::new();
        for event in self.model.of(interval) {
            if query.as_ref().is_some_and(|query| !holds(query, &event)) {
                continue;
            }
            let group = match &group_by {
                None => None,
                Some(wire::group_by::GroupBy::TimeWidth(width)) => {
                    let width = width.seconds * 1_000_000;
                    Some(GroupKey::Time(event.time.div_euclid(width) * width))
                }
                Some(wire::group_by::GroupBy::EventItemKey(key)) => match event.items.get(key) {
                    None => continue,
                    Some(value) => Some(GroupKey::Item(value.clone())),
                },
            };
            let value = event.items.get(name);
            let (of, entered) = match &aggregation {
                Aggregation::Count(count) if count.event_item_key.is_empty() => (None, None),
                Aggregation::Count(_) if value.is_some() => (None, None),
                Aggregation::Distinct(_) if value.is_some() => (value.cloned(), None),
                Aggregation::Count(_) | Aggregation::Distinct(_) => continue,
                _ => match value.and_then(|value| typed(kind, value)) {
                    None => continue,
                    Some(value) => (None, Some(value)),
                },
            };
            expected.entry((group, of)).or_default().push(entered);
        }
        let expected: Vec<_> = expected
            .into_iter()
            .map(|((group, of), values)| expected_row(group, of, &values, &aggregation))
            .collect();
        assert_eq!(
            found.len(),
            expected.len(),
            "{found:?} is not {expected:?}: {request:?}"
        );
        for (found, expected) in found.iter().zip(&expected) {
            assert!(found.same(expected), "{found:?} is not {expected:?}: {request:?}");
        }
        "aggregates"
    }

    async fn seal(&mut self) -> &'static str {
        let before = self.time();
        let request = admin::SealTimeSlicesRequest {
            namespace: NAMESPACE.into(),
            before: Some(harness::timestamp(before)),
        };
        self.admin.seal_time_slices(request).await.unwrap();
        self.model.sealed_before = self.model.sealed_before.max(Some(before));
        "seals"
    }

    async fn unseal(&mut self) -> &'static str {
        let after = (self.dice.below(2) == 0).then(|| self.time());
        let request = admin::UnsealTimeSlicesRequest {
            namespace: NAMESPACE.into(),
            after: after.map(harness::timestamp),
        };
        self.admin.unseal_time_slices(request).await.unwrap();
        self.model.sealed_before = match (self.model.sealed_before, after) {
            (Some(before), Some(after)) => Some(before.min(after)),
            _ => None,
        };
        "unseals"
    }

    async fn block(&mut self) -> &'static str {
        let id = IDS[self.index(IDS.len())].to_owned();
        let request = admin::BlockTimeSeriesIdsRequest {
            namespace: NAMESPACE.into(),
            time_series_ids: vec![id.clone()],
            reason: "chance".into(),
        };
        self.admin.block_time_series_ids(request).await.unwrap();
        self.model.blocked.insert(id);
        let request = admin::ListBlockedTimeSeriesIdsRequest {
            namespace: NAMESPACE.into(),
            ..Default::default()
        };
        let listed = self
            .admin
            .list_blocked_time_series_ids(request)
            .await
            .unwrap()
            .into_inner();
        let listed: BTreeSet<_> = listed
            .blocked_time_series_ids
            .into_iter()
            .map(|one| one.time_series_id)
            .collect();
        assert_eq!(listed, self.model.blocked);
        "blocks"
    }

    async fn unblock(&mut self) -> &'static str {
        let ids: Vec<_> = self
            .model
            .blocked
            .iter()
            .cloned()
            .chain(["never blocked".to_owned()])
            .collect();
        let count = ids.len() - 1;
        let request = admin::UnblockTimeSeriesIdsRequest {
            namespace: NAMESPACE.into(),
            time_series_ids: ids,
        };
        let answer = self
            .admin
            .unblock_time_series_ids(request)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(usize::try_from(answer.unblocked), Ok(count));
        self.model.blocked.clear();
        "unblocks"
    }

    async fn restart(&mut self, place: &std::path::Path) -> &'static str {
        let server = self.server.take().unwrap();
        server.assert_no_panic();
        if self.dice.below(2) == 0 {
            server.kill();
        } else {
            assert!(server.stop().success());
        }
        let server = Server::start(place);
        self.events = server.events().await;
        self.admin = server.admin().await;
        self.server = Some(server);
        "restarts"
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum GroupKey {
    Time(i64),
    Item(Vec<u8>),
}

/// The group of a row, and for `distinct` its value.
type RowKey = (Option<GroupKey>, Option<Vec<u8>>);

/// A row of an aggregate, of the server or of the model.
#[derive(Debug)]
struct Row {
    group: Option<GroupKey>,
    of: Option<Vec<u8>>,
    count: i64,
    sum: f64,
    value: Option<Typed>,
}

impl Row {
    fn same(&self, other: &Self) -> bool {
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0);
        let value = match (&self.value, &other.value) {
            (Some(Typed::Double(a)), Some(Typed::Double(b))) => near(*a, *b),
            (a, b) => a == b,
        };
        (&self.group, &self.of, self.count) == (&other.group, &other.of, other.count)
            && near(self.sum, other.sum)
            && value
    }
}

fn found_row(row: &wire::AggregateRow, aggregation: &Aggregation) -> Row {
    use wire::aggregate_group::Group;
    use wire::aggregate_row::Value;
    let group = row
        .group
        .as_ref()
        .map(|group| match group.group.as_ref().unwrap() {
            Group::Time(time) => GroupKey::Time(harness::micros(time)),
            Group::EventItemValue(value) => GroupKey::Item(value.to_vec()),
        });
    let distinct = matches!(aggregation, Aggregation::Distinct(_));
    let value = row.value.as_ref().map(|value| match value {
        Value::IntegerValue(value) => Typed::Integer(*value),
        Value::DoubleValue(value) => Typed::Double(*value),
        Value::KeywordValue(value) => Typed::Keyword(value.to_vec()),
        Value::TimestampValue(value) => Typed::Timestamp(harness::micros(value)),
        Value::BooleanValue(value) => Typed::Boolean(*value),
    });
    Row {
        group,
        of: distinct.then(|| row.event_item_value.to_vec()),
        count: row.count,
        sum: row.sum,
        value: value.filter(|_| !distinct),
    }
}

#[expect(clippy::cast_precision_loss, reason = "compared with a tolerance")]
fn expected_row(
    group: Option<GroupKey>,
    of: Option<Vec<u8>>,
    values: &[Option<Typed>],
    aggregation: &Aggregation,
) -> Row {
    let count = i64::try_from(values.len()).unwrap();
    let entered = || values.iter().flatten().cloned();
    // Whole numbers add up exactly, however far apart they lie; floating ones only nearly.
    let whole: i128 = entered()
        .filter_map(|value| {
            if let Typed::Integer(value) = value {
                Some(i128::from(value))
            } else {
                None
            }
        })
        .sum();
    let floating: f64 = entered()
        .filter_map(|value| {
            if let Typed::Double(value) = value {
                Some(value)
            } else {
                None
            }
        })
        .sum();
    let integers = entered().all(|value| matches!(value, Typed::Integer(_)));
    let total = whole as f64 + floating;
    let (sum, value) = match aggregation {
        Aggregation::Count(_) => (0.0, Some(Typed::Integer(count))),
        Aggregation::Distinct(_) => (0.0, None),
        Aggregation::Min(_) => (0.0, entered().min_by(Typed::compare)),
        Aggregation::Max(_) => (0.0, entered().max_by(Typed::compare)),
        Aggregation::Avg(_) => (total, Some(Typed::Double(total / count as f64))),
        Aggregation::Sum(_) => {
            let value = match i64::try_from(whole) {
                Ok(whole) if integers => Typed::Integer(whole),
                _ => Typed::Double(total),
            };
            (total, Some(value))
        }
    };
    Row {
        group,
        of,
        count,
        sum,
        value,
    }
}

fn wire_interval((start, end): Interval) -> Option<wire::TimeInterval> {
    let (start, end) = (start.map(harness::timestamp), end.map(harness::timestamp));
    (start.is_some() || end.is_some()).then_some(wire::TimeInterval { start, end })
}

fn direction(ascending: bool) -> i32 {
    if ascending {
        wire::Direction::Ascending.into()
    } else {
        wire::Direction::Unspecified.into()
    }
}

#[test]
fn the_server_does_what_a_plain_model_does() {
    let seeds = harness::number("ANABRANCH_ORACLE_SEEDS", 6);
    let operations = harness::number("ANABRANCH_ORACLE_OPERATIONS", 250);
    let first = harness::number("ANABRANCH_SEED", 1);
    let runtime = harness::runtime();
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in first..first + seeds {
        println!("seed {seed}");
        let place = harness::folder("oracle");
        let data = place.path().join("data");
        runtime.block_on(async {
            let server = Server::start(&data);
            let mut dice = Dice::new(seed);
            let (slice, bucket, buckets) = *dice.pick(&[
                (3_600, 600, 1),
                (3_600, 3_600, 3),
                (86_400, 3_600, 2),
                (0, 86_400, 1),
                (7_200, 7_200, 4),
            ]);
            let mut admin = server.admin().await;
            let types = [
                ("number", admin::namespace::FieldType::Integer),
                ("real", admin::namespace::FieldType::Double),
                ("flag", admin::namespace::FieldType::Boolean),
                ("at", admin::namespace::FieldType::Timestamp),
                ("word", admin::namespace::FieldType::Keyword),
            ];
            let namespace = admin::Namespace {
                seconds_per_time_slice: Some(slice),
                seconds_per_time_bucket: Some(bucket),
                event_buckets: Some(buckets),
                field_mapping: types.map(|(key, kind)| (key.to_owned(), kind.into())).into(),
                ..harness::namespace(NAMESPACE)
            };
            harness::create(&mut admin, namespace).await;
            let span_micros = [6, 48][usize::try_from(dice.below(2)).unwrap()] * 3_600 * 1_000_000;
            let mut run = Run {
                events: server.events().await,
                admin,
                server: Some(server),
                model: Model::default(),
                dice,
                written: Vec::new(),
                span_micros,
            };
            for _ in 0..operations {
                *counts.entry(run.step(&data).await).or_default() += 1;
            }
            run.server.unwrap().assert_no_panic();
        });
    }
    println!("{seeds} runs of {operations} operations: {counts:?}");
}
