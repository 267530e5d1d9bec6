//! Changes a file of the image: what a second stage hides in.
//!
//! Source: ATT&CK T1554.

use crate::{Stop, Technique};

pub(crate) const THIS: Technique =
    Technique { source: "ATT&CK T1554", tries: "write to /etc of the image", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    std::fs::write("/etc/attacker", "x").map_err(Stop::at("/etc/attacker"))?;
    Ok("/etc/attacker written".to_owned())
}
