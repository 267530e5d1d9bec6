//! Reads where the kernel has its functions: what an exploit needs first.
//!
//! Source: proc(5) kallsyms; linpeas.

use std::io::{BufRead as _, BufReader};

use crate::{Stop, Technique};

pub(crate) const THIS: Technique =
    Technique { source: "proc(5)", tries: "read addresses from /proc/kallsyms", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    let path = "/proc/kallsyms";
    let file = std::fs::File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Stop::absent(path, &error),
        _ => Stop::at(path)(error),
    })?;
    for line in BufReader::new(file).lines() {
        let line = line.map_err(Stop::at(path))?;
        // Those of this processor's own variables begin at zero.
        let address = line.split(' ').next().unwrap_or_default();
        if address.starts_with("ffff") {
            return Ok("addresses of the kernel's functions".to_owned());
        }
    }
    Err(Stop::because("every address reads as zero"))
}
