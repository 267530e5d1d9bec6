//! A node of a device that was never given to the container.
//!
//! Source: mknod(2), devices in cgroups(7); ATT&CK T1611.

use crate::{Stop, Technique, sys::call};

pub(crate) const THIS: Technique = Technique {
    source: "ATT&CK T1611",
    tries: "mknod the host's /dev/kmsg and open it",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    // Character device 1:11, which runtimes give to nobody; /dev is mounted without nodev.
    let (path, mode) = (c"/dev/attacked".as_ptr() as i64, i64::from(libc::S_IFCHR | 0o600));
    call("mknod", libc::SYS_mknodat, [i64::from(libc::AT_FDCWD), path, mode, 0x10b, 0, 0])?;
    std::fs::File::open("/dev/attacked").map_err(Stop::at("open /dev/kmsg"))?;
    Ok("the host's /dev/kmsg is open".to_owned())
}
