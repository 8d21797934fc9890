//! The settings of a cluster.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anabranch_model::Consistency;
use anabranch_storage::cassandra::names::KeyspaceName;
use anabranch_storage::cassandra::settings::{CassandraSettings, Credentials, StoreConsistency, TlsSettings};

use super::check::{count, duration, of};
use super::origin::Loaded;

/// Checks them. What is wrong is added to the problems, and stands for nothing.
pub(super) fn check(loaded: &[Loaded], problems: &mut Vec<String>) -> CassandraSettings {
    let path = |name: &str, problems: &mut Vec<String>| of(loaded, name, problems, optional_path);
    let username = of(loaded, "store.cassandra.username", problems, text);
    let password = of(loaded, "store.cassandra.password_file", problems, password);
    let credentials = match (username, password) {
        (username, None) if username.is_empty() => None,
        (username, Some(password)) if !username.is_empty() => Some(Credentials { username, password }),
        _ => {
            problems
                .push("store.cassandra.username and store.cassandra.password_file go together".to_owned());
            None
        }
    };
    let ca_file = path("store.cassandra.tls.ca_file", problems);
    let certificate_file = path("store.cassandra.tls.certificate_file", problems);
    let key_file = path("store.cassandra.tls.key_file", problems);
    if certificate_file.is_some() != key_file.is_some() || (certificate_file.is_some() && ca_file.is_none()) {
        problems.push(
            "store.cassandra.tls.certificate_file and key_file go together, and with store.cassandra.tls.ca_file"
                .to_owned(),
        );
    }
    CassandraSettings {
        contact_points: of(loaded, "store.cassandra.contact_points", problems, contact_points),
        datacenter: of(loaded, "store.cassandra.local_datacenter", problems, optional),
        keyspace: of(loaded, "store.cassandra.keyspace", problems, keyspace).unwrap_or_default(),
        replication_factor: of(loaded, "store.cassandra.replication_factor", problems, copies),
        consistency: of(loaded, "store.cassandra.consistency", problems, consistency),
        credentials,
        tls: ca_file.map(|ca_file| TlsSettings {
            ca_file,
            client: certificate_file.zip(key_file),
        }),
        request_timeout: of(loaded, "store.cassandra.request_timeout", problems, duration),
        speculative_delay: of(loaded, "store.cassandra.speculative_delay", problems, duration),
        address_map: of(loaded, "store.cassandra.address_map", problems, address_map),
    }
}

fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

fn optional(text: &str) -> Result<Option<String>, String> {
    Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
}

fn optional_path(text: &str) -> Result<Option<PathBuf>, String> {
    Ok(optional(text)?.map(PathBuf::from))
}

fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|one| !one.is_empty())
}

fn contact_points(text: &str) -> Result<Vec<String>, String> {
    let points: Vec<String> = listed(text).map(str::to_owned).collect();
    let is_point = |point: &String| {
        point
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
    };
    match points.iter().find(|point| !is_point(point)) {
        Some(wrong) => Err(format!(
            "`{wrong}` is no node; use HOST:PORT, as in 10.0.0.1:9042"
        )),
        None if points.is_empty() => Err("name a node: HOST:PORT".to_owned()),
        None => Ok(points),
    }
}

fn keyspace(text: &str) -> Result<Option<KeyspaceName>, String> {
    KeyspaceName::new(text)
        .map(Some)
        .map_err(|error| error.to_string())
}

fn copies(text: &str) -> Result<u32, String> {
    u32::try_from(count(text)?).map_err(|_| format!("`{text}` is more than any cluster has"))
}

fn consistency(text: &str) -> Result<StoreConsistency, String> {
    let known: Result<Consistency, _> = serde_json::from_value(text.into());
    match known {
        Ok(consistency) => StoreConsistency::try_from(consistency),
        Err(_) => Err(format!(
            "there is no consistency `{text}`; use LOCAL_QUORUM, QUORUM or EACH_QUORUM"
        )),
    }
}

fn password(file: &str) -> Result<Option<String>, String> {
    let Some(file) = optional_path(file)? else {
        return Ok(None);
    };
    let read = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let password = read.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(format!("{} is empty", file.display()));
    }
    Ok(Some(password.to_owned()))
}

fn address_map(text: &str) -> Result<HashMap<IpAddr, SocketAddr>, String> {
    listed(text)
        .map(|pair| {
            let wrong = || format!("`{pair}` is not IP=IP:PORT");
            let (said, reached) = pair.split_once('=').ok_or_else(wrong)?;
            Ok((
                said.parse().map_err(|_| wrong())?,
                reached.parse().map_err(|_| wrong())?,
            ))
        })
        .collect()
}
