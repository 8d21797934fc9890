//! Where each value came from.

use std::fmt;

/// Where a value came from. Later ones win over earlier ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nothing set it.
    Default,
    /// A settings file, by its path.
    File(String),
    /// A variable of the environment, by its name.
    Environment(String),
    /// A flag, by its name.
    Flag(String),
}

impl Origin {
    /// As `config` carries it with a value.
    pub(super) fn encode(&self) -> String {
        match self {
            Self::Default => "default".to_owned(),
            Self::File(path) => format!("file {path}"),
            Self::Environment(name) => format!("env {name}"),
            Self::Flag(name) => format!("flag {name}"),
        }
    }

    /// The reverse of [`Self::encode`].
    pub(super) fn decode(text: Option<&str>) -> Self {
        match text.unwrap_or_default().split_once(' ') {
            Some(("file", path)) => Self::File(path.to_owned()),
            Some(("env", name)) => Self::Environment(name.to_owned()),
            Some(("flag", name)) => Self::Flag(name.to_owned()),
            _ => Self::Default,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => f.write_str(path),
            Self::Environment(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// A setting's value as text, and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loaded {
    /// The setting.
    pub(crate) name: &'static str,
    /// Its value.
    pub(crate) value: String,
    /// Where it came from.
    pub(crate) origin: Origin,
}
