//! io_uring: system calls that seccomp does not see.
//!
//! Source: CVE-2022-29582, CVE-2023-2598; Google's kCTF figures of 2023.

use crate::{Stop, Technique, sys::call};

pub(crate) const THIS: Technique =
    Technique { source: "CVE-2023-2598", tries: "io_uring_setup", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    let mut parameters = [0u64; 15];
    call("io_uring_setup", libc::SYS_io_uring_setup, [4, parameters.as_mut_ptr() as i64, 0, 0, 0, 0])?;
    Ok("a ring".to_owned())
}
