//! Abstract sockets live in the network namespace: with the node's, a runtime's own are in reach.
//!
//! Source: CVE-2020-15257.

use std::os::{
    linux::net::SocketAddrExt as _,
    unix::net::{SocketAddr, UnixListener},
};

use bulkhead_integration::{HarnessError, Result};

use crate::{
    arena::Arena,
    column::{Column, Phase},
    technique::{Outcome, Outside},
};

pub(crate) const THIS: Outside = Outside {
    source: "CVE-2020-15257",
    tries: "connect to an abstract socket of the node",
    phases: &[Phase::Init],
    attempt,
};

fn attempt(arena: &Arena, column: Column, phase: Phase) -> Result<Outcome> {
    let name = format!("bulkhead-attack-{}-{}", std::process::id(), arena.next());
    let address = SocketAddr::from_abstract_name(&name);
    let listener = address.and_then(|address| UnixListener::bind_addr(&address));
    let _listener = listener.map_err(HarnessError::at("bind", &name))?;
    let target = format!("@{name}");
    let output = arena.run_with(column, phase, &["--net-host"], &["/bin/attacker", "connect", &target])?;
    Ok(Outcome::judged(output.stdout.starts_with("connected"), format!("connected to {target}"), &output))
}
