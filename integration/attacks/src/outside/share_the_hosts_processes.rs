//! The node's processes: their environment, roots and memory.
//!
//! Source: Pod Security baseline.

use bulkhead_integration::Result;

use crate::{
    arena::Arena,
    column::{Column, Phase},
    image::reason,
    spec,
    technique::{Outcome, Outside},
};

pub(crate) const THIS: Outside = Outside {
    source: "Pod Security",
    tries: "share the node's pid namespace",
    phases: &[Phase::Init],
    attempt,
};

fn attempt(arena: &Arena, column: Column, _: Phase) -> Result<Outcome> {
    let host = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let output = spec::run(arena, column, &["/bin/readlink", "/proc/self/ns/pid"], |spec| {
        if let Some(namespaces) = spec["linux"]["namespaces"].as_array_mut() {
            namespaces.retain(|namespace| namespace["type"] != "pid");
        }
    })?;
    Ok(if output.stdout.trim() == host.to_string_lossy() {
        Outcome::Succeeded(format!("in {}", host.display()))
    } else {
        Outcome::Stopped(reason(&output))
    })
}
