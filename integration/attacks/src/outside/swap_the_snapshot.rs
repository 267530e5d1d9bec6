//! Another image's files under the container's snapshot key, between create and start.
//!
//! Source: FACTS §2: tasks.Create.rootfs and snapshots are the client's words.

use bulkhead_integration::{EVIL, Entry, Layer, Result};

use crate::{
    arena::Arena,
    column::{Column, Phase},
    technique::{Outcome, Outside},
};

pub(crate) const THIS: Outside = Outside {
    source: "containerd snapshots API",
    tries: "replace a container's snapshot by another image's",
    phases: &[Phase::Init],
    attempt,
};

fn attempt(arena: &Arena, column: Column, _: Phase) -> Result<Outcome> {
    let name = arena.name(column, "swapped");
    let evil = Layer::of(&[Entry::Dir("etc", 0o755), Entry::File("etc/evil", 0o644, EVIL.as_bytes())])?;
    arena.import(&arena.busybox(column, &name)?)?;
    let other = format!("registry.test/team-b/other-{}:1", arena.next());
    let digests = arena.import_unallowed(&arena.busybox(column, &other)?.with(evil))?;
    let id = arena.create(column, &name, &["/bin/cat", "/etc/evil"])?;
    let tasks = arena.bench.daemon.tasks()?;
    tasks.remove_snapshot(&id)?;
    tasks.prepare(&id, &digests.chain_id())?;
    let output = arena.bench.start_container(&id)?;
    arena.forget(&id)?;
    Ok(Outcome::judged(output.stdout == EVIL, "contents of another image ran", &output))
}
