//! Turns texts into settings, and says of each that is wrong what would fit.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use super::Settings;
use super::origin::Loaded;
use crate::units::parse_duration;

/// Checks every value. All that are wrong are named.
pub(super) fn check(loaded: &[Loaded]) -> Result<Settings, Vec<String>> {
    let mut problems = Vec::new();
    let listen = of(loaded, "server.listen", &mut problems, address);
    let insecure = of(loaded, "server.insecure", &mut problems, boolean);
    let drain_timeout = of(loaded, "server.drain_timeout", &mut problems, parse_duration);
    let kind = of(loaded, "store.kind", &mut problems, store_kind);
    let data_dir = of(loaded, "store.embedded.data_dir", &mut problems, folder);
    match (listen, insecure, drain_timeout, kind, data_dir) {
        (Some(listen), Some(insecure), Some(drain_timeout), Some(()), Some(data_dir)) => Ok(Settings {
            listen,
            insecure,
            drain_timeout,
            data_dir,
        }),
        _ => Err(problems),
    }
}

fn of<T>(
    loaded: &[Loaded],
    name: &str,
    problems: &mut Vec<String>,
    read: impl Fn(&str) -> Result<T, String>,
) -> Option<T> {
    let one = loaded.iter().find(|one| one.name == name)?;
    read(&one.value)
        .map_err(|problem| problems.push(format!("{name} (from {}): {problem}", one.origin)))
        .ok()
}

fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    text.to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.next())
        .ok_or_else(|| format!("`{text}` is not an address; use HOST:PORT, as in 127.0.0.1:7600"))
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(format!("`{text}` is neither true nor false")),
    }
}

fn store_kind(text: &str) -> Result<(), String> {
    match text {
        "embedded" => Ok(()),
        _ => Err(format!("there is no store `{text}` in this build; use embedded")),
    }
}

fn folder(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("name a folder".to_owned());
    }
    Ok(PathBuf::from(text))
}
