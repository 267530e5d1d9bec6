//! containerd's socket in the container: whoever reaches it owns the node.
//!
//! Source: ATT&CK T1610; docker.sock.

use bulkhead_integration::Result;

use crate::{
    arena::Arena,
    column::{Column, Phase},
    technique::{Outcome, Outside},
};

pub(crate) const THIS: Outside = Outside {
    source: "ATT&CK T1610",
    tries: "bind containerd's socket and connect to it",
    phases: &[Phase::Init],
    attempt,
};

fn attempt(arena: &Arena, column: Column, phase: Phase) -> Result<Outcome> {
    let socket = arena.bench.daemon.socket();
    let mount = format!("type=bind,src={},dst=/run/c.sock,options=bind:rw", socket.display());
    let output =
        arena.run_with(column, phase, &["--mount", &mount], &["/bin/attacker", "connect", "/run/c.sock"])?;
    Ok(Outcome::judged(output.stdout.starts_with("connected"), "connected to containerd", &output))
}
