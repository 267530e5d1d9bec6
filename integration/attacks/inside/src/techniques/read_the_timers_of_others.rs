//! Programs of other tenants, by name.
//!
//! Source: moby#35399 (timer_list).

use crate::{Stop, Technique};
use std::io::Read as _;

pub(crate) const THIS: Technique =
    Technique { source: "moby#35399", tries: "read /proc/timer_list", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    let path = "/proc/timer_list";
    let mut byte = [0; 1];
    let count =
        std::fs::File::open(path).and_then(|mut file| file.read(&mut byte)).map_err(Stop::at(path))?;
    if count == 1 { Ok(format!("{path} was read")) } else { Err(Stop::because(format!("{path} is empty"))) }
}
