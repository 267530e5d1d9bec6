//! procMount: Unmasked.
//!
//! Source: Pod Security baseline.

use bulkhead_integration::Result;
use serde_json::json;

use crate::{
    arena::Arena,
    column::{Column, Phase},
    spec,
    technique::{Outcome, Outside},
};

pub(crate) const THIS: Outside = Outside {
    source: "Pod Security",
    tries: "ask for no masked and read-only paths, and read /proc/keys",
    phases: &[Phase::Init],
    attempt,
};

fn attempt(arena: &Arena, column: Column, _: Phase) -> Result<Outcome> {
    let output = spec::run(arena, column, &["/bin/attacker", "run", "read_the_keys_of_others"], |spec| {
        spec["linux"]["maskedPaths"] = json!([]);
        spec["linux"]["readonlyPaths"] = json!([]);
    })?;
    Ok(Outcome::said(&output))
}
