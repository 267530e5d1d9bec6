//! allowPrivilegeEscalation, and a setuid program of the image.
//!
//! Source: Pod Security restricted; no_new_privs.

use bulkhead_integration::Result;

use crate::{
    arena::Arena,
    column::{Column, Phase},
    technique::{Outcome, Outside},
};

pub(crate) const THIS: Outside = Outside {
    source: "Pod Security",
    tries: "ask for no no_new_privs, and run a setuid program",
    phases: &[Phase::Init],
    attempt,
};

fn attempt(arena: &Arena, column: Column, phase: Phase) -> Result<Outcome> {
    let output = arena.run_with(column, phase, &["--allow-new-privs"], &["/bin/setuid-id", "whoami"])?;
    Ok(Outcome::judged(output.stdout.trim() == "0", "effective uid 0", &output))
}
