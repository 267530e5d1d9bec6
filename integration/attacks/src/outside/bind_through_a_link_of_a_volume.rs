//! A link in a shared volume, bound by the runtime as root: subPath's oldest hole.
//!
//! Source: CVE-2017-1002101, CVE-2021-25741.

use std::{fs, os::unix::fs::symlink};

use bulkhead_integration::{HarnessError, Result};

use crate::{
    arena::Arena,
    column::{Column, Phase},
    technique::{Outcome, Outside},
};

pub(crate) const THIS: Outside = Outside {
    source: "CVE-2021-25741",
    tries: "have a path of a volume bound that is a link to a secret of the node",
    phases: &[Phase::Init],
    attempt,
};

fn attempt(arena: &Arena, column: Column, phase: Phase) -> Result<Outcome> {
    let secret = arena.fresh_directory("secret")?;
    let link = arena.volume().join(format!("link-{}", arena.next()));
    let made = fs::write(secret.join("key"), "of the node\n").and_then(|()| symlink(&secret, &link));
    made.map_err(HarnessError::at("symlink", &link))?;
    let mount = format!("type=bind,src={},dst=/mnt,options=rbind:ro", link.display());
    let output = arena.run_with(column, phase, &["--mount", &mount], &["/bin/cat", "/mnt/key"])?;
    Ok(Outcome::judged(output.stdout == "of the node\n", "a file of the node was read", &output))
}
