//! userfaultfd: stops the kernel in the middle of a copy, for as long as a race needs.
//!
//! Source: CVE-2016-2384 and many after; vm.unprivileged_userfaultfd.

use crate::{Stop, Technique, sys::call};

pub(crate) const THIS: Technique =
    Technique { source: "userfaultfd(2)", tries: "userfaultfd", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    call("userfaultfd", libc::SYS_userfaultfd, [i64::from(libc::O_CLOEXEC), 0, 0, 0, 0, 0])?;
    Ok("a userfaultfd of kernel faults".to_owned())
}
