//! `target/reports/NAME.json`: what a suite printed as a table, for machines.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{HarnessError, Result, run::run, workspace};

/// Writes the rows of a table with the machine and the versions they were taken on.
pub fn write_report(name: &str, rows: &[Value]) -> Result<PathBuf> {
    write_report_of(name, json!({ "versions": versions(), "rows": rows }))
}

/// Writes a report that has its own versions, with the machine it was taken on.
pub fn write_report_of(name: &str, mut report: Value) -> Result<PathBuf> {
    let dir = workspace().join("target/reports");
    fs::create_dir_all(&dir).map_err(HarnessError::at("create", &dir))?;
    let path = dir.join(format!("{name}.json"));
    report["machine"] = machine();
    fs::write(&path, format!("{report:#}\n")).map_err(HarnessError::at("write", &path))?;
    Ok(path)
}

/// Writes rows into a report that other suites write to as well: a row whose `key` fields are those of one of `rows`
/// gives way to it.
pub fn merge_report(name: &str, key: &[&str], rows: &[Value]) -> Result<PathBuf> {
    // Suites run one after the other; the tests of one do not.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let path = workspace().join("target/reports").join(format!("{name}.json"));
    let before = fs::read_to_string(path).unwrap_or_default();
    let before: Value = serde_json::from_str(&before).unwrap_or_default();
    let same = |one: &Value, other: &Value| key.iter().all(|field| one[*field] == other[*field]);
    let kept = before["rows"].as_array().into_iter().flatten();
    let kept = kept.filter(|old| !rows.iter().any(|new| same(old, new)));
    write_report(name, &kept.chain(rows).cloned().collect::<Vec<_>>())
}

/// What this machine is.
#[must_use]
pub fn machine() -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    json!({
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "processor": model.map_or("unknown", |(_, name)| name),
        "cores": processors.lines().filter(|line| line.starts_with("processor")).count(),
        "load": read("/proc/loadavg").split(' ').next(),
        "cgroup": if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { "v2" } else { "v1 or hybrid" },
    })
}

/// The first line that each says of itself; a program that is not there is left out.
fn versions() -> Value {
    let mut found = serde_json::Map::new();
    for name in ["containerd", "runc", "rustc"] {
        let output = run(Command::new(name).arg("--version"), Duration::from_secs(60));
        if let Some(line) = output.ok().as_ref().and_then(|output| output.stdout.lines().next()) {
            found.insert(name.to_owned(), line.into());
        }
    }
    found.insert("bulkhead".to_owned(), env!("CARGO_PKG_VERSION").into());
    Value::Object(found)
}
