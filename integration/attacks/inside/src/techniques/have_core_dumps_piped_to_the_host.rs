//! A crash starts the host's dump handler with bytes of the container's choosing; limit 1 keeps it off, 0 does not.
//!
//! Source: core(5) on RLIMIT_CORE, CVE-2022-1055's kin in apport.

use crate::{Stop, Technique, sys::call};

pub(crate) const THIS: Technique = Technique {
    source: "core(5), CVE-2025-5054",
    tries: "set RLIMIT_CORE to a value that lets a crash start the host's handler",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    let limits: [u64; 2] = [0, 0];
    // prlimit(0, RLIMIT_CORE, …)
    call("prlimit64", libc::SYS_prlimit64, [0, 4, limits.as_ptr() as i64, 0, 0, 0])?;
    let limits = std::fs::read_to_string("/proc/self/limits").map_err(Stop::at("/proc/self/limits"))?;
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap_or_default();
    match line.split_whitespace().nth(4) {
        Some("1") => Err(Stop::because("RLIMIT_CORE stays 1")),
        value => Ok(format!("RLIMIT_CORE is {}", value.unwrap_or("unknown"))),
    }
}
