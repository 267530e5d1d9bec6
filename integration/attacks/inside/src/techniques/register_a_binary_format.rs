//! binfmt_misc has the host's kernel run an interpreter of the container's choosing.
//!
//! Source: binfmt_misc.rst; ATT&CK T1611.

use crate::{Stop, Technique, sys::call};

pub(crate) const THIS: Technique = Technique {
    source: "binfmt_misc",
    tries: "mount binfmt_misc and open register for writing",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    std::fs::create_dir_all("/tmp/formats").map_err(Stop::at("mkdir /tmp/formats"))?;
    let (kind, at) = (c"binfmt_misc".as_ptr() as i64, c"/tmp/formats".as_ptr() as i64);
    call("mount binfmt_misc", libc::SYS_mount, [kind, at, kind, 0, 0, 0])?;
    let path = "/tmp/formats/register";
    std::fs::OpenOptions::new().write(true).open(path).map_err(Stop::at(path))?;
    Ok("register open for writing".to_owned())
}
