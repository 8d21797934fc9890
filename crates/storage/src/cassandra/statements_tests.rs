//! Every statement there is, against a fixed list; and that nothing of a user's is ever in one.

use std::collections::BTreeSet;

use anabranch_model::{NamespaceName, PartitionKey, SliceName, TimeSeriesId};
use anabranch_runtime::Randomness;

use super::events_cql::{EventStatement, create_events, drop_table};
use super::names::{CQL_NAME_BYTES_MAX, CqlTable, KeyspaceName};
use super::record_place::Place;
use super::records_cql::{RecordStatement, RecordTable, WideSliceStatement, create_wide_slice};
use super::replication::Replication;
use super::tables::SchemaStatements;
use crate::events::{TableKind, TableName};
use crate::records::RecordKey;

/// The list, also for who looks at what goes over the wire.
const LIST: &str = include_str!("statements.cql");
const ID: &str = "00000000-0000-4000-8000-000000000000";

/// Every statement on what namespaces share.
fn of_records(keyspace: &KeyspaceName) -> Vec<String> {
    let mut texts = Vec::new();
    for table in RecordTable::ALL {
        texts.push(table.create(keyspace, ID));
        texts.extend(
            RecordStatement::ALL
                .into_iter()
                .filter_map(|one| one.text(keyspace, table)),
        );
    }
    texts.push(create_wide_slice(keyspace, ID));
    texts.extend(WideSliceStatement::ALL.map(|one| one.text(keyspace)));
    let replication = Replication::new("dc".to_owned(), 3, false);
    texts.push(replication.create_shared_keyspace(&keyspace.shared()));
    texts.extend([SchemaStatements::TABLE_ID, SchemaStatements::KEYSPACE].map(str::to_owned));
    texts
}

/// Every statement on a table of events.
fn of_events(table: &CqlTable) -> Vec<String> {
    let mut texts = EventStatement::ALL.map(|one| one.text(table)).to_vec();
    texts.extend([TableKind::Data, TableKind::Wide].map(|kind| create_events(table, kind, ID)));
    texts.push(drop_table(table));
    let replication = Replication::new("dc".to_owned(), 3, false);
    texts.push(replication.create_keyspace(&table.keyspace));
    texts
}

/// A statement with what may differ in it taken out.
fn general(text: &str, table: Option<&CqlTable>, keyspace: &KeyspaceName) -> String {
    let text = match table {
        Some(table) => text
            .replace(&table.to_string(), "<events>.<table>")
            .replace(table.keyspace.as_str(), "<events>"),
        None => text
            .replace(&format!(" {keyspace}."), " <keyspace>.")
            .replace(&format!(" {keyspace} "), " <keyspace> "),
    };
    text.replace(ID, "<id>")
        .replace("'dc': 3", "'<datacenter>': <copies>")
}

fn listed() -> BTreeSet<String> {
    LIST.lines()
        .filter(|line| !line.is_empty() && !line.starts_with("--"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn statements_are_those_of_the_list() {
    let keyspace = KeyspaceName::new("anabranch").unwrap();
    let table = CqlTable::of(&keyspace, &name("history", "20260101_04"));
    let of_records = of_records(&keyspace)
        .into_iter()
        .map(|text| general(&text, None, &keyspace));
    let of_events = of_events(&table)
        .into_iter()
        .map(|text| general(&text, Some(&table), &keyspace));
    let made: BTreeSet<String> = of_records.chain(of_events).collect();
    let listed = listed();
    let shown = made.iter().cloned().collect::<Vec<_>>().join("\n");
    assert!(made == listed, "statements.cql should be:\n{shown}");
}

#[test]
fn nothing_of_a_users_is_in_a_statement() {
    let random = Randomness::from_seed(9042);
    let keyspace = KeyspaceName::new("anabranch").unwrap();
    let listed = listed();
    let shared: BTreeSet<String> = of_records(&keyspace).into_iter().collect();
    for _ in 0..100_000 {
        let table = CqlTable::of(&keyspace, &name(&namespace(&random), &slice(&random)));
        for part in [&table.keyspace, &table.table] {
            let text = part.as_str();
            assert!(text.len() <= CQL_NAME_BYTES_MAX, "{text}");
            assert!(
                text.starts_with(|first: char| first.is_ascii_lowercase()),
                "{text}"
            );
            assert!(
                text.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'),
                "{text}"
            );
        }
        for text in of_events(&table) {
            let general = general(&text, Some(&table), &keyspace);
            assert!(listed.contains(&general), "{text}");
        }
        // What a record is called chooses its table, and is bound.
        let place = Place::of(&record(&random)).unwrap();
        for text in RecordStatement::ALL
            .into_iter()
            .filter_map(|one| one.text(&keyspace, place.table))
        {
            assert!(shared.contains(&text), "{text}");
        }
    }
}

fn name(namespace: &str, slice: &str) -> TableName {
    TableName {
        namespace: NamespaceName::new(namespace).unwrap(),
        kind: TableKind::Data,
        slice: SliceName::new(slice).unwrap(),
    }
}

fn below(random: &Randomness, bound: u64) -> usize {
    usize::try_from(random.next_u64() % bound).unwrap()
}

fn text_of(random: &Randomness, alphabet: &str, length_max: u64) -> String {
    let alphabet: Vec<char> = alphabet.chars().collect();
    let length = 1 + below(random, length_max);
    (0..length)
        .map(|_| alphabet[below(random, alphabet.len() as u64)])
        .collect()
}

fn namespace(random: &Randomness) -> String {
    let first = text_of(random, "aZ09", 1);
    let rest = text_of(random, "abzABZ019_-", 47);
    format!("{first}{rest}")
}

fn slice(random: &Randomness) -> String {
    text_of(random, "abz019_", 16)
}

/// A record of a hostile id.
fn record(random: &Randomness) -> RecordKey {
    let id = text_of(random, "a'\"`;\\\0\n-*/%{}?$()\u{2019}\u{10FFFF}é DROP", 200);
    let namespace = NamespaceName::new(namespace(random)).unwrap();
    let time_series_id = TimeSeriesId::new(id).unwrap();
    let partition = PartitionKey {
        slice: SliceName::new(slice(random)).unwrap(),
        time_series_id: time_series_id.clone(),
        time_bucket: i64::from_ne_bytes(random.next_u64().to_ne_bytes()),
        event_bucket: 7,
    };
    match below(random, 3) {
        0 => RecordKey::BlockedId {
            namespace,
            time_series_id,
        },
        1 => RecordKey::Split { namespace, partition },
        _ => RecordKey::Detection { namespace, partition },
    }
}
