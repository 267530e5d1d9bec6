//! An OCI hook runs on the node, as root, before the container is confined.
//!
//! Source: OCI runtime specification, POSIX-platform hooks; NVIDIA CVE-2025-23266.

use bulkhead_integration::Result;
use serde_json::json;

use crate::{
    arena::Arena,
    column::{Column, Phase},
    spec,
    technique::{Outcome, Outside},
};

pub(crate) const THIS: Outside = Outside {
    source: "CVE-2025-23266",
    tries: "bring a hook that makes a file on the node",
    phases: &[Phase::Init],
    attempt,
};

fn attempt(arena: &Arena, column: Column, _: Phase) -> Result<Outcome> {
    let marker = arena.fresh_directory("hook")?.join("made");
    let touch = json!({ "path": "/bin/busybox", "args": ["touch", marker] });
    let output = spec::run(arena, column, &["/bin/true"], |spec| {
        spec["hooks"] = json!({ "prestart": [touch], "createRuntime": [touch] });
    })?;
    Ok(Outcome::judged(marker.exists(), "a hook ran on the node", &output))
}
