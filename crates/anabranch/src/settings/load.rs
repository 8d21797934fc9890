//! Gathers the layers and lets the last one win.

use std::path::{Path, PathBuf};

use config::{
    ConfigBuilder, ConfigError, File, FileFormat, Map, Source, Value, ValueKind, builder::DefaultState,
};

use super::origin::{Loaded, Origin};
use super::{KEYS, Settings, check};
use crate::cli::SettingsArgs;

/// The file that is read when it is there and no other is named.
const FILE_NAME: &str = "anabranch.toml";
/// Variables that set something start with this, and have `__` between the parts of a name.
const PREFIX: &str = "ANABRANCH_";

/// Loads settings from everywhere, and checks them. What is wrong is a list: all of it is named at once.
pub(crate) fn load(args: &SettingsArgs) -> Result<(Settings, Vec<Loaded>), Vec<String>> {
    let file = match &args.config {
        Some(path) => Some(path.clone()),
        None => Some(PathBuf::from(FILE_NAME)).filter(|path| path.is_file()),
    };
    load_from(
        args,
        file.as_deref(),
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
    )
}

pub(super) fn load_from(
    args: &SettingsArgs,
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<(Settings, Vec<Loaded>), Vec<String>> {
    let (loaded, mut problems) = layers(args, file, environment)?;
    match check::check(&loaded) {
        Ok(settings) if problems.is_empty() => Ok((settings, loaded)),
        Ok(_) => Err(problems),
        Err(more) => {
            problems.extend(more);
            Err(problems)
        }
    }
}

fn layers(
    args: &SettingsArgs,
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<(Vec<Loaded>, Vec<String>), Vec<String>> {
    let mut problems = Vec::new();
    let mut builder = config::Config::builder().add_source(defaults());
    if let Some(path) = file {
        let layer = read_file(path).map_err(|problem| vec![problem])?;
        problems.extend(layer.unknown());
        builder = builder.add_source(layer);
    }
    for layer in [from_environment(environment), from_flags(args)] {
        problems.extend(layer.unknown());
        builder = builder.add_source(layer);
    }
    let loaded = merged(builder, &mut problems).map_err(|error| vec![error.to_string()])?;
    Ok((loaded, problems))
}

fn merged(
    builder: ConfigBuilder<DefaultState>,
    problems: &mut Vec<String>,
) -> Result<Vec<Loaded>, ConfigError> {
    // Not by `get`, which gives a value without its origin.
    let tables = builder.build()?.collect()?;
    KEYS.iter()
        .map(|key| {
            let value = find(&tables, key.name).ok_or_else(|| ConfigError::NotFound(key.name.to_owned()))?;
            let origin = Origin::decode(value.origin());
            let value = text(value.kind).unwrap_or_else(|| {
                problems.push(format!(
                    "{} (from {origin}): it is a table or a list of lists; give a text, a number, or a list of texts",
                    key.name
                ));
                key.default.to_owned()
            });
            Ok(Loaded {
                name: key.name,
                origin,
                value,
            })
        })
        .collect()
}

/// A value as it would be written in a variable: a list with commas between.
fn text(kind: ValueKind) -> Option<String> {
    match kind {
        ValueKind::Array(values) => {
            let values: Option<Vec<String>> = values.into_iter().map(|value| one(value.kind)).collect();
            Some(values?.join(","))
        }
        kind => one(kind),
    }
}

fn one(kind: ValueKind) -> Option<String> {
    Value::new(None, kind).into_string().ok()
}

fn find(tables: &Map<String, Value>, name: &str) -> Option<Value> {
    let Some((table, rest)) = name.split_once('.') else {
        return tables.get(name).cloned();
    };
    match &tables.get(table)?.kind {
        ValueKind::Table(inner) => find(inner, rest),
        _ => None,
    }
}

/// Values of one kind of origin, by dotted name.
#[derive(Clone, Debug, Default)]
struct Layer(Vec<(String, ValueKind, Origin)>);

impl Layer {
    fn add(&mut self, name: &str, value: impl Into<ValueKind>, origin: Origin) {
        self.0.push((name.to_owned(), value.into(), origin));
    }

    /// What it sets that is no setting.
    fn unknown(&self) -> Vec<String> {
        let known = || KEYS.iter().map(|key| key.name);
        self.0
            .iter()
            .filter(|(name, ..)| known().all(|key| key != name))
            .map(|(name, _, origin)| {
                let hint = anabranch_server::errors::did_you_mean(name, known());
                match origin {
                    Origin::Environment(variable) => {
                        format!("{variable}: there is no setting `{name}`{hint}")
                    }
                    origin => format!("{origin}: there is no setting `{name}`{hint}"),
                }
            })
            .collect()
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        // Names that are no settings were said already; here they could only get in the way.
        Ok(self
            .0
            .iter()
            .filter(|(name, ..)| KEYS.iter().any(|key| key.name == name))
            .map(|(name, value, origin)| (name.clone(), Value::new(Some(&origin.encode()), value.clone())))
            .collect())
    }
}

fn defaults() -> Layer {
    let mut layer = Layer::default();
    for key in &KEYS {
        layer.add(key.name, key.default, Origin::Default);
    }
    layer
}

fn read_file(path: &Path) -> Result<Layer, String> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
    let tables = File::from_str(&text, FileFormat::Toml)
        .collect()
        .map_err(|error| format!("{shown}: {error}"))?;
    let mut layer = Layer::default();
    flatten("", tables, &mut |name, value| {
        layer.add(&name, value, Origin::File(shown.clone()));
    });
    Ok(layer)
}

fn flatten(prefix: &str, tables: Map<String, Value>, found: &mut impl FnMut(String, ValueKind)) {
    for (name, value) in tables {
        let name = if prefix.is_empty() {
            name
        } else {
            format!("{prefix}.{name}")
        };
        match value.kind {
            // An empty table sets nothing, but its name may be wrong.
            ValueKind::Table(inner) if !inner.is_empty() || is_section(&name) => flatten(&name, inner, found),
            kind => found(name, kind),
        }
    }
}

fn is_section(name: &str) -> bool {
    let prefix = format!("{name}.");
    KEYS.iter().any(|key| key.name.starts_with(&prefix))
}

fn from_environment(environment: impl Iterator<Item = (String, String)>) -> Layer {
    let mut layer = Layer::default();
    for (variable, value) in environment {
        // Without `__` it is a variable of the client, such as ANABRANCH_SERVER.
        if let Some(name) = variable.strip_prefix(PREFIX).filter(|name| name.contains("__")) {
            let name = name.to_lowercase().replace("__", ".");
            layer.add(&name, value, Origin::Environment(variable));
        }
    }
    layer
}

fn from_flags(args: &SettingsArgs) -> Layer {
    let mut layer = Layer::default();
    let mut set = |name: &str, value: Option<String>| {
        let flag = KEYS.iter().find(|key| key.name == name).and_then(|key| key.flag);
        if let (Some(value), Some(flag)) = (value, flag) {
            layer.add(name, value, Origin::Flag(flag.to_owned()));
        }
    };
    set("server.listen", args.listen.clone());
    set("server.insecure", args.insecure.then(|| "true".to_owned()));
    let data_dir = args.data_dir.as_ref().map(|path| path.display().to_string());
    set("store.embedded.data_dir", data_dir);
    layer
}
