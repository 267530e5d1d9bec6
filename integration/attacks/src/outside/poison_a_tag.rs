//! Other contents under a name that policy trusts: an import, a pull by another tenant, a moved tag.
//!
//! Source: CVE-2026-50195.

use bulkhead_integration::{EVIL, Entry, Layer, Result};

use crate::{
    arena::Arena,
    column::{Column, Phase},
    image,
    technique::{Outcome, Outside},
};

pub(crate) const THIS: Outside = Outside {
    source: "CVE-2026-50195",
    tries: "import other contents under an allowed name, and run it",
    phases: &[Phase::Init],
    attempt,
};

fn attempt(arena: &Arena, column: Column, _: Phase) -> Result<Outcome> {
    let name = arena.name(column, "poisoned");
    arena.import(&arena.busybox(column, &name)?)?;
    let evil = Layer::of(&[Entry::Dir("etc", 0o755), Entry::File("etc/evil", 0o644, EVIL.as_bytes())])?;
    arena.import_unallowed(&arena.busybox(column, &name)?.with(evil))?;
    let output = image::run_by_name(arena, column, &name, &["/bin/cat", "/etc/evil"])?;
    Ok(Outcome::judged(output.stdout == EVIL, "contents that nobody allowed ran", &output))
}
