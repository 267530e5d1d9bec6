//! Mounts the kernel's file system for debugging: tracing, and knobs of every driver.
//!
//! Source: deepce, linpeas: sensitive mounts.

use crate::{Stop, Technique, sys::call};

pub(crate) const THIS: Technique =
    Technique { source: "ATT&CK T1611", tries: "mount debugfs and list it", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    std::fs::create_dir_all("/tmp/debug").map_err(Stop::at("mkdir /tmp/debug"))?;
    let (kind, at) = (c"debugfs".as_ptr() as i64, c"/tmp/debug".as_ptr() as i64);
    call("mount debugfs", libc::SYS_mount, [kind, at, kind, 0, 0, 0])?;
    let count = std::fs::read_dir("/tmp/debug").map_err(Stop::at("/tmp/debug"))?.count();
    Ok(format!("debugfs with {count} entries"))
}
