//! Settings of a namespace from a file and from `--set`, as the message that the server takes.
//!
//! The message's own descriptor says which settings there are and what they look like, so that a setting
//! is added in one place: the `.proto` file. Durations may be `15m`, sizes `64KiB`, enums of any case.

use anabranch_proto::admin::v1::Namespace;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};

use crate::cli::NamespaceSettings;
use crate::exit::Failure;
use crate::messages;
use crate::units::{parse_duration, parse_size};

const MESSAGE: &str = "anabranch.admin.v1.Namespace";

/// Fields that are not settings.
const NOT_SETTINGS: [&str; 3] = ["name", "create_time", "update_time"];

/// Settings by their names in the `.proto` file, nested as there, in proto3 JSON.
pub(super) fn read(flags: &NamespaceSettings) -> Result<Value, Failure> {
    let message = messages::descriptor(MESSAGE).map_err(Failure::internal)?;
    let mut settings = Map::new();
    if let Some(path) = &flags.config {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::usage(format_args!("--config {shown}: {error}")))?;
        let given: Value = if text.trim_start().starts_with('{') {
            serde_json::from_str(&text)
                .map_err(|error| Failure::usage(format_args!("--config {shown}: {error}")))?
        } else {
            toml::from_str(&text)
                .map_err(|error| Failure::usage(format_args!("--config {shown}: {error}")))?
        };
        settings = table(&message, "", &given)
            .map_err(|problem| Failure::usage(format_args!("--config {shown}: {problem}")))?;
    }
    for assignment in &flags.set {
        assign(&message, &mut settings, assignment)
            .map_err(|problem| Failure::usage(format_args!("--set {assignment}: {problem}")))?;
    }
    Ok(Value::Object(settings))
}

/// The message of settings.
pub(super) fn message(settings: &Value) -> Result<Namespace, Failure> {
    messages::from_json_text(MESSAGE, &settings.to_string()).map_err(Failure::usage)
}

/// The paths that an update mask names: of every setting that is there, the innermost.
pub(super) fn paths(settings: &Value) -> Vec<String> {
    fn walk(prefix: &str, settings: &Value, out: &mut Vec<String>) {
        match settings {
            // A map is set as a whole.
            Value::Object(fields) if prefix != "field_mapping" => {
                for (name, value) in fields {
                    let path = if prefix.is_empty() {
                        name.clone()
                    } else {
                        format!("{prefix}.{name}")
                    };
                    walk(&path, value, out);
                }
            }
            _ => out.push(prefix.to_owned()),
        }
    }
    let mut out = Vec::new();
    walk("", settings, &mut out);
    out
}

/// `widePartition.detectBytes` as `wide_partition.detect_bytes`; keys of maps stay as they are.
pub(super) fn snake(path: &str) -> String {
    if let Some(key) = path.strip_prefix("fieldMapping.") {
        return format!("field_mapping.{key}");
    }
    let mut out = String::new();
    for c in path.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

fn assign(
    message: &MessageDescriptor,
    settings: &mut Map<String, Value>,
    assignment: &str,
) -> Result<(), String> {
    let (path, value) = assignment
        .split_once('=')
        .ok_or("expected KEY=VALUE, as in accept_limit=15m")?;
    let (name, rest) = match path.split_once('.') {
        Some((name, rest)) => (name.trim(), Some(rest.trim())),
        None => (path.trim(), None),
    };
    let field = field(message, "", name)?;
    let name = field.name().to_owned();
    let value = match rest {
        // Everything after the map's name is the key.
        Some(key) if field.is_map() => {
            let one: Map<_, _> = [(key.to_owned(), Value::from(value.trim()))]
                .into_iter()
                .collect();
            of_field(&field, &name, &Value::Object(one))?
        }
        Some(rest) => {
            let Kind::Message(inner) = field.kind() else {
                return Err(format!("{name} has no settings inside it"));
            };
            let mut nested = match settings.remove(&name) {
                Some(Value::Object(nested)) => nested,
                _ => Map::new(),
            };
            assign(&inner, &mut nested, &format!("{rest}={value}"))?;
            Value::Object(nested)
        }
        None => of_field(&field, &name, &Value::from(value.trim()))?,
    };
    match (settings.get_mut(&name), value) {
        (Some(Value::Object(there)), Value::Object(more)) => there.extend(more),
        (_, value) => {
            settings.insert(name, value);
        }
    }
    Ok(())
}

fn table(message: &MessageDescriptor, prefix: &str, given: &Value) -> Result<Map<String, Value>, String> {
    let Value::Object(given) = given else {
        return Err(format!(
            "{} is a table of settings",
            if prefix.is_empty() { "the file" } else { prefix }
        ));
    };
    let mut out = Map::new();
    for (name, value) in given {
        let field = field(message, prefix, name)?;
        let path = format!("{prefix}{}", field.name());
        out.insert(field.name().to_owned(), of_field(&field, &path, value)?);
    }
    Ok(out)
}

fn field(message: &MessageDescriptor, prefix: &str, name: &str) -> Result<FieldDescriptor, String> {
    let known = || {
        message
            .fields()
            .filter(|field| message.full_name() != MESSAGE || !NOT_SETTINGS.contains(&field.name()))
    };
    known()
        .find(|field| field.name() == name || field.json_name() == name)
        .ok_or_else(|| {
            let names: Vec<String> = known().map(|field| field.name().to_owned()).collect();
            let hint = anabranch_server::errors::did_you_mean(name, names.iter().map(String::as_str));
            if hint.is_empty() {
                format!(
                    "there is no setting `{prefix}{name}`; there are {}",
                    names.join(", ")
                )
            } else {
                format!("there is no setting `{prefix}{name}`{hint}")
            }
        })
}

/// A value as proto3 JSON wants it.
fn of_field(field: &FieldDescriptor, path: &str, given: &Value) -> Result<Value, String> {
    if field.is_map() {
        let Value::Object(entries) = given else {
            return Err(format!("{path} is set by key, as in {path}.added=INTEGER"));
        };
        let Kind::Message(entry) = field.kind() else {
            return Err(format!("{path} is no map"));
        };
        let of = entry.map_entry_value_field();
        let one = |(key, value): (&String, &Value)| {
            of_field(&of, &format!("{path}.{key}"), value).map(|value| (key.clone(), value))
        };
        return Ok(Value::Object(entries.iter().map(one).collect::<Result<_, _>>()?));
    }
    let at = |problem: String| format!("{path}: {problem}");
    let text = match given {
        Value::String(text) => Some(text.as_str()),
        _ => None,
    };
    match (field.kind(), text) {
        (Kind::Message(inner), _) if inner.full_name() == "google.protobuf.Duration" => {
            let duration = match given {
                Value::Number(seconds) => parse_duration(&format!("{seconds}s")),
                _ => parse_duration(text.unwrap_or_default()),
            };
            let duration = duration.map_err(at)?;
            Ok(Value::from(format!(
                "{}.{:09}s",
                duration.as_secs(),
                duration.subsec_nanos()
            )))
        }
        (Kind::Message(inner), None) => Ok(Value::Object(table(&inner, &format!("{path}."), given)?)),
        (Kind::Message(_), Some(_)) => Err(format!(
            "{path} holds settings; set one of them: {path}.NAME=VALUE"
        )),
        (Kind::Enum(of), Some(text)) => {
            let text = text.to_uppercase();
            let names: Vec<String> = of
                .values()
                .filter(|value| value.number() != 0)
                .map(|value| value.name().to_owned())
                .collect();
            if names.contains(&text) {
                Ok(Value::from(text))
            } else {
                Err(at(format!("there is no `{text}`; use {}", names.join(", "))))
            }
        }
        (Kind::Int64 | Kind::Int32, Some(text)) if field.name().contains("bytes") => {
            parse_size(text).map(Value::from).map_err(at)
        }
        (Kind::Int64 | Kind::Int32, Some(text)) if field.name().starts_with("seconds_") => {
            match text.parse::<i64>() {
                Ok(seconds) => Ok(Value::from(seconds)),
                Err(_) => parse_duration(text)
                    .map(|duration| Value::from(duration.as_secs()))
                    .map_err(at),
            }
        }
        (Kind::Int64 | Kind::Int32, Some(text)) => text
            .parse::<i64>()
            .map(Value::from)
            .map_err(|_| at(format!("`{text}` is not a whole number"))),
        (Kind::Double, Some(text)) => match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Value::from(number)),
            _ => Err(at(format!("`{text}` is not a number"))),
        },
        _ => Ok(given.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(assignments: &[&str]) -> Result<Namespace, String> {
        let flags = NamespaceSettings {
            config: None,
            set: assignments.iter().map(ToString::to_string).collect(),
        };
        read(&flags)
            .and_then(|settings| message(&settings))
            .map_err(|failure| failure.text)
    }

    #[test]
    fn settings_are_set_one_by_one_in_the_units_of_people() {
        let namespace = set(&[
            "accept_limit=15m",
            "seconds_per_time_slice=1d",
            "event_buckets=4",
            "wide_partition.detect_bytes=64KiB",
            "wide_partition.rollout=detect",
            "wide_partition.compare_ratio=0.5",
            "slos.read.max=0.25s",
            "field_mapping.added=INTEGER",
            "field_mapping.a.b=keyword",
            "retention.close_after=7d",
        ])
        .unwrap();
        assert_eq!(namespace.accept_limit.unwrap().seconds, 900);
        assert_eq!(namespace.seconds_per_time_slice, Some(86_400));
        assert_eq!(namespace.event_buckets, Some(4));
        let wide = namespace.wide_partition.unwrap();
        assert_eq!(wide.detect_bytes, Some(65_536));
        assert_eq!(wide.rollout().as_str_name(), "DETECT");
        assert_eq!(wide.compare_ratio, Some(0.5));
        assert_eq!(
            namespace.slos.unwrap().read.unwrap().max.unwrap().nanos,
            250_000_000
        );
        assert_eq!(namespace.field_mapping["added"], 2);
        assert_eq!(namespace.field_mapping["a.b"], 1);
        assert_eq!(namespace.retention.unwrap().close_after.unwrap().seconds, 604_800);
    }

    #[test]
    fn a_wrong_setting_names_the_nearest_or_what_would_fit() {
        assert!(
            set(&["acept_limit=15m"])
                .unwrap_err()
                .contains("did you mean `accept_limit`")
        );
        assert!(set(&["wide_partition.detect=1"]).is_err());
        assert!(set(&["wide_partition.compare_ratio=NaN"]).is_err());
        for wrong in ["field_mapping.x=FOO", "wide_partition.rollout=foo"] {
            let problem = set(&[wrong]).unwrap_err();
            assert!(problem.contains("there is no `FOO`; use "), "{problem}");
        }
        assert!(
            set(&["accept_limit=soon"])
                .unwrap_err()
                .contains("not a duration")
        );
        assert!(
            set(&["event_buckets=many"])
                .unwrap_err()
                .contains("not a whole number")
        );
        assert!(set(&["accept_limit"]).unwrap_err().contains("KEY=VALUE"));
        assert!(set(&["name=x"]).unwrap_err().contains("no setting `name`"));
        assert!(
            set(&["wide_partition=x"])
                .unwrap_err()
                .contains("wide_partition.NAME=VALUE")
        );
        assert!(set(&["wide_partition.rollout=sideways"]).is_err());
    }

    #[test]
    fn a_file_says_the_same_in_toml_and_in_json() {
        let folder = tempfile::tempdir().unwrap();
        let read_file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            let flags = NamespaceSettings {
                config: Some(path),
                set: vec!["event_buckets=2".to_owned()],
            };
            let settings = read(&flags).unwrap();
            (paths(&settings), message(&settings).unwrap())
        };
        let toml = read_file(
            "n.toml",
            "accept_limit = \"15m\"\n[wide_partition]\ndetect_bytes = \"64KiB\"\n[field_mapping]\nadded = \"INTEGER\"\n",
        );
        let json = read_file(
            "n.json",
            r#"{"acceptLimit": "900s", "widePartition": {"detectBytes": 65536}, "field_mapping": {"added": "integer"}}"#,
        );
        assert_eq!(toml.1, json.1);
        let mut paths = toml.0;
        paths.sort();
        assert_eq!(
            paths,
            [
                "accept_limit",
                "event_buckets",
                "field_mapping",
                "wide_partition.detect_bytes"
            ]
        );
    }

    #[test]
    fn names_are_shown_as_they_are_set() {
        assert_eq!(snake("widePartition.detectBytes"), "wide_partition.detect_bytes");
        assert_eq!(snake("fieldMapping.camelCase"), "field_mapping.camelCase");
    }
}
