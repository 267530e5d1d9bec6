//! Writes to sysfs act on the host's devices.
//!
//! Source: sysfs(5).

use crate::{Stop, Technique, sys};

pub(crate) const THIS: Technique =
    Technique { source: "sysfs(5)", tries: "open a uevent file of /sys for writing", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    // Only opened: what would be written there acts on the host.
    let path = "/sys/devices/system/cpu/cpu0/uevent";
    sys::open_for_writing(path)?;
    Ok(format!("{path} open for writing"))
}
