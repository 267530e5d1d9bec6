//! The node's host name, to change it.
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
    tries: "share the node's uts namespace",
    phases: &[Phase::Init],
    attempt,
};

fn attempt(arena: &Arena, column: Column, _: Phase) -> Result<Outcome> {
    let host = std::fs::read_link("/proc/self/ns/uts").unwrap_or_default();
    let output = spec::run(arena, column, &["/bin/readlink", "/proc/self/ns/uts"], |spec| {
        if let Some(namespaces) = spec["linux"]["namespaces"].as_array_mut() {
            namespaces.retain(|namespace| namespace["type"] != "uts");
        }
    })?;
    Ok(if output.stdout.trim() == host.to_string_lossy() {
        Outcome::Succeeded(format!("in {}", host.display()))
    } else {
        Outcome::Stopped(reason(&output))
    })
}
