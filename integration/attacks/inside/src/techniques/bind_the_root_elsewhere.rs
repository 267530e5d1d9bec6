//! Mounts the root once more over itself and moves it: the first step of many escapes with CAP_SYS_ADMIN.
//!
//! Source: pivot_root(2).

use crate::{Stop, Technique, sys::call};

pub(crate) const THIS: Technique =
    Technique { source: "mount(2) MS_MOVE", tries: "bind the root elsewhere", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    std::fs::create_dir_all("/tmp/root").map_err(Stop::at("mkdir /tmp/root"))?;
    let (from, to) = (c"/".as_ptr() as i64, c"/tmp/root".as_ptr() as i64);
    call("mount", libc::SYS_mount, [from, to, 0, (libc::MS_BIND | libc::MS_REC) as i64, 0, 0])?;
    Ok("root bound on /tmp/root".to_owned())
}
