//! The container's own control groups, as a view that its spec may mount: read-only where it is hardened.

use std::{
    ffi::CString,
    fs,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::symlink},
    },
    path::{Path, PathBuf},
};

use bulkhead_cgroup::{Cgroup, Version};
use bulkhead_model::ConfineSpec;
use nix::mount::{MsFlags, mount};
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};
use serde::{Deserialize, Serialize};

use crate::{LaunchError, rootfs, sys};

const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// Where the worker puts the container's own control groups: a spec that shall show them mounts this path
/// (`rbind`, `ro`) at /sys/fs/cgroup. It exists only while the container is created, and only if asked for.
#[must_use]
pub fn cgroup_view(task_dir: &Path) -> PathBuf {
    task_dir.join("cgroup")
}

/// How the view is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct View {
    /// Whether the container may make groups below its own. No plan of a hardened container says so.
    writable: bool,
    /// Whether it is the node's whole tree, on v2: a container in the node's cgroup namespace sees that.
    whole: bool,
}

/// The view that the spec mounts, if it does.
pub(crate) fn is_asked_for(spec: &Spec, task_dir: &Path, confine: &ConfineSpec) -> Option<View> {
    let view = cgroup_view(task_dir);
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let mount = mounts.iter().find(|mount| mount.source().as_ref() == Some(&view))?;
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref());
    let own = |namespace: &LinuxNamespace| namespace.typ() == LinuxNamespaceType::Cgroup;
    Some(match confine {
        ConfineSpec::Hardened(_) => View { writable: false, whole: false },
        ConfineSpec::Compatible(_) => View {
            writable: !mount.options().iter().flatten().any(|option| option == "ro"),
            whole: !namespaces.unwrap_or_default().iter().any(own),
        },
    })
}

/// Lays out the view: one directory for each hierarchy on v1, with a link for each controller; the group itself
/// on v2. In the worker's mount namespace.
pub(crate) fn show(cgroup: &Cgroup, how: View, task_dir: &Path) -> Result<(), LaunchError> {
    let view = cgroup_view(task_dir);
    if cgroup.version() == Version::V2 {
        for (_, source) in cgroup.dirs() {
            let source = if how.whole { Path::new(CGROUP_ROOT) } else { source };
            move_to(&clone_of(source, how)?, &view)?;
        }
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), &view, Some("tmpfs"), flags, Some("mode=0755,size=64k,nr_inodes=64"))
        .map_err(LaunchError::io("mount(2)", view.display().to_string()))?;
    for (names, source) in cgroup.dirs() {
        let target = view.join(names);
        fs::create_dir(&target).map_err(LaunchError::io("mkdir(2)", target.display().to_string()))?;
        move_to(&clone_of(source, how)?, &target)?;
        for link in names.split(',').filter(|_| names.contains(',')).map(|link| view.join(link)) {
            symlink(names, &link).map_err(LaunchError::io("symlink(2)", link.display().to_string()))?;
        }
    }
    Ok(())
}

/// A detached copy of the mount of one directory.
fn clone_of(source: &Path, how: View) -> Result<OwnedFd, LaunchError> {
    let shown = || source.display().to_string();
    let tree = sys::open_tree_clone(&c_path(source)?).map_err(LaunchError::io("open_tree(2)", shown()))?;
    // A read-only recursive bind makes its top read-only, not what is mounted below.
    let read_only = if how.writable { 0 } else { rootfs::MOUNT_ATTR_RDONLY };
    let attributes =
        read_only | rootfs::MOUNT_ATTR_NOSUID | rootfs::MOUNT_ATTR_NODEV | rootfs::MOUNT_ATTR_NOEXEC;
    sys::set_mount_attributes(tree.as_fd(), attributes)
        .map_err(LaunchError::io("mount_setattr(2)", shown()))?;
    Ok(tree)
}

fn move_to(tree: &OwnedFd, target: &Path) -> Result<(), LaunchError> {
    sys::move_mount(tree.as_fd(), &c_path(target)?)
        .map_err(LaunchError::io("move_mount(2)", target.display().to_string()))
}

pub(crate) fn c_path(path: &Path) -> Result<CString, LaunchError> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| LaunchError::Plan("a path holds a zero byte"))
}
