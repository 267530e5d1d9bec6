//! Specs that `ctr` would not write: a client of containerd may.

use std::{fs, path::Path};

use bulkhead_integration::{HarnessError, Output, Result, answered};
use serde_json::{Value, json};

use crate::{arena::Arena, column::Column, race, technique::Outcome};

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
    let mut ran = false;
    let output = answered(column.runtime(), || {
        if ran {
            drop(arena.bench.daemon.ctr(&["task", "delete", "-f", &id])?);
        }
        ran = true;
        arena.bench.start_container(&id)
    })?;
    arena.forget(&id)?;
    Ok(output)
}

/// Runs the attacker's image with more mounts, again and again, while two names of the volume change places: it bit once the
/// command says `evidence`. The old runc is the first one here, whose races are public.
pub(crate) fn race(
    arena: &Arena,
    column: Column,
    (one, other): (&Path, &Path),
    command: &[&str],
    evidence: &str,
    mounts: impl Fn(&mut Vec<Value>),
) -> Result<Outcome> {
    // What gVisor's shim could not start it leaves, so that nobody can remove it.
    if column == Column::Runsc {
        return Ok(Outcome::Untried("what runsc does not start stays behind".to_owned()));
    }
    let mut last = Outcome::Stopped("nothing ran".to_owned());
    for _ in 0..race::times(column) {
        let id = arena.create_by(arena.first_runtime(column), &arena.image(column), command)?;
        arena.bench.daemon.edit_spec(&id, |spec| {
            spec["process"]["args"] = json!(command);
            if let Some(list) = spec["mounts"].as_array_mut() {
                let volume = arena.volume();
                list.push(json!({ "type": "bind", "source": volume, "destination": "/data", "options": ["rbind", "rw"] }));
                mounts(list);
            }
        })?;
        let output = race::while_swapping(one, other, || arena.bench.start_container(&id))?;
        arena.forget(&id)?;
        last = Outcome::judged(
            output.stdout == evidence,
            format!("the container says {}", evidence.trim()),
            &output,
        );
        if matches!(last, Outcome::Succeeded(_)) || is_refusal(&output) {
            break;
        }
    }
    Ok(last)
}

/// Whether policy said no, as it will again.
pub(crate) fn is_refusal(output: &Output) -> bool {
    output.stderr.contains("bulkhead refused:")
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
