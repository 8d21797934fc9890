//! Who may use whom, checked from `cargo metadata`: what is not listed here is absent on purpose.

#![expect(clippy::unwrap_used, reason = "a test panics when it fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Each crate of ours and the crates of ours that it may depend on.
const LAYERS: &[(&str, &[&str])] = &[
    ("anabranch-model", &[]),
    ("anabranch-runtime", &[]),
    ("anabranch-proto", &[]),
    ("anabranch-sstable", &[]),
    ("anabranch-split", &["anabranch-model"]),
    (
        "anabranch-storage",
        &["anabranch-model", "anabranch-runtime", "anabranch-split"],
    ),
    (
        "anabranch-catalog",
        &[
            "anabranch-model",
            "anabranch-runtime",
            "anabranch-split",
            "anabranch-storage",
        ],
    ),
    (
        "anabranch-server",
        &[
            "anabranch-bus",
            "anabranch-catalog",
            "anabranch-model",
            "anabranch-proto",
            "anabranch-runtime",
            "anabranch-split",
            "anabranch-storage",
        ],
    ),
    (
        "anabranch-bus",
        &[
            "anabranch-model",
            "anabranch-proto",
            "anabranch-runtime",
            "anabranch-storage",
        ],
    ),
    (
        "anabranch-planner",
        &[
            "anabranch-bus",
            "anabranch-catalog",
            "anabranch-model",
            "anabranch-runtime",
            "anabranch-split",
            "anabranch-storage",
        ],
    ),
    (
        "anabranch-splitter",
        &[
            "anabranch-catalog",
            "anabranch-model",
            "anabranch-runtime",
            "anabranch-split",
            "anabranch-storage",
        ],
    ),
    (
        "anabranch-simulation",
        &[
            "anabranch-bus",
            "anabranch-catalog",
            "anabranch-model",
            "anabranch-planner",
            "anabranch-runtime",
            "anabranch-server",
            "anabranch-split",
            "anabranch-splitter",
            "anabranch-storage",
        ],
    ),
    (
        "anabranch-loadtest",
        &[
            "anabranch-model",
            "anabranch-proto",
            "anabranch-runtime",
            "anabranch-server",
            "anabranch-storage",
        ],
    ),
    (
        "anabranch",
        &[
            "anabranch-bus",
            "anabranch-loadtest",
            "anabranch-model",
            "anabranch-planner",
            "anabranch-proto",
            "anabranch-runtime",
            "anabranch-server",
            "anabranch-split",
            "anabranch-splitter",
            "anabranch-sstable",
            "anabranch-storage",
        ],
    ),
];

/// Crates that only one of ours may name.
const OWNED: &[(&str, &str)] = &[
    ("lsm-tree", "anabranch-storage"),
    ("scylla", "anabranch-storage"),
    ("rdkafka", "anabranch-bus"),
    ("tonic-prost-build", "anabranch-proto"),
];

/// Crates that must not know of the wire or the network.
const PURE: &[(&str, &[&str])] = &[
    ("anabranch-model", &["tokio", "tonic", "prost", "rand"]),
    ("anabranch-split", &["tokio", "tonic", "prost", "rand", "tracing"]),
    ("anabranch-storage", &["tonic", "prost", "axum"]),
    ("anabranch-catalog", &["tonic", "prost", "axum"]),
    ("anabranch-runtime", &["tonic", "prost", "axum"]),
    ("anabranch-sstable", &["tokio", "tonic", "prost", "rand"]),
];

fn metadata() -> serde_json::Value {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
            "--manifest-path",
        ])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = metadata();
    let name = |value: &serde_json::Value| value["name"].as_str().unwrap().to_owned();
    let built = |value: &&serde_json::Value| value["kind"].as_str() != Some("dev");
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            let used = package["dependencies"].as_array().unwrap();
            (name(package), used.iter().filter(built).map(name).collect())
        })
        .collect()
}

#[test]
fn crates_use_only_the_layers_below_them() {
    let layers: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    for (package, used) in dependencies() {
        let allowed = layers
            .get(package.as_str())
            .unwrap_or_else(|| panic!("`{package}` is not in the layers"));
        for ours in used.iter().filter(|name| layers.contains_key(name.as_str())) {
            assert!(
                allowed.contains(&ours.as_str()),
                "`{package}` must not use `{ours}`"
            );
        }
    }
}

#[test]
fn engines_and_generators_are_named_in_one_crate() {
    for (package, used) in dependencies() {
        for (library, owner) in OWNED {
            assert!(
                !used.contains(*library) || package == *owner,
                "`{library}` belongs to `{owner}`, not `{package}`"
            );
        }
    }
}

#[test]
fn inner_crates_do_not_know_the_wire() {
    let dependencies = dependencies();
    for (package, banned) in PURE {
        for library in *banned {
            assert!(
                !dependencies[*package].contains(*library),
                "`{package}` must not use `{library}`"
            );
        }
    }
}

#[test]
fn the_engine_is_named_in_one_module() {
    let folder = sources("storage");
    assert_eq!(
        naming(&folder, &["lsm_tree::"]),
        [folder.join("embedded/engine/tree.rs")]
    );
}

#[test]
fn drivers_of_clusters_are_named_in_one_module_each() {
    for (package, module, names) in [
        ("storage", "cassandra", &["scylla::", "rustls::"][..]),
        ("bus", "kafka", &["rdkafka::"]),
    ] {
        let folder = sources(package);
        let naming = naming(&folder, names);
        assert!(!naming.is_empty(), "{names:?}");
        for path in naming {
            assert!(path.starts_with(folder.join(module)), "{}", path.display());
        }
    }
}

fn sources(package: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(package)
        .join("src")
}

/// Files under a folder that have one of these texts in them.
fn naming(folder: &std::path::Path, texts: &[&str]) -> Vec<std::path::PathBuf> {
    let mut files = vec![folder.to_path_buf()];
    let mut naming = Vec::new();
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(
                std::fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else {
            let source = std::fs::read_to_string(&path).unwrap();
            if texts.iter().any(|text| source.contains(text)) {
                naming.push(path);
            }
        }
    }
    naming
}

#[test]
fn the_embedded_default_is_built_without_drivers_of_clusters() {
    for package in metadata()["packages"].as_array().unwrap() {
        let default = package["features"]["default"].as_array();
        assert!(default.is_none_or(Vec::is_empty), "{}", package["name"]);
        for used in package["dependencies"].as_array().unwrap() {
            let driver = ["scylla", "rdkafka"].iter().any(|name| used["name"] == *name);
            if driver && used["kind"] != "dev" {
                assert_eq!(used["optional"], true, "{}", package["name"]);
            }
        }
    }
}
