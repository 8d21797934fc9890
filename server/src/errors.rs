//! Why a request failed: one type, one catalogue, one way onto the wire.
//!
//! ```text
//! errors.toml ─build.rs─▶ Reason ─┐
//! what happened, with its values ─┴▶ ServiceError ─▶ tonic::Status ─▶ gRPC trailers, JSON body, log
//! ```
//!
//! - Inside the server an error is a [`Reason`] and its facts; code, detail, fix and delay are looked up in
//!   the catalogue at the edge.
//! - On the wire it carries exactly one `ErrorInfo` (domain `anabranch.dev`), and the detail its reason asks for.
//! - Every variable of a message is in the metadata too, so that texts may change freely.
//! - What a store says maps to a reason in one `match`, here.

mod catalogue;
mod status;

use std::collections::BTreeMap;
use std::time::Duration;

use anabranch_storage::{ErrorKind, StoreError};

pub use catalogue::{Detail, Entry, Reason};
pub use status::{dress, reason_of};

/// The domain of every `ErrorInfo` of this service.
pub const DOMAIN: &str = "anabranch.dev";

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", .reason.name())]
pub struct ServiceError {
    /// Which entry of the catalogue.
    pub reason: Reason,
    /// What happened, with the values: lowercase, no full stop.
    pub message: String,
    /// Fields of the request that are at fault, by path (`events[3].event_id`), and why.
    pub fields: Vec<(String, String)>,
    /// Every variable in the message, by lowerCamel name.
    pub metadata: BTreeMap<String, String>,
    /// When to send the same request again.
    pub retry_after: Option<Duration>,
}

impl ServiceError {
    /// An error of a reason, with what happened.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            fields: Vec::new(),
            metadata: BTreeMap::new(),
            retry_after: None,
        }
    }

    /// An error of one field: its path, and what is wrong and would fit.
    pub fn of_field(reason: Reason, path: impl Into<String>, problem: impl Into<String>) -> Self {
        let (path, problem) = (path.into(), problem.into());
        Self::new(reason, format!("{path}: {problem}"))
            .with("field", &path)
            .with("problem", &problem)
            .field(path, problem)
    }

    /// A namespace is not there; `known` are the ones that are, to name the nearest.
    pub fn namespace_not_found<'a>(namespace: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let hint = did_you_mean(namespace, known);
        Self::new(
            Reason::NamespaceNotFound,
            format!("no namespace `{namespace}`{hint}"),
        )
        .with("namespace", namespace)
        .with("hint", hint)
    }

    /// A rule of our own does not hold.
    pub fn internal(problem: impl Into<String>) -> Self {
        let problem = problem.into();
        Self::new(
            Reason::Internal,
            format!("server met a bug of its own: {problem}"),
        )
        .with("problem", problem)
    }

    /// Names a field at fault.
    #[must_use]
    pub fn field(mut self, path: impl Into<String>, description: impl Into<String>) -> Self {
        self.fields.push((path.into(), description.into()));
        self
    }

    /// Adds a variable of the message.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.metadata.insert(name.to_owned(), value.to_string());
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        let problem = anabranch_runtime::error_chain(&error);
        let reason = match error.kind() {
            ErrorKind::Overloaded => Reason::ServerOverloaded,
            ErrorKind::Corrupt => Reason::StoreCorrupt,
            ErrorKind::Unknown => Reason::StoreOutcomeUnknown,
            // A table that is not there any more was dropped under the request: try again and the slice is gone.
            ErrorKind::Unavailable | ErrorKind::NotFound => Reason::StoreUnreachable,
            ErrorKind::Invalid => Reason::StoreRefused,
        };
        Self::new(reason, problem.clone()).with("problem", problem)
    }
}

/// `; did you mean …?` with the known name that is nearest to one that is not known, or nothing.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map_or_else(String::new, |nearest| format!("; did you mean `{nearest}`?"))
}

/// The known name that is nearest to one that is not known, if any is near at all.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    known
        .into_iter()
        .map(|candidate| {
            let distance = strsim::damerau_levenshtein(&wanted, &candidate.to_lowercase());
            (distance, candidate)
        })
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(name.len()) / 3)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests;
