//! The kernel floor: a small C program that makes the kernel calls of a real Plan and nothing else. The Plan is made by
//! Bulkhead's own gates from the very request that the runtimes get.

mod check;
mod plan;
mod rights;
mod script;

use std::{
    fs,
    path::{Path, PathBuf},
};

use bulkhead_integration::HarnessError;

use crate::{compiled, stage::Stage};

/// Its name as a baseline.
pub(crate) const FLOOR: &str = "kernel-floor";

/// Builds the program, once per source.
pub(crate) fn program() -> Result<PathBuf, HarnessError> {
    compiled::program("floor", &["-static"])
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
