//! memfd_create and fexecve: a program that no file system ever held goes round noexec and Landlock alike.
//!
//! Source: memfd_create(2), ATT&CK T1620.

use crate::{
    Stop, Technique, attempt,
    sys::{self, call},
};
use std::{io::Write as _, os::fd::AsRawFd as _, process::Command};

pub(crate) const THIS: Technique =
    Technique { source: "ATT&CK T1620", tries: "execute a memfd", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    let fd = call("memfd_create", libc::SYS_memfd_create, [c"m".as_ptr() as i64, 0, 0, 0, 0, 0])?;
    let mut file = sys::owned(fd);
    file.write_all(&attempt::own_bytes()?).map_err(Stop::at("write"))?;
    attempt::ran(&mut Command::new(format!("/proc/self/fd/{}", file.as_raw_fd())))
}
