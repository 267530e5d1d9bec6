//! Fails on an edge between crates that the architecture forbids: docs/architecture.md says why each is there.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

/// Crates that must not be reached from a crate, directly or through others.
const NEVER_REACHED: &[(&str, &[&str], &str)] = &[
    ("bulkhead-model", &["nix", "tokio", "landlock", "libcontainer"], "model is data"),
    ("bulkhead-policy", &["nix", "tokio", "tonic", "landlock", "libcontainer", "ttrpc"], "policy is pure"),
    ("bulkhead-plan", &["nix", "tokio", "tonic", "landlock", "libcontainer", "ttrpc"], "plan is pure"),
    ("bulkhead-binding", &["nix", "tokio", "tonic", "libcontainer", "ttrpc"], "binding is pure"),
    ("bulkhead-profiles", &["nix", "tokio", "landlock", "libcontainer"], "profiles makes no system call"),
    (
        "bulkhead-generate",
        &["nix", "tokio", "landlock", "libcontainer", "tonic"],
        "generate reads files, and no more",
    ),
    ("bulkhead-confine", &["libcontainer", "tokio", "ttrpc", "tonic"], "host and guest share confine"),
    ("bulkhead-trust", &["tokio", "tonic", "ttrpc", "libcontainer"], "trust knows no socket"),
    ("bulkhead-layers", &["flate2", "ruzstd", "tar", "tokio"], "layers reads no file of an image"),
    (
        "bulkhead-audit",
        &["bulkhead-policy", "tokio", "tonic", "libcontainer"],
        "the record takes down, and decides nothing",
    ),
    (
        "bulkhead-gather",
        &["bulkhead-policy", "bulkhead-trust", "bulkhead-containerd", "tokio", "libcontainer"],
        "what is gathered is believed by nobody yet",
    ),
    ("bulkhead-cgroup", &["libcontainer", "libcgroups", "tokio"], "cgroups are ours"),
    ("bulkhead-launch", &["tokio", "tonic", "ttrpc"], "libcontainer never meets a thread"),
    (
        "containerd-shim-bulkhead-v2",
        &[
            "bulkhead-trust",
            "bulkhead-generate",
            "iced-x86",
            "gimli",
            "goblin",
            "object",
            "sigstore-verify",
            "zstd",
            "tar",
            "bulkhead-gather",
            "ureq",
            "rustls",
        ],
        "the shim links no parser of images, signatures or ELF files",
    ),
];

/// The only crates of ours that may name a dependency in their own manifest.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("libcontainer", &["bulkhead-launch"]),
    ("libcgroups", &["bulkhead-launch"]),
    ("ttrpc", &["containerd-shim-bulkhead-v2"]),
    ("containerd-shim", &["containerd-shim-bulkhead-v2"]),
    ("landlock", &["bulkhead-confine", "bulkhead-node"]),
    ("seccompiler", &["bulkhead-profiles", "bulkhead-confine"]),
    ("bulkhead-trust", &["bulkhead-cli"]),
    ("bulkhead-generate", &["bulkhead-cli"]),
    ("bulkhead-policy", &["bulkhead-plan", "bulkhead-cli", "bulkhead-node", "containerd-shim-bulkhead-v2"]),
    ("bulkhead-containerd", &["bulkhead-cli", "containerd-shim-bulkhead-v2"]),
    ("bulkhead-launch", &["containerd-shim-bulkhead-v2"]),
    ("bulkhead-audit", &["containerd-shim-bulkhead-v2"]),
    ("bulkhead-gather", &["bulkhead-cli"]),
    ("ureq", &["bulkhead-gather"]),
    ("rustls", &["bulkhead-gather"]),
    ("serde-saphyr", &["bulkhead-cli"]),
];

/// Crates whose sources may not touch the world.
const PURE: &[&str] = &["runtime/model", "runtime/binding", "runtime/policy", "runtime/plan", "profiles"];
const WORLD: &[&str] = &[
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
    "std::os::unix::net",
    "Instant::now",
    "SystemTime::now",
];

/// Package name → names of its normal dependencies.
fn graph() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--filter-platform=x86_64-unknown-linux-gnu"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let name_of: BTreeMap<&str, &str> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| (p["id"].as_str().unwrap(), p["name"].as_str().unwrap()))
        .collect();
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in metadata["resolve"]["nodes"].as_array().unwrap() {
        let edges = graph.entry(name_of[node["id"].as_str().unwrap()].to_owned()).or_default();
        for dep in node["deps"].as_array().unwrap() {
            if dep["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"].is_null()) {
                edges.insert(name_of[dep["pkg"].as_str().unwrap()].to_owned());
            }
        }
    }
    graph
}

fn reached(graph: &BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<String> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from.to_owned()]);
    while let Some(name) = open.pop() {
        for dep in graph.get(&name).into_iter().flatten() {
            if seen.insert(dep.clone()) {
                open.push(dep.clone());
            }
        }
    }
    seen
}

#[test]
fn no_crate_reaches_what_the_architecture_forbids() {
    let graph = graph();
    for (from, forbidden, why) in NEVER_REACHED {
        assert!(graph.contains_key(*from), "{from} is no crate any more: mend this table");
        let reached = reached(&graph, from);
        for name in *forbidden {
            assert!(!reached.contains(*name), "{from} reaches {name}, but {why}");
        }
    }
}

#[test]
fn only_the_crate_made_for_it_names_a_dependency() {
    let graph = graph();
    for (dependency, allowed) in ONLY_IN {
        for (package, edges) in &graph {
            let ours = package.starts_with("bulkhead-") || package == "containerd-shim-bulkhead-v2";
            let test_crate = ["bulkhead-integration", "bulkhead-fuzz"].contains(&package.as_str());
            if ours && !test_crate && edges.contains(*dependency) {
                assert!(allowed.contains(&package.as_str()), "{package} depends on {dependency}");
            }
        }
        for package in *allowed {
            assert!(graph.contains_key(*package), "{package} is no crate any more: mend this table");
        }
    }
}

/// The tables above bite: an edge that must be there is found by the same walk.
#[test]
fn the_walk_finds_an_edge_that_is_there() {
    let graph = graph();
    assert!(reached(&graph, "containerd-shim-bulkhead-v2").contains("libcontainer"));
    assert!(graph["bulkhead-launch"].contains("libcontainer"));
}

#[test]
fn pure_crates_name_no_file_clock_network_or_process() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for dir in PURE {
        let mut open = vec![top.join(dir).join("src")];
        while let Some(path) = open.pop() {
            if path.is_dir() {
                open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                continue;
            }
            let source = std::fs::read_to_string(&path).unwrap();
            let code = source.split("#[cfg(test)]").next().unwrap();
            for word in WORLD {
                assert!(!code.contains(word), "{} names {word}, but its crate is pure", path.display());
            }
        }
    }
}
