//! A device node, of whatever kind.
//!
//! Source: mknod(2).

use crate::{Stop, Technique, sys::call};

pub(crate) const THIS: Technique = Technique { source: "mknod(2)", tries: "mknod", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    let (path, mode) = (c"/dev/attacker".as_ptr() as i64, i64::from(libc::S_IFCHR | 0o666));
    call("mknod", libc::SYS_mknodat, [i64::from(libc::AT_FDCWD), path, mode, 0x103, 0, 0])?;
    Ok("a device node in /tmp".to_owned())
}
