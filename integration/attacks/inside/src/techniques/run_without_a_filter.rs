//! A process that no system call filter holds: what an exec gets from a runtime that filters init alone.
//!
//! Source: seccomp(2), proc(5) Seccomp.

use crate::{Stop, Technique};

pub(crate) const THIS: Technique =
    Technique { source: "seccomp(2)", tries: "have no seccomp filter", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(Stop::at("/proc/self/status"))?;
    match status.lines().find_map(|line| line.strip_prefix("Seccomp:")).map(str::trim) {
        Some("0") => Ok("Seccomp: 0".to_owned()),
        mode => Err(Stop::because(format!("Seccomp: {}", mode.unwrap_or("unknown")))),
    }
}
