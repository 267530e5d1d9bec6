//! A volume at /dev whose `null` is a link: a runtime that masks with the container's /dev/null masks with what the link
//! says, and here that is the masked file itself.
//!
//! Source: CVE-2025-31133.

use std::os::unix::fs::symlink;

use bulkhead_integration::{HarnessError, Result};
use serde_json::json;

use crate::{
    arena::Arena,
    column::{Column, Phase},
    spec,
    technique::{Outcome, Outside},
};

pub(crate) const THIS: Outside = Outside {
    source: "CVE-2025-31133",
    tries: "have masks made of a /dev/null that is a link, and read /proc/timer_list",
    phases: &[Phase::Init],
    attempt,
};

fn attempt(arena: &Arena, column: Column, _: Phase) -> Result<Outcome> {
    let dev = arena.fresh_directory("dev")?;
    symlink("/proc/timer_list", dev.join("null")).map_err(HarnessError::at("symlink", &dev))?;
    let output = spec::run(arena, column, &["/bin/attacker", "run", "read_the_timers_of_others"], |spec| {
        if let Some(mounts) = spec["mounts"].as_array_mut() {
            // What would lie below it has no place to be mounted on.
            mounts.retain(|mount| !mount["destination"].as_str().unwrap_or_default().starts_with("/dev"));
            let options = ["rbind", "rw"];
            mounts.push(json!({ "type": "bind", "source": dev, "destination": "/dev", "options": options }));
        }
    })?;
    Ok(Outcome::said(&output))
}
