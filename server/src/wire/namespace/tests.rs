use std::time::Duration;

use anabranch_model::namespace::{QueueBuffering, Retention, Tuning, WidePartition};

use super::*;

fn named() -> pb::Namespace {
    pb::Namespace {
        name: "demo".into(),
        ..Default::default()
    }
}

/// Settings that differ from the defaults in every field.
fn unusual() -> Settings {
    let slo = |millis| Slo {
        target: Duration::from_millis(millis),
        max: Duration::from_millis(millis * 2),
    };
    Settings {
        seconds_per_time_slice: 0,
        seconds_per_time_bucket: 60,
        event_buckets: 8,
        accept_limit: Duration::ZERO,
        accept_ahead_limit: Duration::from_micros(1_500_000),
        retention: Retention {
            close_after: Some(Duration::from_secs(10)),
            delete_after: Some(Duration::from_secs(20)),
        },
        queue_buffering: QueueBuffering {
            coalesce: Duration::from_millis(5),
            buffer_capacity_bytes: 1 << 20,
        },
        write_consistency: Consistency::All,
        read_consistency: Consistency::EachQuorum,
        read_slo: slo(3),
        write_slo: slo(4),
        field_mapping: [
            ("n".to_owned(), FieldType::Integer),
            ("t".to_owned(), FieldType::Timestamp),
        ]
        .into(),
        wide_partition: WidePartition {
            rollout: Rollout::Compare,
            detect_bytes: 1,
            target_bytes: 2,
            targets_max: 3,
            compare_ratio: 0.5,
            split_bytes_per_second: 4,
        },
        tuning: Tuning {
            mode: TuningMode::Apply,
            density_min_bytes: 5,
            density_max_bytes: 6,
        },
    }
}

fn on_the_wire(settings: &Settings) -> pb::Namespace {
    let (name, time) = (NamespaceName::new("demo").unwrap(), EventTime::from_micros(1));
    namespace(&name, settings, time, time)
}

fn mask(paths: &[&str]) -> FieldMask {
    FieldMask {
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
    }
}

#[test]
fn every_setting_roundtrips() {
    for settings in [Settings::default(), unusual()] {
        let wire = on_the_wire(&settings);
        assert_eq!(
            created(Some(&wire)).unwrap(),
            (NamespaceName::new("demo").unwrap(), settings)
        );
    }
}

#[test]
fn what_is_absent_has_its_default_and_zero_is_a_value() {
    assert_eq!(created(Some(&named())).unwrap().1, Settings::default());
    let zero = pb::Namespace {
        seconds_per_time_slice: Some(0),
        accept_limit: Some(WireDuration::default()),
        ..named()
    };
    let settings = created(Some(&zero)).unwrap().1;
    assert_eq!(
        (settings.seconds_per_time_slice, settings.accept_limit),
        (0, Duration::ZERO)
    );
}

#[test]
fn a_name_is_needed() {
    for wrong in [None, Some(pb::Namespace::default())] {
        let error = created(wrong.as_ref()).unwrap_err();
        assert_eq!(
            (error.reason, error.fields[0].0.as_str()),
            (Reason::InvalidNamespaceName, "namespace.name")
        );
    }
}

#[test]
fn every_setting_that_can_be_wrong_is_named() {
    let wrong_duration = Some(WireDuration {
        seconds: -1,
        nanos: 0,
    });
    let cases = [
        (
            "namespace.event_buckets",
            pb::Namespace {
                event_buckets: Some(-1),
                ..named()
            },
        ),
        (
            "namespace.accept_limit",
            pb::Namespace {
                accept_limit: wrong_duration,
                ..named()
            },
        ),
        (
            "namespace.retention.close_after",
            pb::Namespace {
                retention: Some(pb::Retention {
                    close_after: wrong_duration,
                    delete_after: None,
                }),
                ..named()
            },
        ),
        (
            "namespace.consistency.read",
            pb::Namespace {
                consistency: Some(pb::ConsistencySettings { write: 0, read: 99 }),
                ..named()
            },
        ),
        (
            "namespace.wide_partition.rollout",
            pb::Namespace {
                wide_partition: Some(pb::WidePartition {
                    rollout: 99,
                    ..Default::default()
                }),
                ..named()
            },
        ),
        (
            "namespace.tuning.mode",
            pb::Namespace {
                tuning: Some(pb::Tuning {
                    mode: 99,
                    ..Default::default()
                }),
                ..named()
            },
        ),
        (
            "namespace.field_mapping[`k`]",
            pb::Namespace {
                field_mapping: [("k".to_owned(), 0)].into(),
                ..named()
            },
        ),
        (
            "namespace.field_mapping[``]",
            pb::Namespace {
                field_mapping: [(String::new(), 1)].into(),
                ..named()
            },
        ),
    ];
    for (path, wrong) in cases {
        let error = created(Some(&wrong)).unwrap_err();
        assert_eq!(
            (error.reason, error.fields[0].0.as_str()),
            (Reason::InvalidSetting, path)
        );
    }
}

#[test]
fn an_update_without_a_mask_changes_what_is_present() {
    let update = pb::Namespace {
        event_buckets: Some(2),
        slos: Some(pb::Slos {
            read: Some(pb::Slo {
                target: None,
                max: Some(wire_duration(Duration::from_secs(9))),
            }),
            write: None,
        }),
        ..named()
    };
    let changed = Change::of(&update, None).unwrap().apply(&unusual());
    let mut expected = unusual();
    expected.event_buckets = 2;
    expected.read_slo.max = Duration::from_secs(9);
    assert_eq!(changed, expected);
}

#[test]
fn a_mask_names_what_changes_and_what_is_absent_goes_back_to_its_default() {
    let update = pb::Namespace {
        event_buckets: Some(2),
        seconds_per_time_bucket: Some(1),
        ..named()
    };
    let paths = mask(&[
        "event_buckets",
        "retention",
        "wide_partition.detect_bytes",
        "field_mapping",
    ]);
    let changed = Change::of(&update, Some(&paths)).unwrap().apply(&unusual());
    let mut expected = unusual();
    expected.event_buckets = 2;
    expected.retention = Retention::default();
    expected.wide_partition.detect_bytes = 16 << 20;
    expected.field_mapping.clear();
    assert_eq!(changed, expected);
    let all = Change::of(&named(), Some(&mask(&["*"])))
        .unwrap()
        .apply(&unusual());
    assert_eq!(all, Settings::default());
}

#[test]
fn a_mask_names_only_settings() {
    for (path, said) in [
        ("name", "can not be changed"),
        ("acept_limit", "did you mean `accept_limit`?"),
        ("retention.", "no setting"),
        ("", "no setting"),
    ] {
        let error = Change::of(&named(), Some(&mask(&[path]))).unwrap_err();
        assert_eq!(error.reason, Reason::InvalidUpdateMask);
        assert!(error.message.contains(said), "{error}");
    }
}
