//! Kernel parameters of the container's namespaces, which its first process is in.
//!
//! Invariant: written in a `/proc` that was made for this and is mounted nowhere: no mount of the container's, and none of the
//! node's, can be in the way of a name.

use std::{collections::HashMap, fs::File, io::Write as _, os::fd::AsFd as _, path::Path};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use crate::{
    LaunchError,
    rootfs::{MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID},
    sys::{self, FsParameter},
};

/// Sets them; each name is a path below /proc/sys with dots.
pub(super) fn set(parameters: Option<&HashMap<String, String>>) -> Result<(), LaunchError> {
    let Some(parameters) = parameters.filter(|parameters| !parameters.is_empty()) else { return Ok(()) };
    let context = sys::fsopen(c"proc").map_err(LaunchError::io("fsopen(2)", "proc"))?;
    sys::fsconfig(context.as_fd(), &FsParameter::Create).map_err(LaunchError::io("fsconfig(2)", "proc"))?;
    let attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    let proc = sys::fsmount(context.as_fd(), attributes).map_err(LaunchError::io("fsmount(2)", "proc"))?;
    for (name, value) in parameters {
        let path = Path::new("sys").join(name.replace('.', "/"));
        let resolve =
            ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV;
        let how = OpenHow::new().flags(OFlag::O_WRONLY | OFlag::O_CLOEXEC).resolve(resolve);
        let file =
            openat2(&proc, &path, how).map_err(LaunchError::io("openat2(2)", format!("sysctl {name}")))?;
        // One write: the kernel takes what comes with the first.
        let written = File::from(file).write(value.as_bytes());
        match written.map_err(LaunchError::io("write(2)", format!("sysctl {name}")))? {
            length if length == value.len() => {}
            _ => return Err(LaunchError::Failed(format!("write(2) sysctl {name}: not all of it was taken"))),
        }
    }
    Ok(())
}
