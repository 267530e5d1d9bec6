//! A 32-bit system call from a 64-bit program: other numbers, other code, and filters that forget them.
//!
//! Source: seccomp(2) on audit_arch; CVE-2009-0835.

use crate::{Stop, Technique, sys};

pub(crate) const THIS: Technique =
    Technique { source: "CVE-2009-0835", tries: "int 0x80", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    // getpid in arch/x86/entry/syscalls/syscall_32.tbl.
    match sys::int80(20) {
        pid if pid > 0 => Ok(format!("getpid by int 0x80 said {pid}")),
        errno => Err(Stop::at("int 0x80")(std::io::Error::from_raw_os_error(-errno))),
    }
}
