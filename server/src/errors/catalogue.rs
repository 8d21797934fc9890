//! The catalogue of reasons, made from `errors.toml` when the crate is built.

use tonic::Code;

/// What comes beside the `ErrorInfo` of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Fields of the request and what is wrong with them.
    BadRequest,
    /// What must hold first.
    PreconditionFailure,
    /// Which limit was met.
    QuotaFailure,
    /// Which resource it is about.
    ResourceInfo,
    /// Nothing.
    None,
}

/// One entry of the catalogue.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The reason as it is on the wire: `NAMESPACE_NOT_FOUND`.
    pub reason: &'static str,
    /// The gRPC code.
    pub code: Code,
    /// What comes beside the `ErrorInfo`.
    pub detail: Detail,
    /// The HTTP status of the JSON gateway.
    pub http: u16,
    /// How long to wait before sending the request again, where that can help.
    pub retry_after_ms: Option<u64>,
    /// What it means.
    pub summary: &'static str,
    /// What to do about it.
    pub fix: &'static str,
    /// How to meet it.
    pub example: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/reasons.rs"));

impl Reason {
    /// The name on the wire: `NAMESPACE_NOT_FOUND`.
    pub const fn name(self) -> &'static str {
        self.entry().reason
    }

    /// The reason of a name, whatever its case, with `-` for `_` if one likes.
    pub fn named(name: &str) -> Option<Self> {
        let name = name.replace('-', "_");
        Self::ALL
            .iter()
            .copied()
            .find(|reason| reason.name().eq_ignore_ascii_case(&name))
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
