//! The kernel floor: a small C program that makes the kernel calls of a real Plan and nothing else. The Plan is made by
//! Bulkhead's own gates from the very request that the runtimes get.

mod check;
mod plan;
mod rights;
mod script;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use bulkhead_integration::{HarnessError, digest_of, run, workspace};

use crate::stage::Stage;

/// Its name as a baseline.
pub(crate) const FLOOR: &str = "kernel-floor";

/// Builds the program, once per source.
pub(crate) fn program() -> Result<PathBuf, HarnessError> {
    let source = workspace().join("integration/benches/floor/floor.c");
    let text = fs::read(&source).map_err(HarnessError::at("read", &source))?;
    let hash: String = digest_of(&text).chars().skip("sha256:".len()).take(16).collect();
    let dir = workspace().join("target/deps/floor");
    let program = dir.join(format!("floor-{hash}"));
    if !program.exists() {
        fs::create_dir_all(&dir).map_err(HarnessError::at("create", &dir))?;
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-Wall", "-Wextra", "-static", "-s", "-o"]).arg(&program).arg(&source);
        run(&mut cc, Duration::from_secs(60))?.success()?;
    }
    Ok(program)
}

/// Fails unless a process on the floor of `script` is what it is under Bulkhead.
pub(crate) fn check(stage: &Stage, program: &Path, script: &Path) -> Result<(), HarnessError> {
    check::same_as_bulkhead(stage, program, script)
}

/// Writes the script of a container that was created and not started; where it is.
pub(crate) fn script(stage: &Stage, id: &str, dir: &Path) -> Result<PathBuf, HarnessError> {
    let rootfs = stage.daemon().tasks()?.mounts(id)?;
    let plan = plan::of(stage, id, &rootfs)?;
    let text = script::of(&plan, &rootfs, dir)?;
    let path = dir.join("script");
    fs::write(&path, text).map_err(HarnessError::at("write", &path))?;
    Ok(path)
}
