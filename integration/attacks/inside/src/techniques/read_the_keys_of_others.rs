//! Keys of every user of the host.
//!
//! Source: proc(5) keys.

use crate::{Stop, Technique};
use std::io::Read as _;

pub(crate) const THIS: Technique =
    Technique { source: "proc(5), CVE-2016-0728", tries: "read /proc/keys", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    let path = "/proc/keys";
    let mut byte = [0; 1];
    let count =
        std::fs::File::open(path).and_then(|mut file| file.read(&mut byte)).map_err(Stop::at(path))?;
    if count == 1 { Ok(format!("{path} was read")) } else { Err(Stop::because(format!("{path} is empty"))) }
}
