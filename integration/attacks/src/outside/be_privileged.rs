//! privileged: true.
//!
//! Source: Pod Security baseline; ATT&CK T1611.

use bulkhead_integration::Result;

use crate::{
    arena::Arena,
    column::{Column, Phase},
    technique::{Outcome, Outside},
};

pub(crate) const THIS: Outside = Outside {
    source: "ATT&CK T1611",
    tries: "ask for a privileged container",
    phases: &[Phase::Init],
    attempt,
};

fn attempt(arena: &Arena, column: Column, phase: Phase) -> Result<Outcome> {
    let output =
        arena.run_with(column, phase, &["--privileged"], &["/bin/attacker", "run", "hold_a_capability"])?;
    Ok(Outcome::judged(
        output.stdout.contains("\"succeeded\"") && output.stdout.contains("ffffff"),
        output.stdout.trim(),
        &output,
    ))
}
