//! The kernel runs what uevent_helper names, as root, on the host.
//!
//! Source: ATT&CK T1611.

use crate::{Stop, Technique, sys};

pub(crate) const THIS: Technique = Technique {
    source: "ATT&CK T1611",
    tries: "open /sys/kernel/uevent_helper for writing",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    // Only opened: what would be written there acts on the host.
    let path = "/sys/kernel/uevent_helper";
    sys::open_for_writing(path)?;
    Ok(format!("{path} open for writing"))
}
