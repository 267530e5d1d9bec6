//! The same in /dev/shm, which hardened images forget.
//!
//! Source: ATT&CK T1105.

use crate::{Stop, Technique, attempt, sys::call};
use std::process::Command;

pub(crate) const THIS: Technique = Technique {
    source: "ATT&CK T1105",
    tries: "write a program to /dev/shm and run it",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    attempt::drop_copy("/dev/shm/dropped")?;
    if let Ok(ran) = attempt::ran(&mut Command::new("/dev/shm/dropped")) {
        return Ok(ran);
    }
    // containerd mounts it noexec: who may, remounts it.
    let flags = (libc::MS_REMOUNT | libc::MS_BIND) as i64;
    call("execve EACCES, then remount", libc::SYS_mount, [0, c"/dev/shm".as_ptr() as i64, 0, flags, 0, 0])?;
    attempt::ran(&mut Command::new("/dev/shm/dropped"))
}
