//! Fills the node's disk by /tmp.
//!
//! Source: ATT&CK T1499.

use crate::{Stop, Technique};
use std::io::Write as _;

pub(crate) const THIS: Technique =
    Technique { source: "ATT&CK T1499", tries: "write 600 MiB to /tmp", attempt, alone: true };

fn attempt() -> Result<String, Stop> {
    let mut file = std::fs::File::create("/tmp/full").map_err(Stop::at("/tmp/full"))?;
    let block = vec![1u8; 1 << 20];
    let written = (0..600).map(|_| file.write_all(&block)).find_map(Result::err);
    let length = file.metadata().map_or(0, |data| data.len() >> 20);
    std::fs::remove_file("/tmp/full").map_err(Stop::at("unlink"))?;
    match written {
        None => Ok("600 MiB in /tmp".to_owned()),
        Some(error) => Err(Stop::at(&format!("write after {length} MiB"))(error)),
    }
}
