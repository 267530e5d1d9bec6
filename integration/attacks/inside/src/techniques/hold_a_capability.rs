//! Capabilities that the image never asked for.
//!
//! Source: capabilities(7).

use crate::{Stop, Technique};

pub(crate) const THIS: Technique = Technique {
    source: "capabilities(7)",
    tries: "hold any capability, or be able to gain one",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(Stop::at("/proc/self/status"))?;
    let set = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
    };
    let (effective, bounding) = (set("CapEff:"), set("CapBnd:"));
    if effective.bytes().chain(bounding.bytes()).any(|digit| digit != b'0') {
        Ok(format!("CapEff {effective}, CapBnd {bounding}"))
    } else {
        Err(Stop::because("CapEff and CapBnd are 0"))
    }
}
