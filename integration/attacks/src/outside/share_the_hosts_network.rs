//! The node's network: its loopback services, abstract sockets and sniffing.
//!
//! Source: Pod Security baseline.

use bulkhead_integration::Result;

use crate::{
    arena::Arena,
    column::{Column, Phase},
    image::reason,
    technique::{Outcome, Outside},
};

pub(crate) const THIS: Outside = Outside {
    source: "Pod Security",
    tries: "share the node's net namespace",
    phases: &[Phase::Init],
    attempt,
};

fn attempt(arena: &Arena, column: Column, phase: Phase) -> Result<Outcome> {
    let host = std::fs::read_link("/proc/self/ns/net").unwrap_or_default();
    let output = arena.run_with(column, phase, &["--net-host"], &["/bin/readlink", "/proc/self/ns/net"])?;
    Ok(if output.stdout.trim() == host.to_string_lossy() {
        Outcome::Succeeded(format!("in {}", host.display()))
    } else {
        Outcome::Stopped(reason(&output))
    })
}
