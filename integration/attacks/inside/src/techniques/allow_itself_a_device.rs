//! Mounts the hierarchy of device groups and lifts what keeps the node's disks away.
//!
//! Source: CDK, rewrite-cgroup-devices.

use crate::{Stop, Technique, sys, sys::call};

pub(crate) const THIS: Technique = Technique {
    source: "CDK rewrite-cgroup-devices",
    tries: "mount the devices hierarchy and open devices.allow for writing",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    std::fs::create_dir_all("/tmp/devices").map_err(Stop::at("mkdir /tmp/devices"))?;
    let (kind, at) = (c"cgroup".as_ptr() as i64, c"/tmp/devices".as_ptr() as i64);
    call("mount cgroup", libc::SYS_mount, [kind, at, kind, 0, c"devices".as_ptr() as i64, 0])?;
    // Only opened: what is written there counts on the node.
    let path = "/tmp/devices/devices.allow";
    sys::open_for_writing(path)?;
    Ok("devices.allow open for writing".to_owned())
}
