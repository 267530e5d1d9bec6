//! The kernel runs what modprobe names, as root, on the host.
//!
//! Source: modprobe_path; ATT&CK T1611.

use crate::{Stop, Technique, sys};

pub(crate) const THIS: Technique = Technique {
    source: "ATT&CK T1611",
    tries: "open /proc/sys/kernel/modprobe for writing",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    // Only opened: what would be written there acts on the host.
    let path = "/proc/sys/kernel/modprobe";
    sys::open_for_writing(path)?;
    Ok(format!("{path} open for writing"))
}
