use super::*;
use anabranch_model::Direction;
use proptest::prelude::*;
use std::cmp::Ordering;

fn text(max: usize) -> impl Strategy<Value = String> {
    // Zero bytes and shared prefixes are what an escape gets wrong.
    prop_oneof![
        proptest::collection::vec(
            prop_oneof![Just('\0'), Just('\u{1}'), Just('a'), Just('ÿ')],
            1..max.min(6)
        )
        .prop_map(|chars| chars.into_iter().collect()),
        "[a-c]{1,4}",
        "\\PC{1,8}",
    ]
}

fn row() -> impl Strategy<Value = RowKey> {
    (
        text(8),
        any::<i64>(),
        any::<u32>(),
        any::<i64>(),
        text(8),
        text(8),
    )
        .prop_map(
            |(id, time_bucket, event_bucket, micros, event_id, item_key)| RowKey {
                time_series_id: TimeSeriesId::new(id).unwrap(),
                time_bucket,
                event_bucket,
                event: EventKey {
                    time: EventTime::from_micros(micros),
                    id: EventId::new(event_id).unwrap(),
                },
                item_key: ItemKey::new(item_key).unwrap(),
            },
        )
}

fn partition(row: &RowKey) -> PartitionKey {
    PartitionKey {
        slice: SliceName::new("all").unwrap(),
        time_series_id: row.time_series_id.clone(),
        time_bucket: row.time_bucket,
        event_bucket: row.event_bucket,
    }
}

fn encode(row: &RowKey) -> Vec<u8> {
    let mut key = partition_prefix(&partition(row));
    put_event(&mut key, &row.event);
    put_item_key(&mut key, &row.item_key);
    key
}

fn order(a: &RowKey, b: &RowKey) -> Ordering {
    a.time_series_id
        .cmp(&b.time_series_id)
        .then(a.time_bucket.cmp(&b.time_bucket))
        .then(a.event_bucket.cmp(&b.event_bucket))
        .then(Direction::Descending.compare(&a.event, &b.event))
        .then(a.item_key.cmp(&b.item_key))
}

fn record() -> impl Strategy<Value = RecordKey> {
    let namespace = || "[a-c-]{1,3}".prop_map(|name| NamespaceName::new(format!("n{name}")).unwrap());
    prop_oneof![
        namespace().prop_map(|namespace| RecordKey::Namespace { namespace }),
        (namespace(), "[0-9]{8}").prop_map(|(namespace, slice)| RecordKey::TimeSlice {
            namespace,
            slice: SliceName::new(slice).unwrap()
        }),
        (namespace(), text(6)).prop_map(|(namespace, id)| RecordKey::BlockedId {
            namespace,
            time_series_id: TimeSeriesId::new(id).unwrap()
        }),
        Just(RecordKey::PageTokenKey),
        (namespace(), wide_partition())
            .prop_map(|(namespace, partition)| RecordKey::Split { namespace, partition }),
        (namespace(), "2020010[1-3]", 0..SPLIT_SHARDS).prop_map(|(namespace, slice, shard)| {
            RecordKey::SplitMarker {
                namespace,
                slice: SliceName::new(slice).unwrap(),
                shard,
            }
        }),
        (namespace(), wide_partition())
            .prop_map(|(namespace, partition)| RecordKey::Detection { namespace, partition }),
    ]
}

/// Few slices, ids and buckets, so that two of them are often alike in part.
fn wide_partition() -> impl Strategy<Value = PartitionKey> {
    ("2020010[1-3]", text(6), -2i64..2, 0u32..3).prop_map(|(slice, id, time_bucket, event_bucket)| {
        PartitionKey {
            slice: SliceName::new(slice).unwrap(),
            time_series_id: TimeSeriesId::new(id).unwrap(),
            time_bucket,
            event_bucket,
        }
    })
}

/// Every prefix that could hold a record of this kind, and some that do not hold it.
fn prefixes(of: RecordKey) -> Vec<RecordPrefix> {
    match of {
        RecordKey::TimeSlice { namespace, .. } => vec![RecordPrefix::TimeSlices(namespace)],
        RecordKey::BlockedId { namespace, .. } => vec![RecordPrefix::BlockedIds(namespace)],
        RecordKey::Namespace { .. } | RecordKey::PageTokenKey => vec![RecordPrefix::Namespaces],
        RecordKey::Split { namespace, partition } => {
            let shard = split_shard(&partition.time_series_id);
            vec![
                RecordPrefix::Splits(namespace.clone()),
                RecordPrefix::SplitsOfSlice(namespace.clone(), partition.slice.clone()),
                RecordPrefix::SplitShard(namespace.clone(), partition.slice.clone(), shard),
                RecordPrefix::SplitShard(namespace, partition.slice, (shard + 1) % SPLIT_SHARDS),
            ]
        }
        RecordKey::SplitMarker { namespace, slice, .. } => vec![
            RecordPrefix::SplitMarkers(namespace.clone()),
            RecordPrefix::SplitMarkersOfSlice(namespace, slice),
        ],
        RecordKey::Detection { .. } => vec![RecordPrefix::Detections],
    }
}

proptest! {
    #[test]
    fn row_keys_roundtrip(row in row()) {
        let key = encode(&row);
        prop_assert_eq!(read_row_key(&key).unwrap(), row.clone());
        let prefix = partition_prefix(&partition(&row));
        let (event, item_key_at) = read_event(&key, prefix.len()).unwrap();
        prop_assert_eq!(event, row.event);
        prop_assert_eq!(read_item_key(&key[item_key_at..]).unwrap(), row.item_key);
    }

    #[test]
    fn row_keys_sort_as_rows_sort(a in row(), b in row(), same_id in any::<bool>(), same_event in any::<bool>()) {
        let mut b = b;
        if same_id {
            b = RowKey { time_series_id: a.time_series_id.clone(), time_bucket: a.time_bucket, event_bucket: a.event_bucket, ..b };
        }
        if same_event {
            b.event.time = a.event.time;
        }
        prop_assert_eq!(encode(&a).cmp(&encode(&b)), order(&a, &b));
    }

    #[test]
    fn prefixes_hold_their_own_rows_and_no_other(a in row(), b in row()) {
        let prefix = partition_prefix(&partition(&a));
        let end = prefix_end(&prefix).unwrap();
        prop_assert!(encode(&a) > prefix && encode(&a) < end);
        let inside = encode(&b) >= prefix && encode(&b) < end;
        prop_assert_eq!(inside, partition(&a) == partition(&b));
    }

    #[test]
    fn record_keys_roundtrip_and_sort(a in record(), b in record()) {
        prop_assert_eq!(RecordKey::decode(&a.encode()).unwrap(), a.clone());
        prop_assert_eq!(a.encode().cmp(&b.encode()), a.cmp(&b));
    }

    #[test]
    fn equal_record_keys_are_those_that_compare_equal(a in record(), b in record()) {
        prop_assert_eq!(a == b, a.cmp(&b) == Ordering::Equal);
    }

    #[test]
    fn record_prefixes_hold_just_their_records(key in record(), of in record()) {
        for prefix in prefixes(of) {
            prop_assert_eq!(key.encode().starts_with(&prefix.encode()), prefix.holds(&key));
        }
    }

    #[test]
    fn broken_keys_are_errors_not_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = read_row_key(&bytes);
        let _ = RecordKey::decode(&bytes);
        let _ = read_event(&bytes, 9);
        let _ = read_item_key(&bytes);
    }
}

#[test]
fn the_row_key_is_a_stored_format() {
    let row = RowKey {
        time_series_id: TimeSeriesId::new("a\0b").unwrap(),
        time_bucket: 1,
        event_bucket: 2,
        event: EventKey {
            time: EventTime::from_micros(0),
            id: EventId::new("e").unwrap(),
        },
        item_key: ItemKey::new("k").unwrap(),
    };
    let expected = [
        &[b'a', 0, 0xFF, b'b', 0, 0][..],
        &[0x80, 0, 0, 0, 0, 0, 0, 1],
        &[0, 0, 0, 2],
        &[0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
        &[!b'e', 0xFF, 0xFF],
        &[b'k', 0, 0],
    ]
    .concat();
    assert_eq!(encode(&row), expected);
}

#[test]
fn record_keys_are_a_stored_format() {
    let namespace = || NamespaceName::new("ns").unwrap();
    let slice = || SliceName::new("20200101").unwrap();
    let partition = || PartitionKey {
        slice: slice(),
        time_series_id: TimeSeriesId::new("a\0b").unwrap(),
        time_bucket: -1,
        event_bucket: 258,
    };
    let slice_text = [&b"20200101"[..], &[0, 0]].concat();
    let place = [
        &[b'a', 0, 0xFF, b'b', 0, 0][..],
        &[0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
        &[0, 0, 1, 2],
    ]
    .concat();
    let head = |tag: u8| vec![tag, b'n', b's', 0, 0];
    let expected = [
        (
            RecordKey::Namespace {
                namespace: namespace(),
            },
            head(1),
        ),
        (
            RecordKey::TimeSlice {
                namespace: namespace(),
                slice: slice(),
            },
            [&head(2)[..], &slice_text].concat(),
        ),
        (
            RecordKey::BlockedId {
                namespace: namespace(),
                time_series_id: partition().time_series_id,
            },
            [&head(3)[..], &[b'a', 0, 0xFF, b'b', 0, 0]].concat(),
        ),
        (RecordKey::PageTokenKey, vec![4]),
        (
            RecordKey::Split {
                namespace: namespace(),
                partition: partition(),
            },
            [&head(5)[..], &slice_text, &[SHARD_OF_A0B], &place].concat(),
        ),
        (
            RecordKey::SplitMarker {
                namespace: namespace(),
                slice: slice(),
                shard: 9,
            },
            [&head(6)[..], &slice_text, &[9]].concat(),
        ),
        (
            RecordKey::Detection {
                namespace: namespace(),
                partition: partition(),
            },
            [&head(7)[..], &slice_text, &place].concat(),
        ),
    ];
    for (key, bytes) in expected {
        assert_eq!(key.encode(), bytes, "{key:?}");
        assert_eq!(RecordKey::decode(&bytes).unwrap(), key);
    }
}

/// The shard of the id `a\0b`: it must never change.
const SHARD_OF_A0B: u8 = 1;

#[test]
fn the_shard_of_an_id_is_a_stored_format() {
    let shard = |id: &str| split_shard(&TimeSeriesId::new(id).unwrap());
    assert_eq!(
        ["a", "b", "device-1", "a\0b"].map(shard),
        [15, 15, 5, SHARD_OF_A0B]
    );
    let seen: std::collections::BTreeSet<u8> = (0..1_000).map(|n| shard(&format!("id{n}"))).collect();
    assert_eq!(seen, (0..SPLIT_SHARDS).collect());
}

#[test]
fn a_split_in_the_shard_of_another_id_is_damage() {
    let key = RecordKey::Split {
        namespace: NamespaceName::new("ns").unwrap(),
        partition: PartitionKey {
            slice: SliceName::new("all").unwrap(),
            time_series_id: TimeSeriesId::new("a").unwrap(),
            time_bucket: 0,
            event_bucket: 0,
        },
    };
    let mut bytes = key.encode();
    bytes[10] ^= 1;
    let error = RecordKey::decode(&bytes).unwrap_err().to_string();
    assert!(error.contains("shard"), "{error}");
}
