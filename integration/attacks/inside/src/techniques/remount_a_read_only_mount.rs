//! Makes a read-only mount writable again.
//!
//! Source: mount(2) MS_REMOUNT.

use crate::{Stop, Technique, sys::call};

pub(crate) const THIS: Technique =
    Technique { source: "mount(2)", tries: "remount /proc/sys or the root writable", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    let flags = (libc::MS_REMOUNT | libc::MS_BIND) as i64;
    let remounted =
        call("mount /proc/sys", libc::SYS_mount, [0, c"/proc/sys".as_ptr() as i64, 0, flags, 0, 0]);
    remounted.or_else(|_| call("mount /", libc::SYS_mount, [0, c"/".as_ptr() as i64, 0, flags, 0, 0]))?;
    Ok("remounted writable".to_owned())
}
