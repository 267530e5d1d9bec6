//! Maps a file of /tmp as code: what dlopen does with a library that was dropped.
//!
//! Source: mmap(2) PROT_EXEC.

use crate::{Stop, Technique, attempt, sys::call};
use std::os::fd::AsRawFd as _;

pub(crate) const THIS: Technique = Technique {
    source: "ATT&CK T1574.006",
    tries: "mmap a file of /tmp as executable",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    attempt::drop_copy("/tmp/library")?;
    let file = std::fs::File::open("/tmp/library").map_err(Stop::at("/tmp/library"))?;
    let (access, fd) = (i64::from(libc::PROT_READ | libc::PROT_EXEC), i64::from(file.as_raw_fd()));
    call("mmap", libc::SYS_mmap, [0, 4096, access, i64::from(libc::MAP_PRIVATE), fd, 0])?;
    Ok("code of /tmp is mapped".to_owned())
}
