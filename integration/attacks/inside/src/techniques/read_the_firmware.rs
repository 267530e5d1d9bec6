//! Reads the tables of the machine's firmware.
//!
//! Source: moby's masked path /sys/firmware.

use crate::{Stop, Technique};

pub(crate) const THIS: Technique =
    Technique { source: "moby#37404", tries: "list /sys/firmware", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    let path = "/sys/firmware";
    let count = std::fs::read_dir(path).map_err(Stop::at(path))?.count();
    if count > 0 {
        Ok(format!("{path} has {count} entries"))
    } else {
        Err(Stop::because(format!("{path} is empty")))
    }
}
