use super::*;

fn item(key: &str, value: &'static str) -> pb::EventItem {
    pb::EventItem {
        event_item_key: key.to_owned(),
        event_item_value: value.into(),
    }
}

fn event() -> pb::EventRecord {
    pb::EventRecord {
        time_series_id: "device:1".to_owned(),
        event_time: Some(prost_types::Timestamp {
            seconds: 5,
            nanos: 6_000,
        }),
        event_id: "e1".to_owned(),
        event_items: vec![item("a", "1"), item("b", "2")],
    }
}

fn refused(change: impl FnOnce(&mut pb::EventRecord)) -> (Reason, String) {
    let mut wrong = event();
    change(&mut wrong);
    let error = records(vec![event(), wrong]).unwrap_err();
    (error.reason, error.fields[0].0.clone())
}

#[test]
fn events_roundtrip() {
    let inside = records(vec![event()]).unwrap();
    assert_eq!(ReadMask::ALL.apply(inside[0].clone()), event());
}

#[test]
fn items_are_sorted_by_key() {
    let mut mixed = event();
    mixed.event_items.reverse();
    let inside = records(vec![mixed]).unwrap();
    assert_eq!(ReadMask::ALL.apply(inside[0].clone()), event());
}

#[test]
fn digits_past_the_microsecond_are_dropped() {
    let mut fine = event();
    fine.event_time = Some(prost_types::Timestamp {
        seconds: 5,
        nanos: 6_999,
    });
    assert_eq!(records(vec![fine]).unwrap()[0].event.key.time.micros(), 5_000_006);
}

#[test]
fn every_field_that_can_be_wrong_is_named_by_its_path() {
    let long = |bytes: usize| "x".repeat(bytes);
    let cases: [(&str, Reason, (Reason, String)); 11] = [
        (
            "events[1].time_series_id",
            Reason::InvalidEvent,
            refused(|e| e.time_series_id.clear()),
        ),
        (
            "events[1].time_series_id",
            Reason::FieldTooLarge,
            refused(|e| e.time_series_id = long(1_025)),
        ),
        (
            "events[1].event_time",
            Reason::InvalidTimestamp,
            refused(|e| e.event_time = None),
        ),
        (
            "events[1].event_time",
            Reason::InvalidTimestamp,
            refused(|e| {
                e.event_time = Some(prost_types::Timestamp {
                    seconds: 1 << 40,
                    nanos: 0,
                })
            }),
        ),
        (
            "events[1].event_id",
            Reason::InvalidEvent,
            refused(|e| e.event_id.clear()),
        ),
        (
            "events[1].event_items",
            Reason::InvalidEvent,
            refused(|e| e.event_items.clear()),
        ),
        (
            "events[1].event_items",
            Reason::FieldTooLarge,
            refused(|e| e.event_items = (0..1_025).map(|n| item(&n.to_string(), "")).collect()),
        ),
        (
            "events[1].event_items[1].event_item_key",
            Reason::InvalidEvent,
            refused(|e| e.event_items[1].event_item_key.clear()),
        ),
        (
            "events[1].event_items[1].event_item_key",
            Reason::InvalidEvent,
            refused(|e| e.event_items[1].event_item_key = "a".to_owned()),
        ),
        (
            "events[1].event_items[0].event_item_value",
            Reason::FieldTooLarge,
            refused(|e| e.event_items[0].event_item_value = long((1 << 20) + 1).into()),
        ),
        (
            "events[1]",
            Reason::FieldTooLarge,
            refused(|e| {
                e.event_items = (0..5)
                    .map(|n| pb::EventItem {
                        event_item_key: n.to_string(),
                        event_item_value: long(1 << 20).into(),
                    })
                    .collect();
            }),
        ),
    ];
    for (path, reason, found) in cases {
        assert_eq!(found, (reason, path.to_owned()));
    }
}

#[test]
fn a_write_has_one_to_ten_thousand_events() {
    assert_eq!(records(Vec::new()).unwrap_err().reason, Reason::InvalidEvent);
    let many = vec![event(); REQUEST_EVENTS_MAX + 1];
    assert_eq!(records(many).unwrap_err().reason, Reason::TooManyEvents);
}

#[test]
fn a_mask_leaves_only_what_it_names() {
    let mask = |paths: &[&str]| {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        ReadMask::of(Some(&prost_types::FieldMask { paths }))
    };
    let inside = records(vec![event()]).unwrap().remove(0);
    let apply = |paths: &[&str]| mask(paths).unwrap().apply(inside.clone());
    assert_eq!(ReadMask::of(None).unwrap(), ReadMask::ALL);
    assert_eq!(apply(&[]), event());
    assert_eq!(apply(&["*"]), event());
    let bare = pb::EventRecord::default();
    assert_eq!(
        apply(&["event_id"]),
        pb::EventRecord {
            event_id: "e1".into(),
            ..bare.clone()
        }
    );
    let keys = vec![item("a", ""), item("b", "")];
    assert_eq!(
        apply(&["event_items.event_item_key"]),
        pb::EventRecord {
            event_items: keys,
            ..bare.clone()
        }
    );
    let both = apply(&["event_items.event_item_value", "event_items.event_item_key"]);
    assert_eq!(both.event_items, event().event_items);
    let error = mask(&["event_idd"]).unwrap_err();
    assert_eq!(error.reason, Reason::InvalidReadMask);
    assert!(error.message.contains("did you mean `event_id`"), "{error}");
}
