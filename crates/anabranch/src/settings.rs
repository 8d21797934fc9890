//! Settings of a server: built-in defaults, then a file, then the environment, then flags.
//!
//! - [`KEYS`] is every setting there is; what it does not name is an error, with the nearest name.
//! - Every value knows where it came from.
//! - A value is checked once, here; what is inside [`Settings`] is right.

mod check;
mod load;
mod origin;

use std::net::SocketAddr;
use std::path::PathBuf;

pub(crate) use load::load;
pub(crate) use origin::{Loaded, Origin};

/// One setting.
#[derive(Debug)]
pub(crate) struct Key {
    /// Its dotted name: `store.embedded.data_dir`.
    pub(crate) name: &'static str,
    /// What it is when nothing sets it.
    pub(crate) default: &'static str,
    /// What it means.
    pub(crate) help: &'static str,
    /// The flag that sets it.
    pub(crate) flag: Option<&'static str>,
}

/// Every setting, in the order that `config show` prints them.
pub(crate) const KEYS: [Key; 5] = [
    Key {
        name: "server.listen",
        default: "127.0.0.1:7600",
        help: "address to listen on; port 0 takes a free one",
        flag: Some("--listen"),
    },
    Key {
        name: "server.insecure",
        default: "false",
        help: "listen beyond loopback although there is no TLS and no authentication",
        flag: Some("--insecure"),
    },
    Key {
        name: "server.drain_timeout",
        default: "30s",
        help: "how long requests under way may take once the server is told to stop",
        flag: None,
    },
    Key {
        name: "store.kind",
        default: "embedded",
        help: "where events are kept: embedded",
        flag: None,
    },
    Key {
        name: "store.embedded.data_dir",
        default: "./anabranch-data",
        help: "folder of the embedded store",
        flag: Some("--data-dir"),
    },
];

/// Settings that were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `server.listen`.
    pub(crate) listen: SocketAddr,
    /// `server.insecure`.
    pub(crate) insecure: bool,
    /// `server.drain_timeout`.
    pub(crate) drain_timeout: std::time::Duration,
    /// `store.embedded.data_dir`.
    pub(crate) data_dir: PathBuf,
}

#[cfg(test)]
mod tests;
