//! Writes into another process by /proc/PID/mem, which no system call filter sees as such.
//!
//! Source: proc(5); ATT&CK T1055.009.

use crate::{Stop, Technique, sys};

pub(crate) const THIS: Technique = Technique {
    source: "ATT&CK T1055.009",
    tries: "open /proc/PID/mem of a sibling for writing",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    let victim = sys::sleeper().map_err(Stop::at("fork"))?;
    let path = format!("/proc/{victim}/mem");
    let opened = std::fs::OpenOptions::new().write(true).open(&path);
    sys::kill_group(victim);
    opened.map_err(Stop::at("/proc/PID/mem"))?;
    Ok(format!("{path} open for writing"))
}
