use std::sync::Mutex;

use anabranch_model::{PartitionSettings, TimeInterval, TimeSlice};
use anabranch_storage::memory::MemoryStore;
use anabranch_storage::{CasOutcome, RecordKey, RecordPrefix, VersionedRecord};
use async_trait::async_trait;
use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::change::change_slice;
use crate::stored::{NamespaceRecord, SliceRecord, Stored};

/// A slice of one day, of which 12 hours have passed.
const START: i64 = 0;
const END: i64 = 86_400;
const NOW: i64 = 43_200;

fn at(seconds: i64) -> EventTime {
    EventTime::from_micros(seconds * 1_000_000)
}

fn namespace() -> NamespaceName {
    NamespaceName::new("ns").unwrap()
}

fn slice() -> SliceName {
    SliceName::new("19700101").unwrap()
}

fn limit(seconds: u64) -> NamespaceSettings {
    NamespaceSettings {
        accept_limit: Duration::from_secs(seconds),
        ..NamespaceSettings::default()
    }
}

async fn store(settings: NamespaceSettings, sealed_before: Option<EventTime>) -> MemoryStore {
    let records = MemoryStore::new();
    let of = NamespaceRecord {
        sealed_before,
        ..NamespaceRecord::new(settings, 1, at(0))
    };
    let bytes = of.encode().unwrap();
    records
        .compare_and_set(&NamespaceRecord::key(&namespace()), 0, Some(bytes))
        .await
        .unwrap();
    let interval = TimeInterval {
        start: at(START),
        end: at(END),
    };
    let settings = PartitionSettings {
        seconds_per_time_bucket: 3_600,
        event_buckets: 1,
    };
    let record = SliceRecord::new(TimeSlice::cut(slice(), interval, settings), 1);
    store_slice(&records, &namespace(), 0, &record).await.unwrap();
    records
}

async fn change(records: &MemoryStore, change: impl FnMut(&mut SliceRecord) + Send) {
    change_slice(records, &namespace(), &slice(), 1, change)
        .await
        .unwrap();
}

async fn change_namespace(records: &dyn RecordStore, change: impl Fn(&mut NamespaceRecord)) {
    let (mut record, version) = read_namespace(records, &namespace()).await.unwrap().unwrap();
    change(&mut record);
    let bytes = record.encode().unwrap();
    records
        .compare_and_set(&NamespaceRecord::key(&namespace()), version, Some(bytes))
        .await
        .unwrap();
}

async fn freeze_before(records: &dyn RecordStore, before: i64) -> FreezeOutcome {
    freeze(records, &namespace(), &slice(), at(before), at(NOW))
        .await
        .unwrap()
}

fn frozen(outcome: FreezeOutcome) -> Frozen {
    match outcome {
        FreezeOutcome::Frozen(frozen) => frozen,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_freeze_is_stored_once_and_asks_for_the_table_of_targets() {
    let records = store(limit(600), None).await;
    let first = frozen(freeze_before(&records, 3_600).await);
    assert_eq!((first.before, first.wide_table), (at(3_600), WideTable::Wanted));
    assert_eq!((first.incarnation, first.epoch, first.version), (1, 0, 2));
    assert_eq!(frozen(freeze_before(&records, 3_600).await), first);
    let earlier = frozen(freeze_before(&records, 60).await);
    assert_eq!(earlier, first, "a freeze never moves back");
    let later = frozen(freeze_before(&records, 7_200).await);
    assert_eq!((later.before, later.version), (at(7_200), 3));
    let stored = read_slice(&records, &namespace(), &slice())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stored.record.slice.frozen_before, Some(at(7_200)));
}

#[tokio::test]
async fn only_what_is_justified_is_frozen() {
    let records = store(limit(600), None).await;
    let outcome = frozen(freeze_before(&records, END + 1).await);
    assert_eq!(outcome.before, at(NOW - 605));
    // A seal justifies more than the limit, but a slice is frozen to its end at most.
    change_namespace(&records, |of| of.sealed_before = Some(at(END + 7))).await;
    let outcome = frozen(freeze_before(&records, END + 7).await);
    assert_eq!(outcome.before, at(END));

    let any_time = store(limit(0), None).await;
    assert_eq!(freeze_before(&any_time, 3_600).await, FreezeOutcome::NotJustified);
    change_namespace(&any_time, |of| of.sealed_before = Some(at(START))).await;
    assert_eq!(freeze_before(&any_time, 3_600).await, FreezeOutcome::NotJustified);
    let untouched = read_slice(&any_time, &namespace(), &slice())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(untouched.version, 1);
}

#[tokio::test]
async fn what_is_being_opened_or_going_is_not_frozen() {
    let records = store(limit(600), None).await;
    change(&records, |record| record.slice.opening_since = Some(at(NOW))).await;
    assert_eq!(freeze_before(&records, 60).await, FreezeOutcome::Opening);
    change(&records, |record| {
        record.slice.opening_since = None;
        record.slice.state = SliceState::Closed;
    })
    .await;
    assert_eq!(freeze_before(&records, 60).await, FreezeOutcome::NotOpen);
    change(&records, |record| record.slice.state = SliceState::Open).await;
    change_namespace(&records, |of| of.deleting_since = Some(at(NOW))).await;
    assert_eq!(freeze_before(&records, 60).await, FreezeOutcome::NotOpen);
    let of_another = store(limit(600), None).await;
    change_namespace(&of_another, |of| of.incarnation = 2).await;
    assert_eq!(freeze_before(&of_another, 60).await, FreezeOutcome::NotOpen);
    let nothing = MemoryStore::new();
    assert_eq!(freeze_before(&nothing, 60).await, FreezeOutcome::NotOpen);
}

/// Opens the slice, whole, once: right before a chosen read or change of a freeze.
#[derive(Debug)]
struct OpenedInBetween {
    store: MemoryStore,
    calls_left: Mutex<Option<u32>>,
}

impl OpenedInBetween {
    async fn call(&self) {
        let now = {
            let mut left = self.calls_left.lock().unwrap();
            let now = *left == Some(0);
            *left = left.and_then(|left| left.checked_sub(1));
            now
        };
        if now {
            change(&self.store, |record| {
                record.slice.epoch += 1;
                record.slice.opening_since = Some(at(NOW));
            })
            .await;
            change_namespace(&self.store, |of| of.sealed_before = None).await;
            change(&self.store, |record| {
                record.slice.frozen_before = None;
                record.slice.opening_since = None;
            })
            .await;
        }
    }
}

#[async_trait]
impl RecordStore for OpenedInBetween {
    async fn get(&self, key: &RecordKey) -> Result<Option<VersionedRecord>, StoreError> {
        self.call().await;
        self.store.get(key).await
    }

    async fn compare_and_set(
        &self,
        key: &RecordKey,
        expected: u64,
        value: Option<Bytes>,
    ) -> Result<CasOutcome, StoreError> {
        self.call().await;
        self.store.compare_and_set(key, expected, value).await
    }

    async fn list(
        &self,
        prefix: &RecordPrefix,
        after: Option<&RecordKey>,
        records_max: usize,
    ) -> Result<Vec<(RecordKey, VersionedRecord)>, StoreError> {
        self.store.list(prefix, after, records_max).await
    }
}

#[tokio::test]
async fn a_seal_that_is_taken_back_in_the_middle_of_a_freeze_justifies_nothing() {
    for calls in 0..3 {
        let records = OpenedInBetween {
            store: store(limit(0), Some(at(END))).await,
            calls_left: Mutex::new(Some(calls)),
        };
        let outcome = freeze_before(&records, END).await;
        assert_eq!(outcome, FreezeOutcome::NotJustified, "opened before call {calls}");
        let stored = read_slice(&records, &namespace(), &slice())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(stored.record.slice.frozen_before, None);
    }
}

proptest! {
    #[test]
    fn nothing_is_justified_that_seal_and_limit_still_accept(
        accept_limit in 0u64..10_000,
        sealed in proptest::option::of(0i64..100_000),
        now in 0i64..100_000,
        time in -20_000i64..120_000,
    ) {
        let justified = justified(&limit(accept_limit), sealed.map(at), at(now));
        let accepted = sealed.is_none_or(|sealed| time >= sealed)
            && (accept_limit == 0 || time >= now - i64::try_from(accept_limit).unwrap());
        if accepted {
            prop_assert!(justified.is_none_or(|justified| justified <= at(time)));
        }
    }
}
