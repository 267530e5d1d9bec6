//! Specs that `ctr` would not write: a client of containerd may.

use std::fs;

use bulkhead_integration::{HarnessError, Output, Result};
use serde_json::{Value, json};

use crate::{arena::Arena, column::Column, technique::Outcome};

/// Runs the attacker's image once with a spec that was changed. What a column asks of `ctr` is not asked here but for the
/// user: the change is the attack.
pub(crate) fn run(
    arena: &Arena,
    column: Column,
    command: &[&str],
    edit: impl FnOnce(&mut Value),
) -> Result<Output> {
    let id = arena.create(column, &arena.image(column), command)?;
    arena.bench.daemon.edit_spec(&id, |spec| {
        spec["process"]["args"] = json!(command);
        edit(spec);
    })?;
    let output = arena.bench.start_container(&id)?;
    arena.forget(&id)?;
    Ok(output)
}

/// Leaves one namespace out of the request, which means the node's, and looks which one the container is in.
pub(crate) fn share_namespace(arena: &Arena, column: Column, kind: &str) -> Result<Outcome> {
    let file = format!("/proc/self/ns/{kind}");
    let output = run(arena, column, &["/bin/readlink", &file], |spec| {
        if let Some(namespaces) = spec["linux"]["namespaces"].as_array_mut() {
            // The specification calls one otherwise than the kernel does.
            let name = if kind == "net" { "network" } else { kind };
            namespaces.retain(|namespace| namespace["type"] != name);
        }
    })?;
    let host = fs::read_link(&file).map_err(HarnessError::at("readlink", &file))?;
    let evidence = format!("in {}", host.display());
    Ok(Outcome::judged(output.stdout.trim() == host.to_string_lossy(), evidence, &output))
}
