//! Reboots the host with one character.
//!
//! Source: proc(5) sysrq-trigger.

use crate::{Stop, Technique, sys};

pub(crate) const THIS: Technique =
    Technique { source: "proc(5)", tries: "open /proc/sysrq-trigger for writing", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    // Only opened: what would be written there acts on the host.
    let path = "/proc/sysrq-trigger";
    sys::open_for_writing(path)?;
    Ok(format!("{path} open for writing"))
}
