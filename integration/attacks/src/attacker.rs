//! Builds the static attacker, and reads what it prints.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use bulkhead_integration::{HarnessError, Result, run, workspace};
use serde::de::DeserializeOwned;

/// Where cargo puts it.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The attacker's path on this machine, built when it is not there yet.
pub(crate) fn build() -> Result<PathBuf> {
    let dir = workspace().join("target/attacker");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(workspace()).args([
        "build",
        "--locked",
        "--release",
        "-p",
        "bulkhead-attacker",
        "--target",
        TARGET,
    ]);
    // A target directory of its own: these flags would have everything else built again.
    command
        .arg("--target-dir")
        .arg(&dir)
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C relocation-model=static");
    run(&mut command, Duration::from_secs(300))?.success()?;
    Ok(dir.join(TARGET).join("release/attacker"))
}

/// The attacker's bytes.
pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(HarnessError::at("read", &path))
}

/// The JSON lines of what it printed.
pub(crate) fn lines<T: DeserializeOwned>(text: &str) -> Result<Vec<T>> {
    let wrong = |line: &str| HarnessError::Format { what: "a line of the attacker", found: line.to_owned() };
    let lines = text.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).map_err(|_| wrong(line))).collect()
}
