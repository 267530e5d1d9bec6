//! A process that the node brings into a container is the runtime's until its execve: whoever reaches into it meanwhile has
//! its memory, its descriptors and the node's directories behind them.
//!
//! Source: CVE-2016-9962.

use bulkhead_integration::Result;

use crate::{
    arena::Arena,
    column::{Column, Phase},
    technique::{Outcome, Outside, reason},
};

pub(crate) const THIS: Outside = Outside {
    source: "CVE-2016-9962",
    tries: "reach into the memory, descriptors and root of a process that the node execs, before its execve",
    // Somebody has to be there already, to look at it.
    phases: &[Phase::Exec],
    attempt,
};

/// A process that is on its way for milliseconds is looked for again; where alone it is known to be reached, more often: a
/// busy machine may let nobody look at the right moment.
fn times(column: Column) -> u32 {
    if column == Column::RuncPrivileged { 30 } else { 6 }
}

fn attempt(arena: &Arena, column: Column, _: Phase) -> Result<Outcome> {
    let id = arena.start_task_of(column, "await-exec")?;
    let exec = |command: &[&str]| {
        let name = format!("e{}", arena.next());
        arena.bench.daemon.ctr(&[&["task", "exec", "--exec-id", &name, &id], command].concat())
    };
    for _ in 0..times(column) {
        exec(&["/bin/attacker", "whoami"])?;
    }
    let said = exec(&["/bin/attacker", "exec-caught"])?;
    arena.bench.remove(&id)?;
    Ok(match said.stdout.trim().split_at_checked(1) {
        Some(("+", evidence)) => Outcome::Succeeded(evidence.to_owned()),
        Some(("-", by)) => Outcome::Stopped(by.to_owned()),
        _ => Outcome::Stopped(reason(&said)),
    })
}
