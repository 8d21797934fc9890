//! Records: changed only from the expected version, listed by prefix.

use anabranch_model::{NamespaceName, PartitionKey, SliceName};
use bytes::Bytes;

use super::{Subject, name, partition};
use crate::keys::SPLIT_SHARDS;
use crate::records::{CasOutcome, RecordKey, RecordPrefix, VersionedRecord};

fn namespace_record(n: &str) -> RecordKey {
    RecordKey::Namespace {
        namespace: name(NamespaceName::new(n)),
    }
}

/// The record, which a lookup after its last change was acked has to find too.
async fn get(subject: &Subject, key: &RecordKey) -> Option<VersionedRecord> {
    let found = subject.records.get(key).await;
    let found = found.unwrap_or_else(|error| panic!("get: {error}"));
    let looked_up = subject.records.look_up(key).await;
    assert_eq!(
        looked_up.unwrap_or_else(|error| panic!("look up: {error}")),
        found
    );
    found
}

async fn set(subject: &Subject, key: &RecordKey, expected: u64, value: Option<&str>) -> CasOutcome {
    let value = value.map(|text| Bytes::copy_from_slice(text.as_bytes()));
    let outcome = subject.records.compare_and_set(key, expected, value).await;
    outcome.unwrap_or_else(|error| panic!("compare and set: {error}"))
}

pub(super) async fn records_change_only_from_the_expected_version(subject: Subject) {
    let key = namespace_record("a");
    assert_eq!(get(&subject, &key).await, None);
    let stands = |version, text: Option<&str>| {
        Some(VersionedRecord {
            version,
            value: text.map(|text| Bytes::copy_from_slice(text.as_bytes())),
        })
    };
    assert_eq!(
        set(&subject, &key, 3, Some("x")).await,
        CasOutcome::Conflict { current: None }
    );
    assert_eq!(
        set(&subject, &key, 0, Some("x")).await,
        CasOutcome::Applied { version: 1 }
    );
    assert_eq!(
        set(&subject, &key, 0, Some("y")).await,
        CasOutcome::Conflict {
            current: stands(1, Some("x"))
        }
    );
    assert_eq!(get(&subject, &key).await, stands(1, Some("x")));
    assert_eq!(
        set(&subject, &key, 1, Some("")).await,
        CasOutcome::Applied { version: 2 }
    );
    assert_eq!(get(&subject, &key).await, stands(2, Some("")));
    assert_eq!(
        set(&subject, &key, 2, None).await,
        CasOutcome::Applied { version: 3 }
    );
    assert_eq!(get(&subject, &key).await, stands(3, None));
    assert_eq!(
        set(&subject, &key, 0, Some("z")).await,
        CasOutcome::Conflict {
            current: stands(3, None)
        }
    );
    assert_eq!(
        set(&subject, &key, 3, Some("z")).await,
        CasOutcome::Applied { version: 4 }
    );
}

pub(super) async fn one_of_many_racing_changes_wins(subject: Subject) {
    let key = namespace_record("race");
    let mut racing = tokio::task::JoinSet::new();
    for n in 0..16u8 {
        let (records, key) = (subject.records.clone(), key.clone());
        racing.spawn(async move { records.compare_and_set(&key, 0, Some(Bytes::from(vec![n]))).await });
    }
    let mut won = 0;
    while let Some(outcome) = racing.join_next().await {
        let outcome = outcome.unwrap_or_else(|error| panic!("join: {error}"));
        won += usize::from(matches!(outcome, Ok(CasOutcome::Applied { version: 1 })));
    }
    assert_eq!(won, 1);
}

pub(super) async fn records_are_listed_by_prefix(subject: Subject) {
    for text in ["b", "a", "a-b", "ab", "gone"] {
        set(&subject, &namespace_record(text), 0, Some(text)).await;
    }
    set(&subject, &namespace_record("gone"), 1, None).await;
    for (namespace, slice) in [("a", "20200102"), ("a", "20200101"), ("ab", "20200101")] {
        let key = RecordKey::TimeSlice {
            namespace: name(NamespaceName::new(namespace)),
            slice: name(SliceName::new(slice)),
        };
        set(&subject, &key, 0, Some(slice)).await;
    }
    for records_max in [1, 2, 100] {
        let found = list_all(&subject, &RecordPrefix::Namespaces, records_max).await;
        assert_eq!(found, ["a", "a-b", "ab", "b"].map(namespace_record));
    }
    let slices = RecordPrefix::TimeSlices(name(NamespaceName::new("a")));
    let slices = subject
        .records
        .list(&slices, None, 100)
        .await
        .unwrap_or_else(|error| panic!("list: {error}"));
    let values: Vec<_> = slices
        .into_iter()
        .filter_map(|(_, record)| record.value)
        .collect();
    assert_eq!(values, ["20200101", "20200102"]);
}

async fn list_all(subject: &Subject, prefix: &RecordPrefix, records_max: usize) -> Vec<RecordKey> {
    let mut found: Vec<RecordKey> = Vec::new();
    loop {
        let page = subject.records.list(prefix, found.last(), records_max).await;
        let page = page.unwrap_or_else(|error| panic!("list: {error}"));
        assert!(page.len() <= records_max);
        if page.is_empty() {
            return found;
        }
        found.extend(page.into_iter().map(|(key, _)| key));
    }
}

pub(super) async fn split_records_are_listed_by_prefix(subject: Subject) {
    let namespaces = ["ns", "ns2"].map(|n| name(NamespaceName::new(n)));
    let slices = ["20200101", "20200102"].map(|s| name(SliceName::new(s)));
    let mut keys = Vec::new();
    for namespace in &namespaces {
        for slice in &slices {
            for n in 0..40 {
                let partition = PartitionKey {
                    slice: slice.clone(),
                    ..partition(&format!("id\0{}", n / 2), n % 2 - 1, 7)
                };
                let namespace = namespace.clone();
                keys.push(RecordKey::Detection {
                    namespace: namespace.clone(),
                    partition: partition.clone(),
                });
                keys.push(RecordKey::Split { namespace, partition });
            }
            keys.extend((0..SPLIT_SHARDS).map(|shard| RecordKey::SplitMarker {
                namespace: namespace.clone(),
                slice: slice.clone(),
                shard,
            }));
        }
    }
    for key in &keys {
        set(&subject, key, 0, Some("x")).await;
    }
    let removed = keys.swap_remove(1);
    set(&subject, &removed, 1, None).await;
    keys.sort();
    let ([ns, _], [_, slice]) = (namespaces, slices);
    let mut prefixes = vec![
        RecordPrefix::Splits(ns.clone()),
        RecordPrefix::SplitsOfSlice(ns.clone(), slice.clone()),
        RecordPrefix::SplitMarkers(ns.clone()),
        RecordPrefix::SplitMarkersOfSlice(ns.clone(), slice.clone()),
        RecordPrefix::Detections,
    ];
    prefixes
        .extend((0..SPLIT_SHARDS).map(|shard| RecordPrefix::SplitShard(ns.clone(), slice.clone(), shard)));
    for prefix in prefixes {
        let expected: Vec<RecordKey> = keys.iter().filter(|key| prefix.holds(key)).cloned().collect();
        for records_max in [3, 1_000] {
            assert_eq!(
                list_all(&subject, &prefix, records_max).await,
                expected,
                "{prefix:?}"
            );
        }
    }
}
