//! The node's /proc by hostPath: another core_pattern, no masks.
//!
//! Source: ATT&CK T1611.

use bulkhead_integration::Result;

use crate::{
    arena::Arena,
    column::{Column, Phase},
    image::reason,
    technique::{Outcome, Outside},
};

pub(crate) const THIS: Outside = Outside {
    source: "ATT&CK T1611",
    tries: "bind the node's /proc and look at its first process",
    phases: &[Phase::Init],
    attempt,
};

fn attempt(arena: &Arena, column: Column, phase: Phase) -> Result<Outcome> {
    let host = std::fs::read_to_string("/proc/1/comm").unwrap_or_default();
    let output = arena.run_with(column, phase, &["--mount", "type=bind,src=/proc,dst=/hostproc,options=rbind:ro"], &["/bin/cat", "/hostproc/1/comm"])?;
    Ok(if output.stdout == host {
        Outcome::Succeeded("the node's first process was seen".to_owned())
    } else {
        Outcome::Stopped(reason(&output))
    })
}
