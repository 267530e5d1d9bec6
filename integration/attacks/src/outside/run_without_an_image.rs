//! A root file system that no image stands behind.
//!
//! Source: ctr run --rootfs; Kata CVE-2026-24054.

use std::fs;

use bulkhead_integration::{HarnessError, Result};

use crate::{
    arena::Arena,
    column::{Column, Phase},
    technique::{Outcome, Outside},
};

pub(crate) const THIS: Outside = Outside {
    source: "CVE-2026-24054",
    tries: "run a directory as root file system",
    phases: &[Phase::Init],
    attempt,
};

fn attempt(arena: &Arena, column: Column, _: Phase) -> Result<Outcome> {
    let root = arena.fresh_directory("rootfs")?;
    let bin = root.join("bin");
    let made = fs::create_dir(&bin).and_then(|()| fs::copy("/bin/busybox", bin.join("echo")).map(drop));
    made.map_err(HarnessError::at("copy", &bin))?;
    let id = arena.bench.daemon.id(&format!("bare-{}", arena.next()));
    let root = root.display().to_string();
    let mut arguments = vec!["run", "--rm"];
    arguments.extend(arena.runtime(column));
    arguments.extend(column.options());
    arguments.extend(["--rootfs", &root, &id, "/bin/echo", "ran"]);
    let output = arena.bench.daemon.ctr(&arguments)?;
    arena.forget(&id)?;
    Ok(Outcome::judged(output.stdout == "ran\n", "a directory of the node ran", &output))
}
