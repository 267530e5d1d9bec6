//! The kernel runs what core_pattern names, as root, on the host, when anything crashes.
//!
//! Source: core(5); ATT&CK T1611.

use crate::{Stop, Technique, sys};

pub(crate) const THIS: Technique = Technique {
    source: "core(5), ATT&CK T1611",
    tries: "open /proc/sys/kernel/core_pattern for writing",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    // Only opened: what would be written there acts on the host.
    let path = "/proc/sys/kernel/core_pattern";
    sys::open_for_writing(path)?;
    Ok(format!("{path} open for writing"))
}
