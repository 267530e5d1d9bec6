//! Specs that `ctr` would not write: a client of containerd may.

use bulkhead_integration::{Output, Result};
use serde_json::{Value, json};

use crate::{arena::Arena, column::Column};

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
