//! An image that has no layer: what runs is a program of a volume, in a root that nobody made.
//!
//! Source: CVE-2026-24054 (Kata took the host's device for the root of such an image).

use std::{fs, fs::Permissions, os::unix::fs::PermissionsExt as _};

use bulkhead_integration::{HarnessError, Result};

use crate::{
    arena::Arena,
    column::{Column, Phase},
    technique::{Outcome, Outside},
};

pub(crate) const THIS: Outside = Outside {
    source: "CVE-2026-24054",
    tries: "run a program of a volume in an image that has no layer",
    phases: &[Phase::Init],
    attempt,
};

fn attempt(arena: &Arena, column: Column, _: Phase) -> Result<Outcome> {
    let name = format!("program-{}", arena.next());
    let program = arena.volume().join(&name);
    let made = fs::copy(&arena.program, &program)
        .and_then(|_| fs::set_permissions(&program, Permissions::from_mode(0o755)));
    made.map_err(HarnessError::at("copy", &program))?;
    let reference = arena.name(column, "layerless");
    let mut image = arena.busybox(column, &reference)?;
    image.layers.clear();
    arena.import(&image)?;
    let id = arena.bench.daemon.id(&format!("layerless-{}", arena.next()));
    let mut arguments = arena.request(column, &[]);
    arguments.extend([
        "--rm".to_owned(),
        reference,
        id.clone(),
        format!("/data/{name}"),
        "dropped".to_owned(),
    ]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = arena.bench.daemon.ctr(&arguments)?;
    if !output.ok() {
        arena.forget(&id)?;
    }
    Ok(Outcome::judged(output.stdout.contains("dropped program ran"), "ran in a root of no layer", &output))
}
