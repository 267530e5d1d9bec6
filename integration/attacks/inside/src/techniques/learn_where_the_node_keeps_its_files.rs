//! Reads where on the node the container's root is: what exploits that make the node run something are told by it.
//!
//! Source: CDK and deepce read it from /proc/self/mounts.

use crate::{Stop, Technique};

pub(crate) const THIS: Technique = Technique {
    source: "CDK evaluate, deepce",
    tries: "read the node's path of the root from /proc/self/mountinfo",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    let path = "/proc/self/mountinfo";
    let table = std::fs::read_to_string(path).map_err(Stop::at(path))?;
    let words = table.split([' ', ',']);
    words
        .filter_map(|word| word.strip_prefix("lowerdir="))
        .map(|dirs| format!("a layer lies at {}", dirs.split(':').next().unwrap_or_default()))
        .next()
        .ok_or_else(|| Stop::because("no path of the node in it"))
}
