//! Writes to its own cgroup: limits that the contained can lift are none.
//!
//! Source: cgroups(7).

use crate::{Stop, Technique, sys::call};
use std::{fs::OpenOptions, io::ErrorKind, path::Path};

pub(crate) const THIS: Technique = Technique {
    source: "cgroups(7)",
    tries: "open its own pids or memory limit for writing",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    // Where none is mounted, one can be by who may.
    if !Path::new("/sys/fs/cgroup/pids").exists() && !Path::new("/sys/fs/cgroup/cgroup.procs").exists() {
        std::fs::create_dir_all("/tmp/limits").map_err(Stop::at("mkdir /tmp/limits"))?;
        let (kind, at) = (c"cgroup".as_ptr() as i64, c"/tmp/limits".as_ptr() as i64);
        call("mount cgroup", libc::SYS_mount, [kind, at, kind, 0, c"pids".as_ptr() as i64, 0])?;
    }
    let mut stopped = Stop::because("no cgroup file is there");
    for path in [
        "/tmp/limits/cgroup.procs",
        "/sys/fs/cgroup/pids/pids.max",
        "/sys/fs/cgroup/pids/cgroup.procs",
        "/sys/fs/cgroup/pids.max",
        "/sys/fs/cgroup/cgroup.procs",
    ] {
        match OpenOptions::new().write(true).open(path) {
            Ok(_) => return Ok(format!("{path} open for writing")),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => stopped = Stop::at(path)(error),
        }
    }
    Err(stopped)
}
