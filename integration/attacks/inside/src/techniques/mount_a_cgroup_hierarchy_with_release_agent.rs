//! A cgroup v1 hierarchy whose release_agent the kernel runs as root, on the host.
//!
//! Source: CVE-2022-0492, Felix Wilhelm 2019.

use crate::{Stop, Technique, sys::call};

pub(crate) const THIS: Technique = Technique {
    source: "CVE-2022-0492",
    tries: "mount a cgroup v1 hierarchy and open its release_agent for writing",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    std::fs::create_dir_all("/tmp/cgroup").map_err(Stop::at("mkdir /tmp/cgroup"))?;
    let (kind, at) = (c"cgroup".as_ptr() as i64, c"/tmp/cgroup".as_ptr() as i64);
    let mount = |options: &std::ffi::CStr| {
        call("mount cgroup", libc::SYS_mount, [kind, at, kind, 0, options.as_ptr() as i64, 0])
    };
    mount(c"memory").or_else(|_| mount(c"pids")).or_else(|_| mount(c"rdma"))?;
    // The agent is only opened: written, it would run on the host.
    let root = "/tmp/cgroup/release_agent";
    std::fs::OpenOptions::new().write(true).open(root).map_err(Stop::at(root))?;
    Ok("release_agent open for writing".to_owned())
}
