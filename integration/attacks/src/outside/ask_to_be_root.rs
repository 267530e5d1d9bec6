//! runAsUser: 0.
//!
//! Source: Pod Security restricted.

use bulkhead_integration::Result;
use serde_json::json;

use crate::{
    arena::Arena,
    column::{Column, Phase},
    spec,
    technique::{Outcome, Outside},
};

pub(crate) const THIS: Outside =
    Outside { source: "Pod Security", tries: "ask for uid 0", phases: &[Phase::Init], attempt };

fn attempt(arena: &Arena, column: Column, _: Phase) -> Result<Outcome> {
    let output = spec::run(arena, column, &["/bin/attacker", "run", "be_root"], |spec| {
        spec["process"]["user"] = json!({ "uid": 0, "gid": 0 });
    })?;
    Ok(Outcome::said(&output))
}
