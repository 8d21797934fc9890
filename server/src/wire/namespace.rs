//! Namespaces and their settings, in and out.
//!
//! One table lists every setting with its path, so that creation, updates with a mask and updates without one
//! can not disagree about what there is.

use anabranch_model::namespace::{Rollout, Slo, TuningMode};
use anabranch_model::{Consistency, EventTime, FieldType, ItemKey, NamespaceName, NamespaceSettings};
use anabranch_proto::admin::v1 as pb;
use pb::consistency_settings::Level;
use prost_types::{Duration as WireDuration, FieldMask};

use super::fields::{self, wire_duration, wire_i32, wire_i64};
use crate::errors::{self, Reason, ServiceError};

/// Most keys in a field mapping.
const FIELD_MAPPING_MAX: usize = 1_000;

type Settings = NamespaceSettings;

/// One setting of a namespace.
struct Setting {
    /// Its path, as a mask names it.
    path: &'static str,
    /// Sets it if the message has it; says whether it had.
    read: fn(&pb::Namespace, &mut Settings, &'static str) -> Result<bool, ServiceError>,
    /// Takes it over from other settings.
    copy: fn(&Settings, &mut Settings),
}

/// One row of the table: the path, where the message has it, how it is checked, where it goes.
macro_rules! setting {
    ($path:literal, $of:expr, $check:expr, $($place:ident).+) => {
        Setting {
            path: $path,
            read: |namespace, settings, path| {
                let value: Option<_> = ($of)(namespace);
                let Some(value) = value else { return Ok(false) };
                settings.$($place).+ = ($check)(path, value)?;
                Ok(true)
            },
            copy: |from, to| to.$($place).+ = from.$($place).+.clone(),
        }
    };
}

const SETTINGS: &[Setting] = &[
    setting!(
        "seconds_per_time_slice",
        |n: &pb::Namespace| n.seconds_per_time_slice,
        same,
        seconds_per_time_slice
    ),
    setting!(
        "seconds_per_time_bucket",
        |n: &pb::Namespace| n.seconds_per_time_bucket,
        same,
        seconds_per_time_bucket
    ),
    setting!(
        "event_buckets",
        |n: &pb::Namespace| n.event_buckets,
        unsigned,
        event_buckets
    ),
    setting!(
        "accept_limit",
        |n: &pb::Namespace| n.accept_limit,
        duration,
        accept_limit
    ),
    setting!(
        "accept_ahead_limit",
        |n: &pb::Namespace| n.accept_ahead_limit,
        duration,
        accept_ahead_limit
    ),
    setting!(
        "retention.close_after",
        |n: &pb::Namespace| n.retention.and_then(|r| r.close_after),
        some_duration,
        retention.close_after
    ),
    setting!(
        "retention.delete_after",
        |n: &pb::Namespace| n.retention.and_then(|r| r.delete_after),
        some_duration,
        retention.delete_after
    ),
    setting!(
        "queue_buffering.coalesce",
        |n: &pb::Namespace| n.queue_buffering.and_then(|q| q.coalesce),
        duration,
        queue_buffering.coalesce
    ),
    setting!(
        "queue_buffering.buffer_capacity_bytes",
        |n: &pb::Namespace| n.queue_buffering.and_then(|q| q.buffer_capacity_bytes),
        unsigned,
        queue_buffering.buffer_capacity_bytes
    ),
    setting!(
        "consistency.write",
        |n: &pb::Namespace| n.consistency.map(|c| c.write).filter(|level| *level != 0),
        consistency,
        write_consistency
    ),
    setting!(
        "consistency.read",
        |n: &pb::Namespace| n.consistency.map(|c| c.read).filter(|level| *level != 0),
        consistency,
        read_consistency
    ),
    setting!(
        "slos.read.target",
        |n: &pb::Namespace| n.slos.and_then(|s| s.read).and_then(|s| s.target),
        duration,
        read_slo.target
    ),
    setting!(
        "slos.read.max",
        |n: &pb::Namespace| n.slos.and_then(|s| s.read).and_then(|s| s.max),
        duration,
        read_slo.max
    ),
    setting!(
        "slos.write.target",
        |n: &pb::Namespace| n.slos.and_then(|s| s.write).and_then(|s| s.target),
        duration,
        write_slo.target
    ),
    setting!(
        "slos.write.max",
        |n: &pb::Namespace| n.slos.and_then(|s| s.write).and_then(|s| s.max),
        duration,
        write_slo.max
    ),
    setting!(
        "field_mapping",
        |n: &pb::Namespace| (!n.field_mapping.is_empty()).then(|| n.field_mapping.clone()),
        field_mapping,
        field_mapping
    ),
    setting!(
        "wide_partition.rollout",
        |n: &pb::Namespace| n
            .wide_partition
            .map(|w| w.rollout)
            .filter(|rollout| *rollout != 0),
        rollout,
        wide_partition.rollout
    ),
    setting!(
        "wide_partition.detect_bytes",
        |n: &pb::Namespace| n.wide_partition.and_then(|w| w.detect_bytes),
        unsigned,
        wide_partition.detect_bytes
    ),
    setting!(
        "wide_partition.target_bytes",
        |n: &pb::Namespace| n.wide_partition.and_then(|w| w.target_bytes),
        unsigned,
        wide_partition.target_bytes
    ),
    setting!(
        "wide_partition.targets_max",
        |n: &pb::Namespace| n.wide_partition.and_then(|w| w.targets_max),
        unsigned,
        wide_partition.targets_max
    ),
    setting!(
        "wide_partition.compare_ratio",
        |n: &pb::Namespace| n.wide_partition.and_then(|w| w.compare_ratio),
        same,
        wide_partition.compare_ratio
    ),
    setting!(
        "wide_partition.split_bytes_per_second",
        |n: &pb::Namespace| n.wide_partition.and_then(|w| w.split_bytes_per_second),
        unsigned,
        wide_partition.split_bytes_per_second
    ),
    setting!(
        "tuning.mode",
        |n: &pb::Namespace| n.tuning.map(|t| t.mode).filter(|mode| *mode != 0),
        tuning_mode,
        tuning.mode
    ),
    setting!(
        "tuning.density_min_bytes",
        |n: &pb::Namespace| n.tuning.and_then(|t| t.density_min_bytes),
        unsigned,
        tuning.density_min_bytes
    ),
    setting!(
        "tuning.density_max_bytes",
        |n: &pb::Namespace| n.tuning.and_then(|t| t.density_max_bytes),
        unsigned,
        tuning.density_max_bytes
    ),
];

/// The namespace of a creation: its name, and its settings with defaults for what is absent.
///
/// # Errors
/// `INVALID_NAMESPACE_NAME`, `INVALID_SETTING`.
pub fn created(namespace: Option<&pb::Namespace>) -> Result<(NamespaceName, Settings), ServiceError> {
    let default = pb::Namespace::default();
    let namespace = namespace.unwrap_or(&default);
    let name = fields::namespace("namespace.name", &namespace.name)?;
    let (settings, _) = read(namespace)?;
    Ok((name, settings))
}

/// A change of settings: which, and to what.
#[derive(Clone, Debug)]
pub struct Change {
    wanted: Settings,
    paths: Vec<&'static str>,
}

impl Change {
    /// The change that an update asks for.
    ///
    /// # Errors
    /// `INVALID_SETTING`, `INVALID_UPDATE_MASK`.
    pub fn of(namespace: &pb::Namespace, mask: Option<&FieldMask>) -> Result<Self, ServiceError> {
        let (wanted, present) = read(namespace)?;
        let paths = match mask {
            Some(mask) if !mask.paths.is_empty() => masked(mask)?,
            _ => present,
        };
        Ok(Self { wanted, paths })
    }

    /// The settings after the change.
    pub fn apply(&self, current: &Settings) -> Settings {
        let mut changed = current.clone();
        for setting in SETTINGS
            .iter()
            .filter(|setting| self.paths.contains(&setting.path))
        {
            (setting.copy)(&self.wanted, &mut changed);
        }
        changed
    }
}

/// Settings with defaults for what a message does not have, and the paths of what it has.
fn read(namespace: &pb::Namespace) -> Result<(Settings, Vec<&'static str>), ServiceError> {
    let mut settings = Settings::default();
    let mut present = Vec::new();
    for setting in SETTINGS {
        if (setting.read)(namespace, &mut settings, setting.path)? {
            present.push(setting.path);
        }
    }
    Ok((settings, present))
}

fn masked(mask: &FieldMask) -> Result<Vec<&'static str>, ServiceError> {
    let mut paths = Vec::new();
    for path in &mask.paths {
        let inside = |setting: &&Setting| {
            let rest = setting.path.strip_prefix(path.as_str());
            path == "*" || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let before = paths.len();
        paths.extend(SETTINGS.iter().filter(inside).map(|setting| setting.path));
        if paths.len() == before {
            let problem = if matches!(path.as_str(), "name" | "create_time" | "update_time") {
                format!("`{path}` can not be changed")
            } else {
                let hint = errors::did_you_mean(path, SETTINGS.iter().map(|setting| setting.path));
                format!("`{path}` is no setting of a namespace{hint}")
            };
            return Err(ServiceError::of_field(
                Reason::InvalidUpdateMask,
                "update_mask",
                problem,
            ));
        }
    }
    Ok(paths)
}

fn wrong(path: &str, problem: impl Into<String>) -> ServiceError {
    ServiceError::of_field(Reason::InvalidSetting, format!("namespace.{path}"), problem)
}

fn same<T>(_: &'static str, value: T) -> Result<T, ServiceError> {
    Ok(value)
}

fn unsigned<S, U>(path: &'static str, value: S) -> Result<U, ServiceError>
where
    S: Copy + std::fmt::Display,
    U: TryFrom<S>,
{
    U::try_from(value).map_err(|_| wrong(path, format!("is {value}; use 0 or more")))
}

fn duration(path: &'static str, value: WireDuration) -> Result<std::time::Duration, ServiceError> {
    fields::duration(Reason::InvalidSetting, &format!("namespace.{path}"), &value)
}

fn some_duration(
    path: &'static str,
    value: WireDuration,
) -> Result<Option<std::time::Duration>, ServiceError> {
    duration(path, value).map(Some)
}

fn consistency(path: &'static str, level: i32) -> Result<Consistency, ServiceError> {
    Ok(match Level::try_from(level) {
        Ok(Level::Unspecified | Level::LocalQuorum) => Consistency::LocalQuorum,
        Ok(Level::One) => Consistency::One,
        Ok(Level::Quorum) => Consistency::Quorum,
        Ok(Level::LocalOne) => Consistency::LocalOne,
        Ok(Level::EachQuorum) => Consistency::EachQuorum,
        Ok(Level::All) => Consistency::All,
        Err(_) => return Err(wrong(path, format!("{level} is no consistency level"))),
    })
}

fn rollout(path: &'static str, rollout: i32) -> Result<Rollout, ServiceError> {
    use pb::wide_partition::Rollout as Wire;
    Ok(match Wire::try_from(rollout) {
        Ok(Wire::Off) => Rollout::Off,
        Ok(Wire::Detect) => Rollout::Detect,
        Ok(Wire::Split) => Rollout::Split,
        Ok(Wire::Compare) => Rollout::Compare,
        Ok(Wire::Unspecified | Wire::Serve) => Rollout::Serve,
        Err(_) => return Err(wrong(path, format!("{rollout} is no stage of the rollout"))),
    })
}

fn tuning_mode(path: &'static str, mode: i32) -> Result<TuningMode, ServiceError> {
    use pb::tuning::Mode;
    Ok(match Mode::try_from(mode) {
        Ok(Mode::Off) => TuningMode::Off,
        Ok(Mode::Unspecified | Mode::Propose) => TuningMode::Propose,
        Ok(Mode::Apply) => TuningMode::Apply,
        Err(_) => return Err(wrong(path, format!("{mode} is no mode of tuning"))),
    })
}

fn field_mapping(
    path: &'static str,
    mapping: std::collections::HashMap<String, i32>,
) -> Result<std::collections::BTreeMap<String, FieldType>, ServiceError> {
    use pb::namespace::FieldType as Wire;
    if mapping.len() > FIELD_MAPPING_MAX {
        let problem = format!(
            "has {} keys, at most {FIELD_MAPPING_MAX} are allowed",
            mapping.len()
        );
        return Err(wrong(path, problem));
    }
    let typed = |(key, value): (String, i32)| {
        let at = format!("namespace.{path}[`{key}`]");
        ItemKey::new(key.as_str()).map_err(|why| fields::refused(Reason::InvalidSetting, &at, &why))?;
        let field_type = match Wire::try_from(value) {
            Ok(Wire::Keyword) => FieldType::Keyword,
            Ok(Wire::Integer) => FieldType::Integer,
            Ok(Wire::Double) => FieldType::Double,
            Ok(Wire::Boolean) => FieldType::Boolean,
            Ok(Wire::Timestamp) => FieldType::Timestamp,
            Ok(Wire::Unspecified) | Err(_) => {
                let problem = "use KEYWORD, INTEGER, DOUBLE, BOOLEAN or TIMESTAMP";
                return Err(ServiceError::of_field(Reason::InvalidSetting, at, problem));
            }
        };
        Ok((key, field_type))
    };
    mapping.into_iter().map(typed).collect()
}

/// A namespace on the wire, every field set.
pub fn namespace(
    name: &NamespaceName,
    settings: &Settings,
    created: EventTime,
    updated: EventTime,
) -> pb::Namespace {
    let slo = |slo: Slo| pb::Slo {
        target: Some(wire_duration(slo.target)),
        max: Some(wire_duration(slo.max)),
    };
    let wide = &settings.wide_partition;
    pb::Namespace {
        name: name.to_string(),
        seconds_per_time_slice: Some(settings.seconds_per_time_slice),
        seconds_per_time_bucket: Some(settings.seconds_per_time_bucket),
        event_buckets: Some(wire_i32(settings.event_buckets.into())),
        accept_limit: Some(wire_duration(settings.accept_limit)),
        accept_ahead_limit: Some(wire_duration(settings.accept_ahead_limit)),
        retention: Some(pb::Retention {
            close_after: settings.retention.close_after.map(wire_duration),
            delete_after: settings.retention.delete_after.map(wire_duration),
        }),
        queue_buffering: Some(pb::QueueBuffering {
            coalesce: Some(wire_duration(settings.queue_buffering.coalesce)),
            buffer_capacity_bytes: Some(wire_i64(settings.queue_buffering.buffer_capacity_bytes)),
        }),
        consistency: Some(pb::ConsistencySettings {
            write: wire_level(settings.write_consistency).into(),
            read: wire_level(settings.read_consistency).into(),
        }),
        slos: Some(pb::Slos {
            read: Some(slo(settings.read_slo)),
            write: Some(slo(settings.write_slo)),
        }),
        field_mapping: settings
            .field_mapping
            .iter()
            .map(|(key, field_type)| (key.clone(), wire_field_type(*field_type).into()))
            .collect(),
        wide_partition: Some(pb::WidePartition {
            rollout: wire_rollout(wide.rollout).into(),
            detect_bytes: Some(wire_i64(wide.detect_bytes)),
            target_bytes: Some(wire_i64(wide.target_bytes)),
            targets_max: Some(wire_i32(wide.targets_max.into())),
            compare_ratio: Some(wide.compare_ratio),
            split_bytes_per_second: Some(wire_i64(wide.split_bytes_per_second)),
        }),
        tuning: Some(pb::Tuning {
            mode: wire_mode(settings.tuning.mode).into(),
            density_min_bytes: Some(wire_i64(settings.tuning.density_min_bytes)),
            density_max_bytes: Some(wire_i64(settings.tuning.density_max_bytes)),
        }),
        create_time: fields::timestamp(created),
        update_time: fields::timestamp(updated),
    }
}

fn wire_level(consistency: Consistency) -> Level {
    match consistency {
        Consistency::One => Level::One,
        Consistency::LocalOne => Level::LocalOne,
        Consistency::LocalQuorum => Level::LocalQuorum,
        Consistency::Quorum => Level::Quorum,
        Consistency::EachQuorum => Level::EachQuorum,
        Consistency::All => Level::All,
    }
}

fn wire_rollout(rollout: Rollout) -> pb::wide_partition::Rollout {
    match rollout {
        Rollout::Off => pb::wide_partition::Rollout::Off,
        Rollout::Detect => pb::wide_partition::Rollout::Detect,
        Rollout::Split => pb::wide_partition::Rollout::Split,
        Rollout::Compare => pb::wide_partition::Rollout::Compare,
        Rollout::Serve => pb::wide_partition::Rollout::Serve,
    }
}

fn wire_mode(mode: TuningMode) -> pb::tuning::Mode {
    match mode {
        TuningMode::Off => pb::tuning::Mode::Off,
        TuningMode::Propose => pb::tuning::Mode::Propose,
        TuningMode::Apply => pb::tuning::Mode::Apply,
    }
}

fn wire_field_type(field_type: FieldType) -> pb::namespace::FieldType {
    match field_type {
        FieldType::Keyword => pb::namespace::FieldType::Keyword,
        FieldType::Integer => pb::namespace::FieldType::Integer,
        FieldType::Double => pb::namespace::FieldType::Double,
        FieldType::Boolean => pb::namespace::FieldType::Boolean,
        FieldType::Timestamp => pb::namespace::FieldType::Timestamp,
    }
}

#[cfg(test)]
mod tests;
