//! The x32 entry: the same instruction, numbers with bit 30 set, and filters that forget them.
//!
//! Source: seccomp(2) on __X32_SYSCALL_BIT.

use crate::{Stop, Technique, sys};

pub(crate) const THIS: Technique =
    Technique { source: "seccomp(2)", tries: "getpid with __X32_SYSCALL_BIT", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    match sys::raw(0x4000_0000 + libc::SYS_getpid, [0; 6]) {
        Ok(pid) => Ok(format!("getpid by x32 said {pid}")),
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Err(Stop::absent("x32", &error)),
        Err(error) => Err(Stop::at("x32")(error)),
    }
}
