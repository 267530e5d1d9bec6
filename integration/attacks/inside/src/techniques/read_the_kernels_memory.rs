//! Physical memory of the host.
//!
//! Source: proc(5) kcore.

use crate::{Stop, Technique};
use std::io::Read as _;

pub(crate) const THIS: Technique =
    Technique { source: "proc(5)", tries: "read /proc/kcore", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    let path = "/proc/kcore";
    let mut byte = [0; 1];
    let count = std::fs::File::open(path).and_then(|mut file| file.read(&mut byte)).map_err(|error| {
        if error.kind() == std::io::ErrorKind::NotFound {
            Stop::absent(path, &error)
        } else {
            Stop::at(path)(error)
        }
    })?;
    if count == 1 { Ok(format!("{path} was read")) } else { Err(Stop::because(format!("{path} is empty"))) }
}
