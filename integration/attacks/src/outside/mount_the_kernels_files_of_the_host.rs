//! The node's /proc by hostPath: another core_pattern, no masks.
//!
//! Source: ATT&CK T1611.

use bulkhead_integration::{HarnessError, Result};

use crate::{
    arena::Arena,
    column::{Column, Phase},
    technique::{Outcome, Outside},
};

pub(crate) const THIS: Outside = Outside {
    source: "ATT&CK T1611",
    tries: "bind the node's /proc and look at its first process",
    phases: &[Phase::Init],
    attempt,
};

fn attempt(arena: &Arena, column: Column, phase: Phase) -> Result<Outcome> {
    let host = std::fs::read_to_string("/proc/1/comm").map_err(HarnessError::at("read", "/proc/1/comm"))?;
    let output = arena.run_with(
        column,
        phase,
        &["--mount", "type=bind,src=/proc,dst=/hostproc,options=rbind:ro"],
        &["/bin/cat", "/hostproc/1/comm"],
    )?;
    Ok(Outcome::judged(output.stdout == host, "the node's first process was seen", &output))
}
