//! Root's group reads what is root:root 0640, and writes volumes of others.
//!
//! Source: Pod Security; CVE-2022-2995.

use bulkhead_integration::Result;
use serde_json::json;

use crate::{
    arena::Arena,
    column::{Column, Phase},
    spec,
    technique::{Outcome, Outside},
};

pub(crate) const THIS: Outside = Outside {
    source: "CVE-2022-2995",
    tries: "ask for root's group among the additional ones",
    phases: &[Phase::Init],
    attempt,
};

fn attempt(arena: &Arena, column: Column, _: Phase) -> Result<Outcome> {
    let output = spec::run(arena, column, &["/bin/sh", "-c", "grep ^Groups: /proc/self/status"], |spec| {
        spec["process"]["user"]["additionalGids"] = json!([0]);
    })?;
    Ok(Outcome::judged(
        output.stdout.split_whitespace().any(|group| group == "0"),
        output.stdout.trim(),
        &output,
    ))
}
