//! The page cache reached through a pipe: what Dirty Pipe wrote to.
//!
//! Source: CVE-2022-0847.

use crate::{Stop, Technique, sys::call};
use std::os::fd::AsRawFd as _;

pub(crate) const THIS: Technique = Technique {
    source: "CVE-2022-0847",
    tries: "splice a page of a read-only file into a pipe, then write over it",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    let file = std::fs::File::open("/bin/attacker").map_err(Stop::at("/bin/attacker"))?;
    let (_read, write) = std::io::pipe().map_err(Stop::at("pipe"))?;
    let (file, pipe) = (i64::from(file.as_raw_fd()), i64::from(write.as_raw_fd()));
    call("splice", libc::SYS_splice, [file, 0, pipe, 0, 1, 0])?;
    Ok("a page of the page cache is in a pipe".to_owned())
}
