//! Turns texts into settings, and says of each that is wrong what would fit.

use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::time::Duration;

use super::origin::Loaded;
use super::{Bus, Settings, StoreSettings};
use crate::units::{parse_duration, parse_size};

/// Checks every value. All that are wrong are named.
pub(super) fn check(loaded: &[Loaded]) -> Result<Settings, Vec<String>> {
    let mut problems = Vec::new();
    let store = store(loaded, &mut problems);
    let settings = Settings {
        listen: of(loaded, "server.listen", &mut problems, address),
        insecure: of(loaded, "server.insecure", &mut problems, boolean),
        default_deadline: of(loaded, "server.default_deadline", &mut problems, duration),
        deadline_max: of(loaded, "server.deadline_max", &mut problems, duration),
        drain_grace: of(loaded, "server.drain_grace", &mut problems, parse_duration),
        requests_in_flight_max: of(loaded, "server.requests_in_flight_max", &mut problems, count),
        request_bytes_in_flight_max: of(loaded, "server.request_bytes_in_flight_max", &mut problems, size),
        message_bytes_max: of(loaded, "server.message_bytes_max", &mut problems, size),
        read_ahead_bytes_max: of(loaded, "server.read_ahead_bytes_max", &mut problems, size),
        divert_reads: of(loaded, "server.divert_reads", &mut problems, boolean),
        planner_listen: of(loaded, "planner.listen", &mut problems, address),
        splitter_listen: of(loaded, "splitter.listen", &mut problems, address),
        store,
        bus: super::bus::check(loaded, &mut problems),
    };
    if settings.store.is_shared() && settings.bus == Bus::Embedded {
        problems.push(
            "bus.kind is embedded, which is for one process; store.kind is cassandra, which several share: set bus.kind to \
             kafka and bus.kafka.brokers to where it answers"
                .to_owned(),
        );
    }
    if problems.is_empty() {
        Ok(settings)
    } else {
        Err(problems)
    }
}

/// The value of a setting; one that is wrong is named, and stands for nothing.
pub(super) fn of<T: Default>(
    loaded: &[Loaded],
    name: &str,
    problems: &mut Vec<String>,
    read: impl Fn(&str) -> Result<T, String>,
) -> T {
    let Some(one) = loaded.iter().find(|one| one.name == name) else {
        problems.push(format!("{name} has no value"));
        return T::default();
    };
    read(&one.value).unwrap_or_else(|problem| {
        problems.push(format!("{name} (from {}): {problem}", one.origin));
        T::default()
    })
}

fn address(text: &str) -> Result<String, String> {
    match text.to_socket_addrs() {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!(
            "`{text}` is not an address; use HOST:PORT, as in 127.0.0.1:7600"
        )),
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).and_then(|duration| match duration {
        Duration::ZERO => Err("use more than 0".to_owned()),
        duration => Ok(duration),
    })
}

pub(super) fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("`{text}` is not a number above 0")),
        Ok(count) => Ok(count),
    }
}

fn size(text: &str) -> Result<usize, String> {
    let size = parse_size(text)?;
    usize::try_from(size).map_err(|_| format!("`{text}` is more than this machine can hold"))
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(format!("`{text}` is neither true nor false")),
    }
}

#[derive(Default)]
enum StoreKind {
    #[default]
    Embedded,
    #[cfg(feature = "cluster")]
    Cassandra,
}

fn store(loaded: &[Loaded], problems: &mut Vec<String>) -> StoreSettings {
    match of(loaded, "store.kind", problems, store_kind) {
        StoreKind::Embedded => StoreSettings::Embedded {
            data_dir: of(loaded, "store.embedded.data_dir", problems, folder),
        },
        #[cfg(feature = "cluster")]
        StoreKind::Cassandra => StoreSettings::Cassandra(Box::new(super::cassandra::check(loaded, problems))),
    }
}

fn store_kind(text: &str) -> Result<StoreKind, String> {
    match text {
        "embedded" => Ok(StoreKind::Embedded),
        #[cfg(feature = "cluster")]
        "cassandra" => Ok(StoreKind::Cassandra),
        #[cfg(not(feature = "cluster"))]
        "cassandra" => {
            Err("this build keeps events in a folder only; build with `--features cluster`".to_owned())
        }
        _ => Err(format!("there is no store `{text}`; use embedded or cassandra")),
    }
}

fn folder(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("name a folder".to_owned());
    }
    Ok(PathBuf::from(text))
}
