//! A hostPath of the node's root: everything else follows.
//!
//! Source: Bad Pods #3; Pod Security baseline.

use bulkhead_integration::{HarnessError, Result};

use crate::{
    arena::Arena,
    column::{Column, Phase},
    technique::{Outcome, Outside},
};

pub(crate) const THIS: Outside = Outside {
    source: "Pod Security",
    tries: "mount the node's / and read its files",
    phases: &[Phase::Init],
    attempt,
};

fn attempt(arena: &Arena, column: Column, phase: Phase) -> Result<Outcome> {
    let host = std::fs::read_to_string("/etc/passwd").map_err(HarnessError::at("read", "/etc/passwd"))?;
    let output = arena.run_with(
        column,
        phase,
        &["--mount", "type=bind,src=/,dst=/host,options=rbind:ro"],
        &["/bin/cat", "/host/etc/passwd"],
    )?;
    Ok(Outcome::judged(output.stdout == host, "the node's /etc/passwd was read", &output))
}
