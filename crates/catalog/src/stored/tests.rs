//! Bytes of every version that was ever written. Never changed, only added to.

use std::time::Duration;

use anabranch_model::namespace::Retention;
use anabranch_model::{PartitionSettings, SliceName, SliceState, TimeInterval, WideTable};
use anabranch_storage::ErrorKind;

use super::*;

fn slice() -> TimeSlice {
    let interval = TimeInterval {
        start: EventTime::from_micros(1_774_483_200_000_000),
        end: EventTime::from_micros(1_775_088_000_000_000),
    };
    let settings = PartitionSettings {
        seconds_per_time_bucket: 86_400,
        event_buckets: 4,
    };
    TimeSlice {
        state: SliceState::Closed,
        epoch: 3,
        ..TimeSlice::cut(SliceName::new("20260326").unwrap(), interval, settings)
    }
}

const NAMESPACE_V1_BEFORE_FREEZES: &str = r#"{"v1":{"settings":{"seconds_per_time_slice":604800,"seconds_per_time_bucket":86400,"event_buckets":1,"accept_limit":{"secs":600,"nanos":0},"accept_ahead_limit":{"secs":60,"nanos":0},"retention":{"close_after":{"secs":86400,"nanos":0},"delete_after":{"secs":172800,"nanos":0}},"queue_buffering":{"coalesce":{"secs":1,"nanos":0},"buffer_capacity_bytes":4194304},"write_consistency":"LOCAL_QUORUM","read_consistency":"LOCAL_QUORUM","read_slo":{"target":{"secs":0,"nanos":500000000},"max":{"secs":1,"nanos":0}},"write_slo":{"target":{"secs":0,"nanos":10000000},"max":{"secs":0,"nanos":50000000}},"field_mapping":{},"wide_partition":{"rollout":"SERVE","detect_bytes":16777216,"target_bytes":4194304,"targets_max":64,"compare_ratio":0.01,"split_bytes_per_second":20971520},"tuning":{"mode":"PROPOSE","density_min_bytes":2097152,"density_max_bytes":10485760}},"revision":2,"incarnation":1,"created":1774483200000000,"updated":1774483200000001,"sealed_before":5,"sealed_since":6,"deleting_since":null,"creating":{"owner":7,"since":8,"slices":[{"name":"20260326","interval":{"start":1774483200000000,"end":1775088000000000},"settings":{"seconds_per_time_bucket":86400,"event_buckets":4},"state":"Closed","epoch":3,"sealed_before":null}]}}}"#;

const NAMESPACE_V1: &str = r#"{"v1":{"settings":{"seconds_per_time_slice":604800,"seconds_per_time_bucket":86400,"event_buckets":1,"accept_limit":{"secs":600,"nanos":0},"accept_ahead_limit":{"secs":60,"nanos":0},"retention":{"close_after":{"secs":86400,"nanos":0},"delete_after":{"secs":172800,"nanos":0}},"queue_buffering":{"coalesce":{"secs":1,"nanos":0},"buffer_capacity_bytes":4194304},"write_consistency":"LOCAL_QUORUM","read_consistency":"LOCAL_QUORUM","read_slo":{"target":{"secs":0,"nanos":500000000},"max":{"secs":1,"nanos":0}},"write_slo":{"target":{"secs":0,"nanos":10000000},"max":{"secs":0,"nanos":50000000}},"field_mapping":{},"wide_partition":{"rollout":"SERVE","detect_bytes":16777216,"target_bytes":4194304,"targets_max":64,"compare_ratio":0.01,"split_bytes_per_second":20971520},"tuning":{"mode":"PROPOSE","density_min_bytes":2097152,"density_max_bytes":10485760}},"revision":2,"incarnation":1,"created":1774483200000000,"updated":1774483200000001,"sealed_before":5,"sealed_since":6,"deleting_since":null,"creating":{"owner":7,"since":8,"slices":[{"name":"20260326","interval":{"start":1774483200000000,"end":1775088000000000},"settings":{"seconds_per_time_bucket":86400,"event_buckets":4},"state":"Closed","epoch":3,"sealed_before":null,"frozen_before":null,"wide_table":"None","opening_since":null}]}}}"#;

const SLICE_V1_BEFORE_FREEZES: &str = r#"{"v1":{"slice":{"name":"20260326","interval":{"start":1774483200000000,"end":1775088000000000},"settings":{"seconds_per_time_bucket":86400,"event_buckets":4},"state":"Closed","epoch":3,"sealed_before":null},"incarnation":1,"closed":9}}"#;

const SLICE_V1: &str = r#"{"v1":{"slice":{"name":"20260326","interval":{"start":1774483200000000,"end":1775088000000000},"settings":{"seconds_per_time_bucket":86400,"event_buckets":4},"state":"Closed","epoch":3,"sealed_before":null,"frozen_before":1774500000000000,"wide_table":"Wanted","opening_since":10},"incarnation":1,"closed":9,"wide_table_maker":{"owner":7,"since":8}}}"#;

const BLOCK_V1: &str = r#"{"v1":{"reason":"floods","since":9,"incarnation":1}}"#;

#[test]
fn namespace_records_of_version_1_are_read_and_written() {
    let record = NamespaceRecord {
        settings: NamespaceSettings {
            retention: Retention {
                close_after: Some(Duration::from_secs(86_400)),
                delete_after: Some(Duration::from_secs(172_800)),
            },
            ..NamespaceSettings::default()
        },
        revision: 2,
        incarnation: 1,
        created: EventTime::from_micros(1_774_483_200_000_000),
        updated: EventTime::from_micros(1_774_483_200_000_001),
        sealed_before: Some(EventTime::from_micros(5)),
        sealed_since: Some(EventTime::from_micros(6)),
        deleting_since: None,
        creating: Some(Creation {
            owner: 7,
            since: EventTime::from_micros(8),
            slices: vec![slice()],
        }),
    };
    for bytes in [NAMESPACE_V1_BEFORE_FREEZES, NAMESPACE_V1] {
        assert_eq!(NamespaceRecord::decode(bytes.as_bytes()).unwrap(), record);
    }
    assert_eq!(
        std::str::from_utf8(&record.encode().unwrap()).unwrap(),
        NAMESPACE_V1
    );
}

#[test]
fn slice_records_of_version_1_are_read_and_written() {
    let before_freezes = SliceRecord {
        slice: slice(),
        incarnation: 1,
        closed: Some(EventTime::from_micros(9)),
        wide_table_maker: None,
    };
    assert_eq!(
        SliceRecord::decode(SLICE_V1_BEFORE_FREEZES.as_bytes()).unwrap(),
        before_freezes
    );
    let record = SliceRecord {
        slice: TimeSlice {
            frozen_before: Some(EventTime::from_micros(1_774_500_000_000_000)),
            wide_table: WideTable::Wanted,
            opening_since: Some(EventTime::from_micros(10)),
            ..slice()
        },
        wide_table_maker: Some(Maker {
            owner: 7,
            since: EventTime::from_micros(8),
        }),
        ..before_freezes
    };
    assert_eq!(SliceRecord::decode(SLICE_V1.as_bytes()).unwrap(), record);
    assert_eq!(record.encode().unwrap(), SLICE_V1);
}

#[test]
fn block_records_of_version_1_are_read_and_written() {
    let record = BlockRecord {
        reason: "floods".to_owned(),
        since: EventTime::from_micros(9),
        incarnation: 1,
    };
    assert_eq!(BlockRecord::decode(BLOCK_V1.as_bytes()).unwrap(), record);
    assert_eq!(record.encode().unwrap(), BLOCK_V1);
}

#[test]
fn a_record_of_another_version_is_damage_and_not_a_panic() {
    for bytes in [&br#"{"v9":{}}"#[..], b""] {
        let error = SliceRecord::decode(bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(
            error
                .to_string()
                .starts_with("stored time slice record can not be read"),
            "{error}"
        );
    }
}
