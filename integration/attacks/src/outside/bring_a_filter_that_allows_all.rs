//! A seccomp profile of the request that allows everything.
//!
//! Source: Pod Security: seccompProfile Unconfined.

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
    tries: "bring a seccomp profile that allows all, and unshare a user namespace",
    phases: &[Phase::Init],
    attempt,
};

fn attempt(arena: &Arena, column: Column, _: Phase) -> Result<Outcome> {
    let output = spec::run(arena, column, &["/bin/attacker", "run", "unshare_user_namespace"], |spec| {
        spec["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW" });
    })?;
    Ok(Outcome::said(&output))
}
