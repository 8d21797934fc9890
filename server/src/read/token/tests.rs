use super::*;
use crate::read::cursor::{Cut, PartPage, PartitionBytes, Position, RowMark, RowsCursor};
use anabranch_model::{EventId, EventKey, EventTime, TimeInterval, TimeSeriesId};
use anabranch_storage::memory::MemoryStore;
use proptest::prelude::*;

fn tokens(key: u8) -> PageTokens {
    PageTokens::new(&[key; TOKEN_KEY_BYTES])
}

fn position() -> impl Strategy<Value = Position> {
    let event = (any::<i64>(), "[a-z\0ü]{1,20}").prop_map(|(time, id)| EventKey {
        time: EventTime::from_micros(time),
        id: EventId::new(id).unwrap(),
    });
    let id = "[a-z\0ü]{1,20}".prop_map(|id| TimeSeriesId::new(id).unwrap());
    prop_oneof![
        Just(Position::Start),
        any::<i64>().prop_map(|time| Position::Time(EventTime::from_micros(time))),
        (event.clone(), id.clone()).prop_map(|(key, time_series_id)| Position::Event { key, time_series_id }),
        (
            any::<i64>(),
            id,
            any::<i64>(),
            any::<u32>(),
            proptest::option::of(event)
        )
            .prop_map(|(start, time_series_id, time_bucket, event_bucket, event)| {
                Position::Partition {
                    slice_start: EventTime::from_micros(start),
                    time_series_id,
                    time_bucket,
                    event_bucket,
                    event,
                }
            }),
        any::<i64>().prop_map(|start| Position::Slice {
            slice_start: EventTime::from_micros(start)
        }),
    ]
}

prop_compose! {
    fn cursor()(
        fingerprint in any::<u128>(), start in any::<i64>(), end in any::<i64>(), position in position(),
        records_left in any::<Option<u64>>(), bytes in any::<Option<u64>>(),
        rows in proptest::option::of((proptest::option::of(position()), any::<Vec<u8>>(), any::<u128>())),
    ) -> Cursor {
        Cursor {
            fingerprint,
            interval: TimeInterval { start: EventTime::from_micros(start), end: EventTime::from_micros(end) },
            position,
            records_left,
            partition_bytes: bytes.into_iter().map(|bytes| PartitionBytes {
                time_series_id: TimeSeriesId::new("id").unwrap(),
                bucket_start: EventTime::from_micros(start),
                event_bucket: 3,
                bytes,
            }).collect(),
            rows: rows.map(|(part_end, prefix, hash)| RowsCursor {
                cut: part_end.is_some().then_some(Cut::Groups),
                page: Some(PartPage { part_end, after: RowMark { prefix: prefix.into(), hash } }),
            }),
        }
    }
}

proptest! {
    #[test]
    fn cursor_roundtrips(cursor in cursor()) {
        let token = tokens(1).encode(&cursor).unwrap();
        prop_assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
        prop_assert_eq!(tokens(1).decode(&token, cursor.fingerprint).unwrap(), cursor);
    }

    #[test]
    fn any_changed_character_is_refused(cursor in cursor(), at in any::<prop::sample::Index>(), to in "[A-Za-z0-9_=.-]") {
        let token = tokens(1).encode(&cursor).unwrap();
        let at = at.index(token.len());
        let changed = format!("{}{to}{}", &token[..at], &token[at + 1..]);
        prop_assume!(changed != token);
        let refused = tokens(1).decode(&changed, cursor.fingerprint).unwrap_err();
        prop_assert_eq!(refused.reason, Reason::PageTokenInvalid);
        prop_assert_eq!(&refused.fields[0].0, "page_token");
    }

    #[test]
    fn a_shortened_token_is_refused(cursor in cursor(), to in any::<prop::sample::Index>()) {
        let token = tokens(1).encode(&cursor).unwrap();
        let refused = tokens(1).decode(&token[..to.index(token.len())], cursor.fingerprint).unwrap_err();
        prop_assert_eq!(refused.reason, Reason::PageTokenInvalid);
    }

    #[test]
    fn noise_is_refused(noise in ".{0,200}") {
        prop_assert_eq!(tokens(1).decode(&noise, 0).unwrap_err().reason, Reason::PageTokenInvalid);
    }
}

fn plain() -> Cursor {
    Cursor {
        fingerprint: 7,
        interval: TimeInterval::ALL,
        position: Position::Start,
        records_left: None,
        partition_bytes: Vec::new(),
        rows: None,
    }
}

#[test]
fn another_stores_token_is_refused() {
    let token = tokens(1).encode(&plain()).unwrap();
    assert_eq!(
        tokens(2).decode(&token, 7).unwrap_err().reason,
        Reason::PageTokenInvalid
    );
}

#[test]
fn a_token_of_other_arguments_names_the_mismatch() {
    let token = tokens(1).encode(&plain()).unwrap();
    let refused = tokens(1).decode(&token, 8).unwrap_err();
    assert_eq!(refused.reason, Reason::PageTokenMismatch);
    assert_eq!(refused.fields[0].0, "page_token");
}

#[test]
fn a_version_from_the_future_is_refused() {
    let tokens = tokens(1);
    let signed = postcard::to_extend(&plain(), vec![VERSION + 1]).unwrap();
    let token = tokens.sign(signed);
    assert_eq!(
        tokens.decode(&token, 7).unwrap_err().reason,
        Reason::PageTokenInvalid
    );
}

#[test]
fn the_format_is_kept() {
    // Clients hold tokens over an upgrade: these bytes must stay readable until the version changes.
    let mut cursor = plain();
    cursor.position = Position::Event {
        key: EventKey {
            time: EventTime::from_micros(1_000_000),
            id: EventId::new("e").unwrap(),
        },
        time_series_id: TimeSeriesId::new("t").unwrap(),
    };
    cursor.records_left = Some(5);
    let token = tokens(1).encode(&cursor).unwrap();
    assert_eq!(tokens(1).decode(KEPT, 7).unwrap(), cursor);
    assert_eq!(token, KEPT);
}

const KEPT: &str = "AQf___________8B_v__________AQKAiXoBZQF0AQUAAH-ei_wdZDFvGzew9CoLgso";

#[tokio::test]
async fn every_server_of_a_store_signs_under_one_key() {
    let store = MemoryStore::new();
    let first = PageTokens::load_or_create(&store, &Randomness::from_seed(1))
        .await
        .unwrap();
    let second = PageTokens::load_or_create(&store, &Randomness::from_seed(2))
        .await
        .unwrap();
    let token = first.encode(&plain()).unwrap();
    assert_eq!(second.decode(&token, 7).unwrap(), plain());
}

#[tokio::test]
async fn a_key_of_the_wrong_length_is_corrupt() {
    let store = MemoryStore::new();
    store
        .compare_and_set(&RecordKey::PageTokenKey, 0, Some(Bytes::from_static(b"short")))
        .await
        .unwrap();
    let error = PageTokens::load_or_create(&store, &Randomness::from_seed(1))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), anabranch_storage::ErrorKind::Corrupt);
}
