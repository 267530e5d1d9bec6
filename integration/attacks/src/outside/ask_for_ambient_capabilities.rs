//! Ambient capabilities give a plain user what no_new_privs cannot take.
//!
//! Source: CVE-2022-24769, capabilities(7).

use bulkhead_integration::Result;
use serde_json::json;

use crate::{
    arena::Arena,
    column::{Column, Phase},
    spec,
    technique::{Outcome, Outside},
};

pub(crate) const THIS: Outside = Outside {
    source: "CVE-2022-24769",
    tries: "ask for CAP_SYS_ADMIN in every set",
    phases: &[Phase::Init],
    attempt,
};

fn attempt(arena: &Arena, column: Column, _: Phase) -> Result<Outcome> {
    let held = json!(["CAP_SYS_ADMIN"]);
    let output = spec::run(arena, column, &["/bin/attacker", "run", "hold_a_capability"], |spec| {
        for set in ["bounding", "effective", "inheritable", "permitted", "ambient"] {
            spec["process"]["capabilities"][set] = held.clone();
        }
    })?;
    Ok(Outcome::judged(output.stdout.contains("CapEff 0000000000200000"), output.stdout.trim(), &output))
}
