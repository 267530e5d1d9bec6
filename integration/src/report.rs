//! `target/reports/NAME.json`: what a suite printed as a table, for machines.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{HarnessError, Result, run::run, workspace};

/// Writes the rows of a table with the machine and the versions they were taken on.
pub fn write_report(name: &str, rows: &[Value]) -> Result<PathBuf> {
    let dir = workspace().join("target/reports");
    fs::create_dir_all(&dir).map_err(HarnessError::at("create", &dir))?;
    let path = dir.join(format!("{name}.json"));
    let report = json!({ "machine": machine(), "versions": versions(), "rows": rows });
    fs::write(&path, format!("{report:#}\n")).map_err(HarnessError::at("write", &path))?;
    Ok(path)
}

fn machine() -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cores = read("/proc/cpuinfo").lines().filter(|line| line.starts_with("processor")).count();
    json!({
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "cores": cores,
        "cgroup": if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { "v2" } else { "v1 or hybrid" },
    })
}

/// The first line that each says of itself; a program that is not there is left out.
fn versions() -> Value {
    let mut found = serde_json::Map::new();
    for name in ["containerd", "runc", "rustc"] {
        let output = run(Command::new(name).arg("--version"), Duration::from_secs(20));
        if let Some(line) = output.ok().as_ref().and_then(|output| output.stdout.lines().next()) {
            found.insert(name.to_owned(), line.into());
        }
    }
    found.insert("bulkhead".to_owned(), env!("CARGO_PKG_VERSION").into());
    Value::Object(found)
}
