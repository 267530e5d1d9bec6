//! Builds the static attacker of integration/attacks/inside.

use std::{path::PathBuf, process::Command, time::Duration};

use crate::{HarnessError, Result, run::run, tools::workspace};

/// Where cargo puts it.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The attacker's path on this machine; cargo builds it where it is not there yet.
pub fn attacker() -> Result<PathBuf> {
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
    let program = dir.join(TARGET).join("release/attacker");
    if program.exists() {
        return Ok(program);
    }
    Err(HarnessError::Missing {
        what: program.display().to_string(),
        fix: "cargo build -p bulkhead-attacker",
    })
}
