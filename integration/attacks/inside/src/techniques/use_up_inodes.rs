//! Uses up the node's inodes by empty files.
//!
//! Source: ATT&CK T1499.

use crate::{Stop, Technique};

pub(crate) const THIS: Technique =
    Technique { source: "ATT&CK T1499", tries: "make 30,000 files in /tmp", attempt, alone: true };

fn attempt() -> Result<String, Stop> {
    std::fs::create_dir("/tmp/many").map_err(Stop::at("mkdir /tmp/many"))?;
    let failed = (0..30_000).find_map(|number| {
        std::fs::File::create(format!("/tmp/many/{number}")).err().map(|error| (number, error))
    });
    match failed {
        None => Ok("30,000 files in /tmp".to_owned()),
        Some((number, error)) => Err(Stop::at(&format!("file {number}"))(error)),
    }
}
