//! CAP_SYS_ADMIN by request.
//!
//! Source: Pod Security baseline; ATT&CK T1611.

use bulkhead_integration::Result;

use crate::{
    arena::Arena,
    column::{Column, Phase},
    technique::{Outcome, Outside},
};

pub(crate) const THIS: Outside = Outside {
    source: "Pod Security",
    tries: "ask for CAP_SYS_ADMIN, and mount with it",
    phases: &[Phase::Init],
    attempt,
};

fn attempt(arena: &Arena, column: Column, phase: Phase) -> Result<Outcome> {
    let output = arena.run_with(
        column,
        phase,
        &["--cap-add", "CAP_SYS_ADMIN"],
        &["/bin/attacker", "run", "bind_the_root_elsewhere"],
    )?;
    Ok(Outcome::said(&output))
}
