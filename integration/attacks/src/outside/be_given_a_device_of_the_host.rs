//! A device of the node by request.
//!
//! Source: Pod Security; ATT&CK T1611.

use bulkhead_integration::Result;

use crate::{
    arena::Arena,
    column::{Column, Phase},
    technique::{Outcome, Outside},
};

pub(crate) const THIS: Outside = Outside {
    source: "ATT&CK T1611",
    tries: "ask for /dev/kmsg, and open it",
    phases: &[Phase::Init],
    attempt,
};

fn attempt(arena: &Arena, column: Column, phase: Phase) -> Result<Outcome> {
    let output = arena.run_with(
        column,
        phase,
        &["--device", "/dev/kmsg"],
        &["/bin/dd", "if=/dev/kmsg", "of=/dev/null", "bs=8192", "count=1"],
    )?;
    Ok(Outcome::judged(output.ok(), "/dev/kmsg was read", &output))
}
