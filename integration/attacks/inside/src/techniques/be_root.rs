//! uid 0: what the kernel checks before most of what it should not.
//!
//! Source: user_namespaces(7), Pod Security restricted.

use crate::{Stop, Technique};
use std::os::unix::fs::MetadataExt as _;

pub(crate) const THIS: Technique = Technique {
    source: "Pod Security",
    tries: "be uid 0 outside of a user namespace",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    let map = std::fs::read_to_string("/proc/self/uid_map").map_err(Stop::at("/proc/self/uid_map"))?;
    let user = std::fs::metadata("/proc/self").map_err(Stop::at("/proc/self"))?.uid();
    let outside = map.split_whitespace().nth(1).unwrap_or_default().to_owned();
    match (user, outside.as_str()) {
        (0, "0") => Ok("uid 0 of the host".to_owned()),
        _ => Err(Stop::because(format!("uid {user}"))),
    }
}
